"""Calls between managers: the methods that another region may ask for, and their values on the way.

What comes over the wire is builtins; where a method takes or gives types, they are made again here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fedbus.broker.policies import TopicRule
from fedbus.broker.protocol import GroupOptions, Start
from fedbus.control.sla import Sla
from fedbus.control.trigger import Trigger
from fedbus.errors import FedbusError, InvalidEventError
from fedbus.schema.rows import Change, Snapshot

METHODS = ("bootstrap", "read", "query", "change", "schemas")

_CHANGED: dict[str, Any] = {"put_sla": Sla, "put_trigger": Trigger, "put_topic": TopicRule, "seek_group": Start}
_PARTS: dict[str, Any] = {"start": Start | None, "options": GroupOptions}


def arguments_of(method: str, arguments: list[Any]) -> list[Any]:
    """A method's arguments as the method takes them; raises a :class:`FedbusError` on what cannot be."""
    if method not in METHODS:
        raise FedbusError(f"{method} is no call between regions; these are: {', '.join(METHODS)}")
    try:
        return _read(method, arguments)
    except (msgspec.ValidationError, TypeError, KeyError) as error:
        raise InvalidEventError(f"{method} of another region cannot be read: {error}") from None


def _read(method: str, arguments: list[Any]) -> list[Any]:
    match method, arguments:
        case "change", [str(change), name, value] if change in _CHANGED:
            return [change, name, msgspec.convert(value, _CHANGED[change])]
        case "change", ["put_group", name, dict(value)]:
            parts = {part: msgspec.convert(value[part], kind) for part, kind in _PARTS.items() if part in value}
            return ["put_group", name, value | parts]
        case "schemas", ["commit", revision, change]:
            return ["commit", revision, msgspec.convert(change, Change)]
        case _:
            return arguments


def value_of(method: str, arguments: tuple[Any, ...], value: Any) -> Any:
    """An answer as the method gives it."""
    if method == "schemas" and arguments and arguments[0] == "load":
        return msgspec.convert(value, Snapshot)
    return value


class RelayedCalls:
    """What a manager answers to other regions: ``methods`` of its own, by name."""

    def __init__(self, methods: dict[str, Callable[..., Any]]) -> None:
        self._methods = methods

    def answer(self, method: str, arguments: list[Any]) -> Any:
        """Carry out what another region asks."""
        read = arguments_of(method, arguments)
        return self._methods[method](*read)
