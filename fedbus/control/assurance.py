"""Assurance: how much capacity a forecast asks for so that at most a budget of minutes is violated.

Not one quantile for all slots: each takes the level at which a bit more capacity saves exactly what a violated minute
is worth (the forecast's price for the budget, see :mod:`fedbus.control.forecast.prices`). What was really violated is
fed back slowly (an integral controller): too many violations shrink the budget that is planned with, too few widen it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedbus.control.forecast.protocol import Forecast

#: Minutes over which the feedback forgets: a week. Faster feedback swings the plan after every burst and pays for it.
MEMORY_MIN = 7 * 1440
#: The unit of the feedback: minutes beyond the budget by one per cent of that time. Absolute, not per budget: one burst
#: spends a small budget for weeks, and paying for it all that time would bring nothing back.
UNIT_MIN = 0.01 * MEMORY_MIN
#: Change of the log of the planned budget per unit: at most, and per budget and its square below. A small budget is
#: spent by a few bursts; following each of them would swing the plan and buy nothing.
LARGEST_GAIN, GAIN_PER_BUDGET, GAIN_PER_SQUARE = 9.0, 200.0, 60_000.0
#: The feedback may shrink and widen the planned budget by these factors at most.
MOST_SHRUNK, MOST_WIDENED = 3.0, 12.0
LEAST_BUDGET, LARGEST_BUDGET = 1e-5, 0.5


class Assurance(msgspec.Struct, frozen=True, kw_only=True):
    """``budget``: share of minutes that may be violated. A value: :meth:`seen` returns the next one.

    ``excess``: violated minutes beyond the budget, fading over ``MEMORY_MIN``, in units of ``UNIT_MIN``.
    """

    budget: float
    excess: float = 0.0

    def seen(self, minutes: int, violated: int) -> Assurance:
        """With the feedback of so many minutes, of which so many were violated."""
        if minutes <= 0 or not 0.0 < self.budget < 1.0:
            return self
        excess = self.excess * math.exp(-minutes / MEMORY_MIN) + (violated - self.budget * minutes) / UNIT_MIN
        bounded = min(math.log(MOST_SHRUNK) / self._gain, max(-math.log(MOST_WIDENED) / self._gain, excess))
        return msgspec.structs.replace(self, excess=bounded)

    @property
    def planned_budget(self) -> float:
        """The budget that is planned with, after feedback."""
        return min(LARGEST_BUDGET, max(LEAST_BUDGET, self.budget * math.exp(-self._gain * self.excess)))

    @property
    def _gain(self) -> float:
        return min(LARGEST_GAIN, self.budget * (GAIN_PER_BUDGET + GAIN_PER_SQUARE * self.budget))

    def required_eps(self, forecast: Forecast, start_ns: int, end_ns: int) -> tuple[float, int, float]:
        """The largest need in [start_ns, end_ns): events/s, when (ns), and the level it is the quantile of.

        (0.0, start_ns, level) if the forecast does not reach into the window.
        """
        budget = self.planned_budget
        levels = sorted(forecast.quantiles)
        slots = forecast.slots_between(start_ns, end_ns)
        rows = zip(*(forecast.quantiles[level][slots.start : slots.stop] for level in levels), strict=True)
        price = _price(forecast.prices, budget)
        worth = [] if price is None else _worth(levels, price)
        best = (0.0, start_ns, 1.0 - budget)
        for slot, bounds in zip(slots, rows, strict=True):
            eps, level = _cheapest(levels, bounds, worth) if worth else _uniform(levels, bounds, 1.0 - budget)
            if eps > best[0]:
                best = (eps, max(start_ns, forecast.slot_start_ns(slot)), level)
        return best


def _worth(levels: Sequence[float], price: float) -> list[tuple[float, float]]:
    """What the violations left cost at each level, and half-way (in the log) from the level before to it."""
    left = [1.0 - level for level in levels]
    return [(price * now, price * math.sqrt(now * before)) for now, before in zip(left, [left[0], *left], strict=False)]


def _price(prices: dict[float, float], budget: float) -> float | None:
    """Price for a budget, interpolated in the logs and prolonged at the ends; None without prices."""
    known = sorted((each, price) for each, price in prices.items() if each > 0 and price > 0)
    if len(known) < 2:  # noqa: PLR2004 - a line takes two points
        return None
    at = min(len(known) - 2, max(0, bisect_right(known, (budget, 0.0)) - 1))
    (low, low_price), (high, high_price) = known[at], known[at + 1]
    share = math.log(budget / low) / math.log(high / low)
    return math.exp(math.log(low_price) + share * math.log(high_price / low_price))


def _cheapest(
    levels: Sequence[float], bounds: Sequence[float], worth: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """Bound and level with the least bound + price · (1 − level), also half-way between levels carried."""
    best, found, level = math.inf, bounds[-1], levels[-1]
    before, level_before = bounds[0], levels[0]
    for bound, each, (at_level, half_way) in zip(bounds, levels, worth, strict=True):
        between = (before + bound) / 2.0
        if between + half_way < best:
            best, found, level = between + half_way, between, (level_before + each) / 2.0
        if bound + at_level < best:
            best, found, level = bound + at_level, bound, each
        before, level_before = bound, each
    return found, level


def _uniform(levels: Sequence[float], bounds: Sequence[float], wanted: float) -> tuple[float, float]:
    """The bound at one level, interpolated in the log of what is left above."""
    at = bisect_right(levels, wanted)
    if at == 0 or at == len(levels):
        at = min(at, len(levels) - 1)
        return bounds[at], levels[at]
    low, high = levels[at - 1], levels[at]
    share = math.log((1.0 - wanted) / (1.0 - low)) / math.log((1.0 - high) / (1.0 - low))
    return bounds[at - 1] + share * (bounds[at] - bounds[at - 1]), wanted
