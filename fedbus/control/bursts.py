"""Recurring bursts that nobody announced: the same minutes of an hour, a day, working days or a week, again and again.

A slot is a burst where the load stands out from the median around it, by a factor and by far more than the noise. A
burst recurs if it came in nearly all periods of the recent past, at least three, and so regularly that chance does not
explain it (binomial tail over all the places where it could have been seen). What stops coming is no longer found.
Bursts longer than three quarters of an hour are the season's, which the forecaster learns.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedbus.control.load import NS_PER_S
from fedbus.control.trigger import Trigger

if TYPE_CHECKING:
    import numpy.typing as npt

    from fedbus.control.usual import LoadSlots

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

HOUR_S, DAY_S, WEEK_S = 3600, 86_400, 7 * 86_400
#: The median around a slot: of so many blocks' medians, each so long.
_BLOCK_S, _BLOCKS = 600, 13
#: A burst is so many times the median, and so many deviations (robust, of the same day) above it.
_LEAST_FACTOR, _DEVIATIONS = 1.5, 6.0
_EARLIEST_S = 120
"""Occurrences may be earlier or later by this."""
_FEWEST, _MOST_PERIODS = 3, 28
_SHARE = 0.75
#: The most likely number of bursts found by chance in a whole history.
_CHANCE = 0.01
_LONGEST_S = 2700
_MOST_FOUND = 16
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
_FRIDAY = 4


class _Rhythm(NamedTuple):
    """A period, the name people give it, the periods that take part and how cron writes its days."""

    name: str
    period_s: int
    working_days: bool = False


_RHYTHMS = (
    _Rhythm("hourly", HOUR_S),
    _Rhythm("on working days", DAY_S, working_days=True),
    _Rhythm("daily", DAY_S),
    _Rhythm("weekly", WEEK_S),
)


def detect_bursts(history: LoadSlots, announced: tuple[Trigger, ...], region: str, now_ns: int) -> tuple[Trigger, ...]:
    """The bursts that recur, as triggers with their confidence, those of the shortest period first; most: sixteen.

    What ``announced`` triggers explain is not looked at. Times are UTC. Never raises for odd histories.
    """
    slot_s = history.slot_s
    end = min(len(history.events), now_ns // (slot_s * NS_PER_S) - history.first_slot)
    start = max(0, end - _MOST_PERIODS * DAY_S // slot_s)
    if slot_s > _BLOCK_S or HOUR_S % slot_s or (end - start) * slot_s < _FEWEST * HOUR_S:
        return ()
    counts = np.asarray(history.events[start:end], dtype=np.float64)
    counts = np.where((counts >= 0) & (counts < 1e15), counts, np.nan)  # noqa: PLR2004 - no counter gets there
    first = history.first_slot + start
    known = np.isfinite(counts)
    hits = _standing_out(counts, slot_s)
    _forget_announced(hits, known, announced, first, slot_s)
    found: list[Trigger] = []
    for rhythm in _RHYTHMS:
        if len(found) >= _MOST_FOUND or not hits.any():
            break
        for phase, length, confidence in _recurring(hits, known, first, slot_s, rhythm):
            found.append(_trigger(region, rhythm, phase, length, slot_s, confidence))
            _explain(hits, first, rhythm.period_s // slot_s, phase, length)
    return tuple(found[:_MOST_FOUND])


def _standing_out(counts: Floats, slot_s: int) -> Flags:
    """Which slots stand out from the median around them."""
    block = max(1, _BLOCK_S // slot_s)
    padded = np.concatenate([counts, np.full(-len(counts) % block, np.nan)]).reshape(-1, block)
    known = np.isfinite(counts)
    level = _blocks_level(padded)
    middle = (np.arange(len(level)) + 0.5) * block - 0.5
    there = np.isfinite(level)
    if not there.any():
        return np.zeros(len(counts), dtype=np.bool_)
    usual = np.interp(np.arange(len(counts)), middle[there], level[there])
    above = np.where(known, counts - usual, 0.0)
    deviation = np.full(len(counts), np.nan)
    day = DAY_S // slot_s
    for begin in range(0, len(counts), day):
        span = slice(begin, begin + day)
        if known[span].any():
            deviation[span] = 1.4826 * np.median(np.abs(above[span][known[span]]))
    # Counts are noisy by their square root, whatever the recent past looked like.
    least = np.sqrt(np.maximum(usual, 1.0))
    loud = above >= _DEVIATIONS * np.fmax(deviation, least)
    flags: Flags = known & loud & (counts >= _LEAST_FACTOR * usual)
    return flags


def _blocks_level(padded: Floats) -> Floats:
    """The median around each block, of blocks' medians; NaN where nothing was measured."""
    medians = np.full(len(padded), np.nan)
    full = np.isfinite(padded).all(axis=1)
    medians[full] = np.median(padded[full], axis=1)
    for index in np.flatnonzero(~full & np.isfinite(padded).any(axis=1)):
        medians[index] = np.nanmedian(padded[index])
    half = _BLOCKS // 2
    around = np.concatenate([np.full(half, np.nan), medians, np.full(half, np.nan)])
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(around, _BLOCKS), axis=1)
    there = np.isfinite(windows).sum(axis=1)
    level: Floats = windows[np.arange(len(windows)), np.maximum(0, (there - 1) // 2)]
    return np.where(there > 0, level, np.nan)


def _forget_announced(hits: Flags, known: Flags, announced: tuple[Trigger, ...], first: int, slot_s: int) -> None:
    """Slots in the windows of triggers are no bursts, and no silence either."""
    slot_ns = slot_s * NS_PER_S
    for trigger in announced:
        for window in trigger.occurrences(first * slot_ns, (first + len(hits)) * slot_ns):
            early = (window.start_ns - HOUR_S // 4 * NS_PER_S) // slot_ns - first
            late = -(-(window.end_ns + HOUR_S // 2 * NS_PER_S) // slot_ns) - first
            span = slice(max(0, early), max(0, late))
            hits[span], known[span] = False, False


def _recurring(hits: Flags, known: Flags, first: int, slot_s: int, rhythm: _Rhythm) -> list[tuple[int, int, float]]:
    """(phase, length, confidence) of the bursts of a rhythm; phases are slots from the epoch, modulo the period."""
    period = rhythm.period_s // slot_s
    tolerance = max(1, _EARLIEST_S // slot_s) if slot_s <= _EARLIEST_S else 0
    wide = np.convolve(hits, np.ones(2 * tolerance + 1), "same") > 0 if tolerance else hits
    rows, seen = _by_period(wide & known, first, period), _by_period(known, first, period)
    numbers = first // period + np.arange(len(rows))
    free = np.ones(period, dtype=np.bool_)
    if rhythm.working_days:
        chosen = (numbers + _EPOCH_WEEKDAY) % 7 <= _FRIDAY
        # Only what a weekend was seen without; else it is daily.
        weekend = ~chosen
        free = np.logical_and(seen[weekend].any(axis=0), ~np.any(rows[weekend] & seen[weekend], axis=0))
        rows, seen = rows[chosen], seen[chosen]
    limit = _MOST_PERIODS if rhythm.period_s < WEEK_S else 8
    rows, seen = rows[-limit:], seen[-limit:]
    chance = float(wide[known].mean()) if known.any() else 1.0
    times, came = seen.sum(axis=0), (rows & seen).sum(axis=0)
    good = free & (came >= _FEWEST) & (came >= _SHARE * times) & _lately(rows, seen)
    for phase in np.flatnonzero(good):
        if period * _tail(int(came[phase]), int(times[phase]), chance) > _CHANCE:
            good[phase] = False
    confidence = (came + 1) / (times + 2)  # the rule of succession
    return [
        (start, length, float(confidence[(start + length // 2) % period]))
        for start, length in _runs(good)
        if length * slot_s <= _LONGEST_S + 2 * _EARLIEST_S
    ]


def _by_period(flags: Flags, first: int, period: int) -> Flags:
    """The flags as rows of one period each, aligned to the epoch; False where there is nothing."""
    before = first % period
    after = -(before + len(flags)) % period
    return np.concatenate([np.zeros(before, np.bool_), flags, np.zeros(after, np.bool_)]).reshape(-1, period)


def _lately(rows: Flags, seen: Flags) -> Flags:
    """Which phases had the burst in one of the last two periods in which they were measured."""
    left = np.full(rows.shape[1], 2)
    result = np.zeros(rows.shape[1], dtype=np.bool_)
    for row, measured in zip(rows[::-1], seen[::-1], strict=True):
        result |= row & measured & (left > 0)
        left -= measured
    return result


def _tail(came: int, times: int, chance: float) -> float:
    """Probability of at least ``came`` of ``times`` by chance."""
    if chance <= 0:
        return 0.0
    chance = min(1.0, chance)
    return sum(math.comb(times, k) * chance**k * (1 - chance) ** (times - k) for k in range(came, times + 1))


def _runs(good: Flags) -> list[tuple[int, int]]:
    """(start, length) of runs of True on the circle."""
    if good.all():
        return []
    shift = int(np.flatnonzero(~good)[0])
    rolled = np.roll(good, -shift)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rolled, [False]]).astype(np.int8)))
    return [
        (int((start + shift) % len(good)), int(end - start)) for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def _explain(hits: Flags, first: int, period: int, phase: int, length: int) -> None:
    """Take the bursts found out of those still to be explained."""
    at = (first + np.arange(len(hits)) - phase) % period
    hits[at < length] = False


def _trigger(region: str, rhythm: _Rhythm, phase: int, length: int, slot_s: int, confidence: float) -> Trigger:
    """A burst found as a trigger; it learns its effect as all do."""
    begin = datetime.fromtimestamp(phase * slot_s, UTC)
    weekday = (begin.weekday() + 1) % 7
    days = {"weekly": str(weekday), "on working days": "1-5"}.get(rhythm.name, "*")
    hour = "*" if rhythm.period_s == HOUR_S else str(begin.hour)
    said = f"{begin:%H:%M}" if rhythm.period_s > HOUR_S else f":{begin:%M}"
    said = f"{begin:%a} {said}" if rhythm.period_s == WEEK_S else said
    name = f"{rhythm.name} {said}"
    return Trigger(
        id="detected-" + name.replace(" ", "-").replace(":", "").lower(),
        name=name,
        region=region,
        cron=f"{begin.minute} {hour} * * {days}",
        duration_ns=length * slot_s * NS_PER_S,
        confidence=round(confidence, 3),
    )
