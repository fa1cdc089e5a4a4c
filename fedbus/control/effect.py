"""The effect of a trigger: what its earlier occurrences brought beside the usual load, slot by slot, and in few words.

One occurrence cannot tell a factor from an addition, so both are kept and the larger counts, until several occurrences
at different loads agree on one of them. Over occurrences the largest counts, in each slot and its neighbours (nobody is
punctual to the minute); one that is out of all proportion to the others is cut down.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from statistics import median, pstdev

import msgspec

#: A slot shows an effect from this factor on, or this many standard deviations of the noise.
_LEAST_RISE, _RISE_DEVIATIONS = 1.2, 4.0
#: The margin on what was seen: so many standard deviations of the noise, within these bounds.
_MARGIN_DEVIATIONS, _MARGINS = 3.0, (0.1, 0.5)
#: An occurrence counts if so much of its window was measured.
_SHARE_MEASURED = 0.8
#: An occurrence beyond this multiple of their median is cut down to it, from three occurrences on.
_OUTLIER = 2.0
#: A factor learned at night is believed by day up to this multiple of the load that was really there.
_LARGEST_TRANSFER = 3.0
#: One explanation (factor or addition) must spread less than the other by this to be the only one.
_CLEARLY = 0.5
_TWICE, _THRICE = 2, 3


class Brought(msgspec.Struct, frozen=True):
    """What one occurrence brought: load and usual load (events/s) per slot, from ``lead`` slots before its window."""

    load: tuple[float, ...]
    usual: tuple[float, ...]
    lead: int
    length: int
    """Slots of the window itself."""
    noise: float

    @property
    def counts(self) -> bool:
        """Whether enough of it was measured."""
        window = self.load[self.lead : self.lead + self.length]
        return sum(map(math.isfinite, window)) >= _SHARE_MEASURED * self.length


class Effect(msgspec.Struct, frozen=True):
    """What occurrences brought: per slot the largest factor, addition (events/s) and load (events/s).

    Outside [``first``, ``last``) there was nothing to see. ``rise`` and ``slots``: the usual peak as a factor, and how
    long it is above half of its rise; both are for people.
    """

    occurrences: int
    lead: int
    length: int
    first: int
    last: int
    factors: tuple[float, ...]
    extras: tuple[float, ...]
    loads: tuple[float, ...]
    rise: float
    slots: int
    noise: float

    @property
    def visible(self) -> bool:
        """Whether there is any."""
        return self.first < self.last

    def expected(self, slot: int, length: int, usual: float) -> float:
        """Load in events/s where ``usual`` would be, ``slot`` slots after the start of a window of ``length``; or 0."""
        at = slot + self.lead
        if self.length <= slot < length:
            # The window is longer this time: what there was, goes on.
            at = max(range(self.first, self.last), key=self.factors.__getitem__, default=-1)
        elif slot >= length:
            at = slot - length + self.lead + self.length
        if not self.first <= at < self.last:
            return 0.0
        grown = min(usual * self.factors[at], _LARGEST_TRANSFER * self.loads[at])
        return max(usual, grown, usual + self.extras[at]) * (1 + margin(self.noise))


def margin(noise: float) -> float:
    """What to add for noise, as a share."""
    least, most = _MARGINS
    return min(most, max(least, _MARGIN_DEVIATIONS * noise))


def effect_of(brought: list[Brought], neighbours: int) -> Effect | None:
    """The effect that occurrences show together, latest first; None if there are none.

    ``neighbours``: slots around a slot that stand for it too.
    """
    if not brought:
        return None
    factors, extras, loads = (_per_occurrence(brought, kind) for kind in ("factor", "extra", "load"))
    peaks = [max(each, default=0.0) for each in factors]
    additions = [max(each, default=0.0) for each in extras]
    if len(brought) >= _THRICE:
        factors, extras, loads = (_tamed(each) for each in (factors, extras, loads))
        by_factor, by_addition = _spread(peaks), _spread(additions)
        if by_factor < _CLEARLY * by_addition:
            extras = [[0.0] * len(each) for each in extras]
        elif by_addition < _CLEARLY * by_factor:
            factors = [[0.0] * len(each) for each in factors]
    noise = median(each.noise for each in brought)
    threshold = max(_LEAST_RISE, math.exp(min(_RISE_DEVIATIONS * noise, 2.0)))
    shown = [
        index
        for index, parts in enumerate(zip_longest(*_per_occurrence(brought, "factor"), fillvalue=0.0))
        if max(parts) >= threshold
    ]
    largest = _envelope(factors, neighbours)
    first = max(0, shown[0] - neighbours) if shown else 0
    last = min(len(largest), shown[-1] + 1 + neighbours) if shown else 0
    peak = median(peaks)
    half = 1 + (peak - 1) / 2
    lengths = [sum(factor >= half for factor in each) for each in _per_occurrence(brought, "factor")]
    return Effect(
        occurrences=len(brought),
        lead=brought[0].lead,
        length=max(each.length for each in brought),
        first=first,
        last=last,
        factors=largest,
        extras=_envelope(extras, neighbours),
        loads=_envelope(loads, neighbours),
        rise=peak,
        slots=round(median(lengths)) if shown else 0,
        noise=noise,
    )


def showing(brought: Brought) -> bool:
    """Whether this one occurrence alone shows an effect."""
    effect = effect_of([brought], 0)
    return effect is not None and effect.visible


def _per_occurrence(brought: list[Brought], kind: str) -> list[list[float]]:
    """For each occurrence its factor, addition or load per slot; 0 where it was not measured."""
    result = []
    for each in brought:
        pairs = zip(each.load, each.usual, strict=True)
        if kind == "factor":
            values = [load / max(usual, 1e-9) for load, usual in pairs]
        elif kind == "extra":
            values = [load - usual for load, usual in pairs]
        else:
            values = list(each.load)
        result.append([value if math.isfinite(value) and value > 0 else 0.0 for value in values])
    return result


def _tamed(occurrences: list[list[float]]) -> list[list[float]]:
    """What is out of proportion is cut down to twice the median of the occurrences' peaks."""
    most = _OUTLIER * median(max(each, default=0.0) for each in occurrences)
    return [[min(value, most) for value in each] for each in occurrences]


def _envelope(occurrences: list[list[float]], neighbours: int) -> tuple[float, ...]:
    """Per slot the largest of all occurrences, here or beside."""
    highest = [max(parts) for parts in zip_longest(*occurrences, fillvalue=0.0)]
    return tuple(max(highest[max(0, index - neighbours) : index + neighbours + 1]) for index in range(len(highest)))


def _spread(values: list[float]) -> float:
    """How differently occurrences say it: the standard deviation of the logarithm."""
    positive = [math.log(value) for value in values if value > 0]
    return pstdev(positive) if len(positive) >= _TWICE else math.inf
