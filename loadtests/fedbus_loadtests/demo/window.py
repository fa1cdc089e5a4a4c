"""Which part of a load series is replayed: it begins low, climbs to a peak as on the days before, and falls again.

Pure. A burst nobody could foresee makes no story about forecasts, so a window counts only as much as the week before it
(same time of day) promised it. The forecaster knows nothing of this choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from fedbus.clock import NS_PER_S
from fedbus.control.trace import Trace
from fedbus.errors import ConfigurationError

HISTORY_DAYS = 14
DAY_S = 86_400
#: Shorter is better (time runs slower then); the first length with a rise this steep is taken.
LENGTHS_H = (4, 6, 8, 10, 12, 16)
STEEP = 1.7
#: Below this rise nothing would have to be scaled.
FLAT = 1.25
_SMOOTH_S = 1800
_GRID_S = 300
_EDGE = 8
"""The first and the last eighth of a window are its beginning and its end."""
_PAST_DAYS = 7
_MOST_CANDIDATES = 4000


class Window(msgspec.Struct, frozen=True):
    """A stretch of a series; rates are smoothed over half an hour, in the series' events/s."""

    start_ns: int
    end_ns: int
    peak_ns: int
    start_eps: float
    peak_eps: float
    end_eps: float

    @property
    def rise(self) -> float:
        """The peak over the higher one of its two ends."""
        return self.peak_eps / max(self.start_eps, self.end_eps)


def choose_window(trace: Trace) -> Window:
    """The best window after the history; raises ConfigurationError if the series is too short or too flat for one."""
    step_s = max(trace.step_s, _GRID_S)
    rates = smoothed([events / step_s for events in filled(trace.resampled(step_s).events)], _SMOOTH_S // step_s)
    history = HISTORY_DAYS * DAY_S // step_s
    shortest = LENGTHS_H[0] * 3600 // step_s
    if len(rates) < history + shortest:
        days = len(rates) * step_s / DAY_S
        raise ConfigurationError(
            f"the trace covers {days:.1f} days: {HISTORY_DAYS} days of history and {LENGTHS_H[0]} hours to replay are "
            "needed; give a longer one"
        )
    best: Window | None = None
    for hours in LENGTHS_H:
        length = hours * 3600 // step_s
        found = _best_of_length(rates, history, length, step_s, trace.start_ns)
        if found is not None and (best is None or found.rise > best.rise):
            best = found
        if best is not None and best.rise >= STEEP:
            break
    if best is None or best.rise < FLAT:
        raise ConfigurationError(
            f"no part of the trace after day {HISTORY_DAYS} rises and falls by {FLAT - 1:.0%} as on the days before: "
            "there is nothing to scale for; give a trace with a daily cycle"
        )
    return best


def _best_of_length(rates: Sequence[float], history: int, length: int, step_s: int, start_ns: int) -> Window | None:
    best: tuple[float, Window] | None = None
    starts = range(history, len(rates) - length + 1)
    for start in starts[:: -(-len(starts) // _MOST_CANDIDATES) or 1]:
        window = _window(rates[start : start + length], start_ns + start * step_s * NS_PER_S, step_s)
        if window is None:
            continue
        promised = _window(_week_before(rates, start, length, DAY_S // step_s), 0, step_s)
        score = min(window.rise, promised.rise) if promised is not None else 0.0
        if score > 1 and (best is None or score > best[0]):
            best = score, window
    return best[1] if best is not None else None


def _window(rates: Sequence[float], start_ns: int, step_s: int) -> Window | None:
    """The window over these rates, or None if it begins in silence or its peak is at an end."""
    edge = max(1, len(rates) // _EDGE)
    inner = range(2 * edge, len(rates) - 2 * edge)
    if not inner or min(rates) <= 0:
        return None
    peak = max(inner, key=lambda place: rates[place])
    window = Window(
        start_ns,
        start_ns + len(rates) * step_s * NS_PER_S,
        start_ns + peak * step_s * NS_PER_S,
        max(rates[:edge]),
        rates[peak],
        max(rates[-edge:]),
    )
    return window if rates[peak] >= max(rates) else None


def _week_before(rates: Sequence[float], start: int, length: int, day: int) -> list[float]:
    """Mean of the same hours on the days before."""
    begins = [start - days * day for days in range(1, _PAST_DAYS + 1)]
    return [sum(rates[begin + place] for begin in begins) / len(begins) for place in range(length)]


def filled(values: Sequence[float]) -> list[float]:
    """Unknown values take the last known one (the first known one at the beginning)."""
    last = next((value for value in values if not math.isnan(value)), 0.0)
    result = []
    for value in values:
        last = last if math.isnan(value) else value
        result.append(last)
    return result


def smoothed(values: Sequence[float], span: int) -> list[float]:
    """Centred moving mean over ``span`` values; 1 or less changes nothing."""
    if span <= 1:
        return list(values)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    before, after = span // 2, span - span // 2
    bounds = ((max(0, place - before), min(len(values), place + after)) for place in range(len(values)))
    return [(sums[end] - sums[begin]) / (end - begin) for begin, end in bounds]
