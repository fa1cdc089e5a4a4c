"""The outlook of one region: from its load history and its triggers, the loads to expect in the occurrences to come.

The same answers for the same history, with or without what it remembers (what past occurrences brought does not
change, so it is measured once). Looks at no slot that was not over at the time asked for, and raises for no history.
Bursts that nobody announced are looked for now and then (:mod:`fedbus.control.bursts`) and treated like triggers.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any

from fedbus.control.effect import Brought, Effect, effect_of, margin, showing
from fedbus.control.expected import Expected, Origin
from fedbus.control.load import NS_PER_S
from fedbus.control.usual import HOUR_S, MINUTE_S, Busy, Past, Usual

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedbus.control.trigger import Trigger, Window
    from fedbus.control.usual import LoadSlots

#: Occurrences that are learned from: the latest.
LEARNED_FROM = 6
#: An occurrence may begin so long before its window, and last on for half of it, within these bounds.
_EARLY_S, _LATE_S = 5 * MINUTE_S, (10 * MINUTE_S, HOUR_S)
#: Nobody is punctual to the minute.
_PUNCTUALITY_S = 2 * MINUTE_S
#: A load this far back tells the level and the course of the day around a window.
_AROUND_S = 8 * 86_400
#: One occurrence without an effect says little against an announced one; so many do.
_DISPROVED = 3
#: A burst detected is given up after so many occurrences without it.
_MISSED = 2
#: Bursts are looked for this often, or every hundredth of the history, whichever is longer.
_DETECTED_EVERY_S, _DETECTED_EVERY_SHARE = HOUR_S, 0.01
#: When an occurrence under way brings more than expected, the rest of it is raised too, at most by this.
_LARGEST_LIFT, _LIFTED_BY_S = 2.0, 5 * MINUTE_S
_MOST_REMEMBERED = 4096

_Measured = tuple[str, int, int, int]


class Outlook:
    """What one region must expect from triggers. ``detect``: also look for bursts nobody announced."""

    def __init__(self, region: str, *, detect: bool = True) -> None:
        self._region = region
        self._detect = detect
        self._measured: dict[_Measured, Brought] = {}
        self._effects: dict[tuple[str, tuple[Window, ...]], Effect | None] = {}
        self._detected: tuple[Trigger, ...] = ()
        self._detected_at_ns: int | None = None
        self._busy: tuple[Any, Busy] | None = None

    @property
    def detected(self) -> tuple[Trigger, ...]:
        """The recurring bursts found when last looked for."""
        return self._detected

    def expect(
        self, history: LoadSlots, triggers: Iterable[Trigger], now_ns: int, until_ns: int
    ) -> tuple[Expected, ...]:
        """What occurrences bring from now on up to ``until_ns``; empty if none is near or nothing is known of them."""
        own = tuple(each for each in triggers if each.concerns(self._region))
        slot_ns = history.slot_s * NS_PER_S
        past = Past(history, now_ns // slot_ns)
        self._look_for_bursts(history, own, now_ns)
        near = [
            (trigger, window)
            for trigger in (*own, *self._detected)
            for window in trigger.occurrences(now_ns - _late_ns(trigger), until_ns + _EARLY_S * NS_PER_S)
        ]
        if not near:
            return ()
        usual = Usual(past, self._busy_slots(past, own, now_ns, until_ns))
        slots = now_ns // slot_ns, -(-until_ns // slot_ns)
        found = (self._occurrence(past, usual, trigger, window, slots) for trigger, window in near)
        return tuple(each for each in found if each is not None)

    def effect(self, history: LoadSlots, triggers: Sequence[Trigger], trigger: Trigger, now_ns: int) -> Effect | None:
        """What a trigger's earlier occurrences brought; None if none of them was seen."""
        own = tuple(each for each in triggers if each.concerns(self._region))
        past = Past(history, now_ns // (history.slot_s * NS_PER_S))
        usual = Usual(past, self._busy_slots(past, own, now_ns, now_ns))
        return self._learned(past, usual, trigger, past.end_slot)

    def _look_for_bursts(self, history: LoadSlots, own: tuple[Trigger, ...], now_ns: int) -> None:
        every_s = max(_DETECTED_EVERY_S, len(history.events) * history.slot_s * _DETECTED_EVERY_SHARE)
        last_ns = self._detected_at_ns
        if not self._detect or (last_ns is not None and 0 <= now_ns - last_ns < every_s * NS_PER_S):
            return
        from fedbus.control.bursts import detect_bursts  # NumPy: only where something is looked for

        self._detected_at_ns = now_ns
        self._detected = detect_bursts(history, own, self._region, now_ns)

    def _busy_slots(self, past: Past, own: tuple[Trigger, ...], now_ns: int, until_ns: int) -> Busy:
        """The windows of all triggers, around everything that may be learned from; found once an hour."""
        slot_ns, hour_ns = past.slot_s * NS_PER_S, HOUR_S * NS_PER_S
        hour = now_ns // hour_ns
        key = past.slot_s, hour, -(-until_ns // hour_ns), own, self._detected
        if self._busy is not None and self._busy[0] == key:
            return self._busy[1]
        busy = []
        for trigger in (*own, *self._detected):
            windows = {
                *trigger.occurrences(now_ns - _AROUND_S * NS_PER_S, key[2] * hour_ns),
                *trigger.last_before((hour + 1) * hour_ns, 2 * LEARNED_FROM, past.first_slot * slot_ns),
            }
            for window in windows:
                early, late = _tolerance(past, trigger, window)
                start, end = _slots_of(window, past.slot_s)
                busy.append((start - early, end + late))
        self._busy = key, Busy(busy)
        return self._busy[1]

    def _occurrence(
        self, past: Past, usual: Usual, trigger: Trigger, window: Window, slots: tuple[int, int]
    ) -> Expected | None:
        """What one occurrence is expected to bring in the slots from now on."""
        start, end = _slots_of(window, past.slot_s)
        early, late = _tolerance(past, trigger, window)
        effect = self._learned(past, usual, trigger, start - early)
        if effect is not None and not effect.visible and (trigger.detected or effect.occurrences >= _DISPROVED):
            return None
        if trigger.detected and (effect is None or self._missed(past, usual, trigger, start - early)):
            return None
        learned = effect is not None and effect.visible
        announced = trigger.expected_factor > 1 or trigger.expected_extra_eps > 0
        first, last = max(slots[0] - past.slots(_LIFTED_BY_S), start - early), min(slots[1], end + late)
        if not (learned or announced) or first >= last:
            return None
        base = usual.ahead(first, last, min(past.end_slot, start - early))
        noise = effect.noise if learned and effect is not None else usual.noise(start - early)
        ready = past.slots(_PUNCTUALITY_S)
        path = []
        for slot, level in zip(range(first, last), base or [0.0] * (last - first), strict=True):
            if learned and effect is not None:
                path.append(effect.expected(slot - start, end - start, level))
            else:
                inside = start - ready <= slot < end
                path.append(trigger.raised(level) * (1 + margin(noise)) if inside else 0.0)
        lift = _lift(past.rates(first, slots[0]), path)
        origin: Origin = "detected" if trigger.detected else "learned" if learned else "announced"
        skipped = max(0, slots[0] - first)
        return Expected(
            trigger=trigger.id,
            title=trigger.title,
            origin=origin,
            start_ns=(first + skipped) * past.slot_s * NS_PER_S,
            slot_s=past.slot_s,
            eps=tuple(value * lift for value in path[skipped:]),
            why=explained(trigger, effect, past.slot_s),
            confidence=1.0 if trigger.confidence is None else trigger.confidence,
        )

    def _learned(self, past: Past, usual: Usual, trigger: Trigger, before_slot: int) -> Effect | None:
        """The effect of the occurrences that were over, and whose beginning was measured, before the slot."""
        slot_ns = past.slot_s * NS_PER_S
        known_ns = min(before_slot, past.end_slot) * slot_ns
        windows = [
            window
            for window in trigger.last_before(known_ns, LEARNED_FROM + 1, past.first_slot * slot_ns)
            if window.end_ns <= past.end_slot * slot_ns
        ]
        brought = [(each, self._brought(past, usual, trigger, each)) for each in windows[:LEARNED_FROM]]
        counting = [(window, each) for window, each in brought if each.counts]
        over = all(self._is_over(past, trigger, window) for window, _ in counting)
        key = trigger.id, tuple(window for window, _ in counting)
        if over and key in self._effects:
            return self._effects[key]
        effect = effect_of([each for _, each in counting], past.slots(_PUNCTUALITY_S))
        if over:
            _bounded(self._effects)[key] = effect
        return effect

    def _missed(self, past: Past, usual: Usual, trigger: Trigger, before_slot: int) -> bool:
        """Whether the last occurrences showed nothing."""
        slot_ns = past.slot_s * NS_PER_S
        windows = trigger.last_before(min(before_slot, past.end_slot) * slot_ns, _MISSED + 1)
        over = [each for each in windows if each.end_ns <= past.end_slot * slot_ns][:_MISSED]
        seen = [each for each in (self._brought(past, usual, trigger, window) for window in over) if each.counts]
        return len(seen) == _MISSED and not any(map(showing, seen))

    def _brought(self, past: Past, usual: Usual, trigger: Trigger, window: Window) -> Brought:
        """What a past occurrence brought; measured again while its end is still being seen."""
        key = trigger.id, window.start_ns, window.end_ns, past.slot_s
        known = self._measured.get(key)
        if known is not None:
            return known
        start, end = _slots_of(window, past.slot_s)
        early, late = _tolerance(past, trigger, window)
        base = usual.path(start - early, end + late) or [math.nan] * (early + end - start + late)
        least = 1 / past.slot_s
        result = Brought(
            load=tuple(past.rates(start - early, end + late)),
            usual=tuple(max(least, each) for each in base),
            lead=early,
            length=end - start,
            noise=usual.noise(start - early),
        )
        if self._is_over(past, trigger, window):
            _bounded(self._measured)[key] = result
        return result

    def _is_over(self, past: Past, trigger: Trigger, window: Window) -> bool:
        """Whether all is measured from which an occurrence is told, the level after it included."""
        settled = _tolerance(past, trigger, window)[1] + past.slots(HOUR_S)
        return _slots_of(window, past.slot_s)[1] + settled <= past.end_slot


def explained(trigger: Trigger, effect: Effect | None, slot_s: int) -> str:
    """Where the expectation comes from, for people: ``learned from 3 occurrences: × 4.2, 12 min``."""
    if effect is not None and effect.visible:
        count = f"{effect.occurrences} occurrence" + ("s" if effect.occurrences > 1 else "")
        minutes = max(1, round(effect.slots * slot_s / MINUTE_S))
        said = f"learned from {count}: × {effect.rise:.3g}, {minutes} min"
        return f"detected, {trigger.confidence:.0%} sure, {said}" if trigger.confidence is not None else said
    parts = [f"× {trigger.expected_factor:.3g}"] if trigger.expected_factor > 1 else []
    if trigger.expected_extra_eps > 0:
        parts.append(f"+ {trigger.expected_extra_eps:.3g} events/s")
    if effect is not None and (not parts or effect.occurrences >= _DISPROVED):
        return f"{effect.occurrences} occurrences brought nothing" if effect.occurrences > 1 else "brought nothing yet"
    return f"as announced: {' '.join(parts)}" if parts else "its first occurrence will teach"


def _lift(observed: Sequence[float], expected: Sequence[float]) -> float:
    """By how much the part of an occurrence that is seen already exceeds what was expected of it; at least 1."""
    shares = [
        load / wanted for load, wanted in zip(observed, expected, strict=False) if wanted > 0 and math.isfinite(load)
    ]
    return min(_LARGEST_LIFT, max(1.0, median(shares))) if shares else 1.0


def _slots_of(window: Window, slot_s: int) -> tuple[int, int]:
    """The slots it touches: from, and up to but not including."""
    slot_ns = slot_s * NS_PER_S
    return window.start_ns // slot_ns, -(-window.end_ns // slot_ns)


def _tolerance(past: Past, trigger: Trigger, window: Window) -> tuple[int, int]:
    """Slots before and after a window in which it may show as well."""
    least_s, most_s = _LATE_S
    length_s = (window.end_ns - window.start_ns) / NS_PER_S
    # What was detected has its tails within its window already.
    late_s = _PUNCTUALITY_S if trigger.detected else min(most_s, max(least_s, length_s / 2))
    return past.slots(_EARLY_S), past.slots(late_s)


def _late_ns(trigger: Trigger) -> int:
    """How long after a window of it something may still show, at most."""
    least_s, most_s = _LATE_S
    return max(least_s * NS_PER_S, min(most_s * NS_PER_S, trigger.duration_ns)) if trigger.cron else most_s * NS_PER_S


def _bounded(remembered: dict[Any, Any]) -> dict[Any, Any]:
    """Room for one more: the oldest goes."""
    while len(remembered) >= _MOST_REMEMBERED:
        del remembered[next(iter(remembered))]
    return remembered
