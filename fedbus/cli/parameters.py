"""Types of command line parameters: what cannot be read is wrong usage (exit status 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

import click

from fedbus.errors import FedbusError
from fedbus.quantity import parse_duration_ms, parse_size_bytes
from fedbus.topic import check_filter, check_topic


class _Checked(click.ParamType[Any], ABC):
    """A value which a function of ours reads or refuses."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        try:
            return self.read(value)
        except FedbusError as error:
            self.fail(error.detail, param, ctx)

    @abstractmethod
    def read(self, value: Any) -> Any:
        """Read it, or raise a typed error."""


class Topic(_Checked):
    """A topic users may publish to."""

    name = "topic"

    def read(self, value: Any) -> Any:
        """A checked topic."""
        return check_topic(value)


class Filter(_Checked):
    """A topic filter."""

    name = "filter"

    def read(self, value: Any) -> Any:
        """A checked filter."""
        return check_filter(value)


class Start(_Checked):
    """Where a subscription starts."""

    name = "start"

    def read(self, value: Any) -> Any:
        """Its start."""
        from fedbus.client.start import parse_start

        return parse_start(value)


class StartText(Start):
    """The words for a start, once they are known to be some."""

    def read(self, value: Any) -> Any:
        """The same text."""
        super().read(value)
        return value


class Duration(click.ParamType[Any]):
    """``250ms``, ``30m``, ``1.5h``; the word ``none``, if there is one, is kept as it is."""

    name = "duration"

    def __init__(self, none: str | None = None) -> None:
        self._none = none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Milliseconds."""
        if isinstance(value, int) or value == self._none:
            return value
        try:
            return parse_duration_ms(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Size(click.ParamType[Any]):
    """``64KiB``, ``10GiB``, or ``none``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Bytes."""
        if isinstance(value, int) or value == "none":
            return value
        try:
            return parse_size_bytes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(click.ParamType[Any]):
    """A time with its zone, RFC 3339."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The same text, once it is known to be one."""
        try:
            zone = datetime.fromisoformat(value).tzinfo
        except ValueError:
            zone = None
        if zone is None:
            self.fail(f"{value!r} is no time with its zone, such as 2026-11-27T08:00:00Z", param, ctx)
        return value


class Attribute(click.ParamType[Any]):
    """``name=value``."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A pair."""
        name, equals, content = value.partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is not name=value", param, ctx)
        return name, content
