"""Triggers as they are written in a federation file, or in a file of their own for the simulator.

An event outside the bus that is known ahead comes in one window, in several, or again and again as cron says.
"""

from __future__ import annotations

import math
from datetime import datetime

from pydantic import AwareDatetime, Field, model_validator

from fedbus.control.trigger import FOREVER_NS, MAXIMUM_FACTOR, Trigger, Window
from fedbus.errors import ConfigurationError
from fedbus.options.quantity import DurationMs
from fedbus.options.section import Section


class WindowOptions(Section):
    """One occurrence."""

    start: AwareDatetime = Field(description="When the load begins, with its zone: 2026-11-27T08:00:00Z.")
    end: AwareDatetime = Field(description="When the load is over.")

    @model_validator(mode="after")
    def _forward(self) -> WindowOptions:
        if self.end <= self.start:
            raise ValueError(f"end ({self.end.isoformat()}) is not after start ({self.start.isoformat()})")
        return self

    def window(self) -> Window:
        """As the control plane knows it."""
        return Window(start_ns_of(self.start), end_ns_of(self.end))


class TriggerOptions(Section):
    """An event outside the bus that is known ahead; what it brings is learned from its earlier occurrences."""

    name: str = Field(min_length=1, max_length=128, description="Its name in forecasts and directives.")
    region: str | None = Field(None, description="Region it is felt in; none: all.")
    start: AwareDatetime | None = Field(
        None,
        description="When the load begins, with its zone: 2026-11-27T08:00:00Z; with `cron`: no occurrence before it.",
    )
    end: AwareDatetime | None = Field(None, description="When the load is over; with `cron`: none begins from then on.")
    windows: tuple[WindowOptions, ...] = Field(
        (), description="Further occurrences of the same event, earlier or to come, each with start and end."
    )
    cron: str = Field("", description="It comes again and again: minute hour day month weekday, such as '0 9 * * 1' …")
    duration_ms: DurationMs | None = Field(None, gt=0, alias="duration", description="… and lasts so long: 30m.")
    timezone: str = Field("UTC", description="Time zone of `cron`, such as Europe/Berlin.")
    factor: float = Field(
        1.0, gt=0, le=MAXIMUM_FACTOR, description="First guess: the expected load is this many times the usual one …"
    )
    extra_events_per_s: float = Field(
        0.0, ge=0, description="… plus this many events per second; with neither, the first occurrence teaches."
    )

    @model_validator(mode="after")
    def _whole(self) -> TriggerOptions:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"end ({self.end.isoformat()}) is not after start ({self.start.isoformat()})")
        if self.cron and self.duration_ms is None:
            raise ValueError("recurs by cron, but says not for how long: give duration, such as 30m")
        if not self.cron and self.duration_ms is not None:
            raise ValueError("has a duration, but no cron expression: give cron, such as '0 9 * * 1', or start and end")
        if not self.cron and (self.start is None) != (self.end is None):
            raise ValueError("start and end go together: give both, or cron and duration")
        if not self.cron and self.start is None and not self.windows:
            raise ValueError("says not when: give start and end, or cron and duration")
        try:
            self.trigger()
        except ConfigurationError as error:
            raise ValueError(error.detail) from None
        return self

    def trigger(self) -> Trigger:
        """As the control plane knows it; its id is its name."""
        windows = tuple(sorted(each.window() for each in self.windows))
        start_ns = 0 if self.start is None else start_ns_of(self.start)
        end_ns = FOREVER_NS if self.end is None else end_ns_of(self.end)
        if windows and self.start is None and not self.cron:
            (start_ns, end_ns), windows = (windows[-1].start_ns, windows[-1].end_ns), windows[:-1]
        return Trigger(
            id=self.name,
            start_ns=start_ns,
            end_ns=end_ns,
            name=self.name,
            region=self.region,
            expected_factor=self.factor,
            expected_extra_eps=self.extra_events_per_s,
            cron=self.cron,
            duration_ns=(self.duration_ms or 0) * 1_000_000,
            zone=self.timezone,
            also=windows,
        )


class TriggersFile(Section):
    """A file of triggers alone; in a federation file they stand under the same key."""

    triggers: tuple[TriggerOptions, ...] = Field((), description="Events known ahead: campaigns, scheduled tasks.")

    @model_validator(mode="after")
    def _distinct(self) -> TriggersFile:
        check_distinct(self.triggers)
        return self


def check_distinct(triggers: tuple[TriggerOptions, ...]) -> None:
    """Raise ValueError if two triggers have one name."""
    names = [each.name for each in triggers]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(
            f"trigger {min(twice)!r} is there twice; several occurrences of one event are `windows` of one trigger"
        )


def start_ns_of(moment: datetime) -> int:
    """The millisecond it begins in, in nanoseconds since the epoch."""
    return math.floor(moment.timestamp() * 1000) * 1_000_000


def end_ns_of(moment: datetime) -> int:
    """The millisecond it ends with, in nanoseconds since the epoch."""
    return math.ceil(moment.timestamp() * 1000) * 1_000_000
