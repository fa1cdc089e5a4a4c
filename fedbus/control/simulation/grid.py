"""The grid: a load on one-minute steps, from when on policies are judged, and what an instance holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedbus.control.load import NS_PER_S
from fedbus.errors import ConfigurationError

if TYPE_CHECKING:
    from fedbus.control.simulation.fleet import FloatArray
    from fedbus.control.trace import Trace

MINUTE_S = 60
MINUTE_NS = MINUTE_S * NS_PER_S
MINUTES_PER_DAY = 1_440
#: A minute that has just ended is seen one minute later: at minute t the newest one known is t − 2.
METRICS_LAG_MIN = 2
#: A forecast is made this often, or once per step of a coarser series.
TICK_MIN = 5
#: History before the judged part, and that of series shorter than ``LONG_DAYS``.
HISTORY_DAYS, SHORT_HISTORY_DAYS, LONG_DAYS = 14, 7, 18
#: Instances that hold the load of all but one minute in a thousand, unless a capacity is given.
INSTANCES_AT_PEAK, PEAK_QUANTILE = 40, 0.999
MINIMUM_MINUTES = 240
MINIMUM_KNOWN_SHARE = 0.1


@dataclass(frozen=True)
class LoadGrid:
    """A load per minute. ``load``: events in each minute, NaN where not known; ``start_ns``: start of the first.

    ``first``: the first minute judged; ``capacity``: events per minute that an instance holds; ``tick_min``: minutes
    between forecasts; ``step_s``: step of the series it was made of. ``notes``: what a reader must know of it.
    """

    load: FloatArray
    start_ns: int
    first: int
    capacity: float
    tick_min: int
    step_s: int
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, trace: Trace, capacity_eps: float | None = None) -> LoadGrid:
        """The grid of a trace; ``capacity_eps``: what an instance holds. ConfigurationError where nothing can be said.

        A coarser series is spread evenly over its slots.
        """
        load = _minutes(trace)
        known = np.isfinite(load)
        if len(load) < MINIMUM_MINUTES:
            raise ConfigurationError(
                f"the trace covers {len(load)} minutes: at least {MINIMUM_MINUTES} are needed to simulate anything"
            )
        first, notes = _judged_from(len(load))
        judged = load[first:][known[first:]]
        if len(judged) < MINIMUM_KNOWN_SHARE * (len(load) - first):
            raise ConfigurationError(
                f"only {len(judged)} of the {len(load) - first} minutes to judge are known: too many values are missing"
            )
        if not known.all():
            share = 100 * (1 - float(known.mean()))
            notes.append(f"{share:.2g} % of the minutes are not known: they are not judged")
        if capacity_eps is None:
            capacity = float(np.quantile(judged, PEAK_QUANTILE)) / INSTANCES_AT_PEAK
        else:
            capacity = capacity_eps * MINUTE_S
        if not (math.isfinite(capacity) and capacity > 0):
            raise ConfigurationError("there is no load in the part to judge: give what an instance holds (--capacity)")
        tick_min = max(TICK_MIN, trace.step_s // MINUTE_S)
        return cls(load, trace.start_ns, first, capacity, tick_min, trace.step_s, tuple(notes))

    def __len__(self) -> int:
        return len(self.load)

    @property
    def judged(self) -> FloatArray:
        """Load of the minutes judged, NaN where not known."""
        return self.load[self.first :]

    @property
    def judged_days(self) -> float:
        """Days judged."""
        return (len(self.load) - self.first) / MINUTES_PER_DAY

    @property
    def demanded(self) -> FloatArray:
        """Instances that hold the load of each judged minute: the clairvoyant without delay; NaN where not known."""
        return np.ceil(self.judged / self.capacity - 1e-9)

    def seen(self) -> FloatArray:
        """The newest load known at each minute (held over gaps; the first known one before there is any)."""
        at = np.where(np.isfinite(self.load), np.arange(len(self.load)), -1)
        at = np.maximum.accumulate(at)
        at[at < 0] = np.flatnonzero(np.isfinite(self.load))[0]
        held = self.load[at]
        return np.concatenate([np.full(METRICS_LAG_MIN, held[0]), held[:-METRICS_LAG_MIN]])

    def time_ns(self, minute: int) -> int:
        """When a minute begins."""
        return self.start_ns + minute * MINUTE_NS


def _minutes(trace: Trace) -> FloatArray:
    events = np.asarray(trace.events, dtype=np.float64)
    if trace.step_s < MINUTE_S:
        parts, rest = divmod(MINUTE_S, trace.step_s)
        whole = len(events) // parts * parts if parts else 0
        minutes = np.asarray(events[:whole].reshape(-1, parts).sum(axis=1), dtype=np.float64)
    else:
        parts, rest = divmod(trace.step_s, MINUTE_S)
        minutes = np.repeat(events / parts, parts)
    if rest:
        raise ConfigurationError(
            f"the trace has steps of {trace.step_s} s: it must be a whole number of minutes, or divide one"
        )
    return minutes


def _judged_from(minutes: int) -> tuple[int, list[str]]:
    """The first minute judged, with words where that is unusual."""
    days = minutes / MINUTES_PER_DAY
    if days >= LONG_DAYS:
        return HISTORY_DAYS * MINUTES_PER_DAY, []
    if days > SHORT_HISTORY_DAYS + 1:
        note = f"{days:.3g} days, under {LONG_DAYS}: judged from day {SHORT_HISTORY_DAYS} on, with a week of history"
        return SHORT_HISTORY_DAYS * MINUTES_PER_DAY, [note]
    note = (
        f"only {days * 24:.3g} hours: the second half is judged; under {SHORT_HISTORY_DAYS + 1} days hold hardly"
        " a season to learn, expect little of prediction"
    )
    return minutes // 2, [note]
