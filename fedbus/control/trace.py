"""Traces: a load series from a CSV file (`ds,y`: time in UTC, events per interval).

Reads lines, not files. It refuses what it cannot read with the line and the reason, and tolerates what real series
have: missing rows and blank values become NaN.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from fedbus.control.load import NS_PER_S, LoadSample
from fedbus.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: A year typed wrong must not allocate a century of minutes; this holds four years of them.
MAXIMUM_TRACE_SLOTS = 4 * 366 * 24 * 60
HEADER = ("ds", "y")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Trace(msgspec.Struct, frozen=True):
    """A regular series: ``events[i]`` arrived in the ``step_s`` seconds from ``start_ns + i·step_s``.

    NaN: not known.
    """

    start_ns: int
    step_s: int
    events: tuple[float, ...]

    @property
    def end_ns(self) -> int:
        """End of the last slot."""
        return self.start_ns + len(self.events) * self.step_s * NS_PER_S

    def resampled(self, step_s: int) -> Trace:
        """The same load in other steps: shorter ones spread a slot evenly, longer ones add up (NaN if any part is)."""
        if step_s <= self.step_s:
            parts, rest = divmod(self.step_s, step_s)
            events = tuple(each / parts for each in self.events for _ in range(parts)) if not rest else ()
        else:
            parts, rest = divmod(step_s, self.step_s)
            whole = range(0, len(self.events) - parts + 1, parts)
            events = tuple(sum(self.events[start : start + parts]) for start in whole) if not rest else ()
        if rest:
            raise ConfigurationError(f"a trace in steps of {self.step_s} s cannot be read in steps of {step_s} s")
        return Trace(self.start_ns, step_s, events)

    def samples(self, bytes_per_event: float = 0.0, shift_ns: int = 0) -> Iterator[LoadSample]:
        """The known slots as load samples, moved by ``shift_ns`` (to let a trace of years ago end now)."""
        for index, events in enumerate(self.events):
            if not math.isnan(events):
                time_ns = self.start_ns + shift_ns + index * self.step_s * NS_PER_S
                yield LoadSample(time_ns, events, events * bytes_per_event)


def read_trace(lines: Iterable[str]) -> Trace:
    """Parse a trace; times without an offset are UTC. Raises ConfigurationError naming the line and what to do."""
    rows = list(_rows(lines))
    if len(rows) < 2:  # noqa: PLR2004 - a step needs two times
        raise ConfigurationError(f"the trace has {len(rows)} data rows: at least two are needed to know its step")
    step_s = _step_s(rows)
    slots = (rows[-1][1] - rows[0][1]) // step_s + 1
    if slots > MAXIMUM_TRACE_SLOTS:
        raise ConfigurationError(
            f"line {rows[-1][0]}: the trace spans {slots} steps of {step_s} s, more than {MAXIMUM_TRACE_SLOTS};"
            " is a year wrong?"
        )
    events = [math.nan] * slots
    for line, time_s, value in rows:
        slot, off_s = divmod(time_s - rows[0][1], step_s)
        if off_s:
            raise ConfigurationError(
                f"line {line}: the time lies {off_s} s off the trace's step of {step_s} s; times must be evenly spaced"
                " (rows may be missing)"
            )
        events[slot] = value
    return Trace(rows[0][1] * NS_PER_S, step_s, tuple(events))


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, int, float]]:
    """(line number, seconds since the epoch, events) per data row, checked one by one."""
    reader = csv.reader(lines)
    previous_s: int | None = None
    header_seen = False
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise ConfigurationError(f"line {reader.line_num}: not CSV ({error})") from error
        fields = [field.strip().removeprefix("\ufeff") for field in row]
        if not any(fields):
            continue
        if not header_seen:
            if tuple(fields) != HEADER:
                raise ConfigurationError(
                    f"line {reader.line_num}: a trace starts with the header 'ds,y', found {','.join(row)!r}"
                )
            header_seen = True
            continue
        time_s, events = _parse_row(reader.line_num, fields)
        if previous_s is not None and time_s <= previous_s:
            what = "repeats the time of the row before" if time_s == previous_s else "goes back in time"
            raise ConfigurationError(
                f"line {reader.line_num}: {fields[0]} {what}; sort by ds and keep one row per time, in UTC"
            )
        previous_s = time_s
        yield reader.line_num, time_s, events
    if not header_seen:
        raise ConfigurationError("the trace is empty: expected a header 'ds,y' and rows of time and events")


def _parse_row(line: int, fields: list[str]) -> tuple[int, float]:
    if len(fields) != len(HEADER):
        raise ConfigurationError(f"line {line}: expected two fields (ds,y), found {len(fields)}")
    try:
        # Subtracting the epoch, because timestamp() cannot do without a platform's range of years.
        time = datetime.fromisoformat(fields[0])
        seconds = ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH).total_seconds()
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"line {line}: {fields[0]!r} is no ISO time such as 2025-01-31T18:05:00Z") from error
    if seconds != int(seconds):
        raise ConfigurationError(
            f"line {line}: {fields[0]!r} has a fraction of a second; a trace's step is whole seconds"
        )
    if not fields[1]:
        return int(seconds), math.nan
    try:
        events = float(fields[1])
    except ValueError:
        events = math.nan
    if not math.isfinite(events) or events < 0:
        raise ConfigurationError(
            f"line {line}: {fields[1]!r} is no number of events; it must be 0 or more, and blank where it is not known"
        )
    return int(seconds), events


def _step_s(rows: list[tuple[int, int, float]]) -> int:
    """The most frequent distance between rows (the shortest of equally frequent ones)."""
    distances = Counter(later[1] - earlier[1] for earlier, later in pairwise(rows))
    most = max(distances.values())
    return min(distance for distance, count in distances.items() if count == most)
