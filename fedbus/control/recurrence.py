"""Recurrence: when something scheduled happens again, told as cron tells it (minute, hour, day, month, weekday).

Semantics are those of crontab(5): if both day and weekday are restricted, either suffices. Times are of a time zone
(UTC unless named); a time that a change to summer time skips happens an hour later, one that comes twice happens once.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from fedbus.control.load import NS_PER_S
from fedbus.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = "'0 9 * * 1' (Mondays at 09:00) or '*/30 8-17 * * mon-fri'"
#: The rarest date there is, 29 February on a given weekday, comes within 40 years; nobody waits for that.
_DAYS_SEARCHED = 8 * 366 + 1
_LONGEST = 256
_A_MONDAY_NS, _OCCURRENCES_LOOKED_AT = 1_704_067_200 * NS_PER_S, 200


class _Field(NamedTuple):
    """One of the five: its bounds, and the names its values have, from the smallest on."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week (0 and 7 are Sunday)", 0, 7, _WEEKDAYS),
)
_SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


class Recurrence(msgspec.Struct, frozen=True):
    """A cron expression, understood; made by :func:`parse_cron`."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either_day: bool
    """Day and weekday are both restricted: one of them suffices."""
    zone: ZoneInfo

    def on(self, day: date) -> bool:
        """Whether it happens at all on that day (of its zone)."""
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_date or by_weekday) if self.either_day else (by_date and by_weekday)

    def from_ns(self, time_ns: int) -> Iterator[int]:
        """The times at or after ``time_ns``, soonest first; ends after eight years without one."""
        day, searched = self._day(time_ns), 0
        while searched < _DAYS_SEARCHED and day < date.max - timedelta(days=2):
            searched = 0 if self.on(day) else searched + 1
            yield from (at_ns for at_ns in self._times(day) if at_ns >= time_ns)
            day += timedelta(days=1)

    def before_ns(self, time_ns: int) -> Iterator[int]:
        """The times before ``time_ns``, latest first; ends after eight years without one, and with 1970."""
        day, searched = self._day(time_ns), 0
        while searched < _DAYS_SEARCHED and day.year >= 1970:  # noqa: PLR2004 - the epoch
            searched = 0 if self.on(day) else searched + 1
            yield from (at_ns for at_ns in reversed(self._times(day)) if at_ns < time_ns)
            day -= timedelta(days=1)

    def _day(self, time_ns: int) -> date:
        return datetime.fromtimestamp(time_ns // NS_PER_S, self.zone).date()

    def _times(self, day: date) -> list[int]:
        """The times of a day of its zone, in order; twice the same (a skipped hour moved) is once."""
        if not self.on(day):
            return []
        walls = (
            datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone)
            for hour in self.hours
            for minute in self.minutes
        )
        return sorted({round(wall.astimezone(UTC).timestamp()) * NS_PER_S for wall in walls})


@lru_cache(maxsize=512)
def parse_cron(expression: str, zone: str = "UTC") -> Recurrence:
    """Understand a cron expression; ConfigurationError says which of its fields is wrong, why, and what to write."""
    said = f"cron expression {expression[:_LONGEST]!r}"
    text = _SHORTHANDS.get(expression.strip().lower(), expression)
    parts = text.split()
    if len(expression) > _LONGEST or len(parts) != len(_FIELDS):
        shorthands = ", ".join(_SHORTHANDS)
        raise ConfigurationError(
            f"{said} has {len(parts)} fields: write the five fields minute, hour, day of the month, month and day of"
            f" the week, such as {EXAMPLE}, or one of {shorthands}"
        )
    sets = []
    for number, (field, part) in enumerate(zip(_FIELDS, parts, strict=True), 1):
        try:
            sets.append(_values(field, part.lower()))
        except ValueError as error:
            raise ConfigurationError(
                f"{said}: field {number}, the {field.name}, is {part!r}: {error}; write *, a value, a range a-b, a step"
                f" */n or a list of them with commas, such as {EXAMPLE}"
            ) from None
    minutes, hours, days, months, weekdays = sets
    result = Recurrence(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        either_day=not parts[2].startswith("*") and not parts[4].startswith("*"),
        zone=_zone(zone),
    )
    if not any(islice(result.from_ns(0), 1, 2)):
        raise ConfigurationError(
            f"{said} never happens: no month of field 4 ({parts[3]}) has a day of field 3 ({parts[2]});"
            " write days and months that go together"
        )
    return result


@lru_cache(maxsize=512)
def shortest_gap_ns(expression: str) -> int:
    """The shortest time from one occurrence to the next in UTC, among some hundred of them."""
    times = parse_cron(expression).from_ns(_A_MONDAY_NS)
    return min(later - earlier for earlier, later in pairwise(islice(times, _OCCURRENCES_LOOKED_AT)))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigurationError(
            f"time zone {name[:64]!r} is not known here: write UTC or a name of the tz database, such as Europe/Berlin"
        ) from None


def _values(field: _Field, text: str) -> frozenset[int]:
    return frozenset(value for part in text.split(",") for value in _span(field, part))


def _span(field: _Field, part: str) -> range:
    """One part of a list: ``*``, ``5``, ``1-5``, ``*/10``, ``8-18/2``, ``5/15``."""
    span, slash, step_text = part.partition("/")
    step = _number(step_text, "the step after /") if slash else 1
    if step < 1:
        raise ValueError("a step of 0 never comes to the next value")
    if span == "*":
        return range(field.least, field.most + 1, step)
    first_text, dash, last_text = span.partition("-")
    first = _value(field, first_text)
    last = _value(field, last_text) if dash else (field.most if slash else first)
    if last < first:
        raise ValueError(f"the range {span} runs backwards")
    return range(first, last + 1, step)


def _value(field: _Field, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.least
    value = _number(text, "a value")
    if not field.least <= value <= field.most:
        raise ValueError(f"{value} is not within {field.least} and {field.most}")
    return value


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 4):  # noqa: PLR2004 - no field has longer ones
        raise ValueError(f"{text!r} is not {what}" if text else f"{what} is missing")
    return int(text)
