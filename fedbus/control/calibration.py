"""Calibration: what an instance of a size really holds at the SLA's latency, learned from those that run.

From readings of load, latency and CPU the capacity moves away from what was declared, within bounds:

- **CPU**: an instance that needs more CPU for its load than its share would allow is full earlier. A size holds the
  rate at which the CPU would be full (``FULL_CPU`` of a core: the data plane of an instance is one thread).
- **Latency**: a rate at which answers take longer than the SLA allows, several readings on end, is too much.
- **Proof**: more than was declared is believed only as far as it was carried, within the latency, and ``GROWTH`` more.

It falls fast and rises slowly, because believing too much breaks promises and believing too little costs an instance.
Events/s and bytes/s are judged apart: a reading is about the one nearer to its bound. Whatever is not known, or not a
number, leaves things as they are; without readings a size has its declared capacity.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

import msgspec

from fedbus.control.capacity import UNLIMITED, InstanceSize
from fedbus.control.load import NS_PER_S
from fedbus.control.wish import is_rate

#: Busy share of a core from which an instance is full: beyond it queues grow with every burst.
FULL_CPU = 0.85
#: An idle instance tells nothing: so much of a core is housekeeping at any load …
IDLE_CPU = 0.05
#: … and readings count from this share of its capacity on, or from the second one if that already keeps its CPU busy.
LEAST_FILL, LEAST_BUSY_FILL, BUSY_CPU = 0.2, 0.05, 0.5
#: Answers to probes may take this share of the latency promised: the rest is for writing and delivering.
ANSWER_SHARE = 0.5
#: So much more than was carried within the latency is believed.
GROWTH = 1.25
#: Beyond these shares of what was declared a capacity is never taken for real.
LOWEST, HIGHEST = 0.1, 2.0
#: Readings on end beyond the latency before a rate counts as too much, and what is believed of such a rate then.
BREACHES, AFTER_BREACH = 3, 0.9
#: Time constants: believing less, believing more, the same after a breach (a rate is tried again within days), and
#: forgetting what was once carried (machines and loads change).
FALL_S, RISE_S, RECOVER_S, FORGET_S = 120.0, 3_600.0, 2 * 86_400.0, 7 * 86_400.0
LONGEST_STEP_S = 60.0
#: A capacity this near to the declared one is not worth a word.
_REMARKABLE = 0.05


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a size: load, latency of its answers to probes (which queue with the data), share of a core.

    None: not known.
    """

    size: str
    load_eps: float
    load_bps: float
    latency_ms: float | None = None
    cpu_share: float | None = None


class Rate(msgspec.Struct, frozen=True):
    """One of a size's rates: what it is believed to hold and the most carried within the latency; share of declared.

    ``breaches``: readings on end beyond the latency.
    """

    share: float = 1.0
    proven: float = 0.0
    breaches: int = 0
    bound: str = ""
    """What decided last: "cpu", "latency" or "proof"."""


class SizeCalibration(msgspec.Struct, frozen=True):
    """What is known of one size, and for which declaration (another one starts anew)."""

    declared_eps: float
    declared_bps: float
    events: Rate = Rate()
    bytes: Rate = Rate()
    at_ns: int | None = None
    """When it was last read."""

    def calibrated(self, size: InstanceSize) -> InstanceSize:
        """The size with the capacities believed; as declared where they were declared anew since."""
        if (size.events_per_s, size.bytes_per_s) != (self.declared_eps, self.declared_bps):
            return size
        bps = size.bytes_per_s if size.bytes_per_s >= UNLIMITED else size.bytes_per_s * self.bytes.share
        return InstanceSize(size.name, size.events_per_s * self.events.share, bps, size.cost)

    @property
    def basis(self) -> str:
        """Where the capacity comes from, for people."""
        said = [
            f"{rate.share:.0%} of the {what} declared ({_BOUNDS[rate.bound]})"
            for what, rate in (("events/s", self.events), ("bytes/s", self.bytes))
            if rate.bound and abs(rate.share - 1) > _REMARKABLE
        ]
        return "calibrated: " + ", ".join(said) if said else "declared"


_BOUNDS = {
    "cpu": "then its CPU is full",
    "latency": "beyond it answers took longer than promised",
    "proof": "that much was carried",
}

Calibrations = dict[str, SizeCalibration]


def calibrate(
    known: Mapping[str, SizeCalibration],
    readings: Iterable[Reading],
    sizes: Sequence[InstanceSize],
    max_latency_ms: float,
    now_ns: int,
) -> Calibrations:
    """What is known of every size after one round of readings; sizes no longer there are forgotten."""
    by_size: dict[str, list[Reading]] = {}
    for reading in readings:
        if is_rate(reading.load_eps) and is_rate(reading.load_bps):
            by_size.setdefault(reading.size, []).append(reading)
    after: Calibrations = {}
    for size in sizes:
        before = known.get(size.name)
        declared = size.events_per_s, size.bytes_per_s
        if before is None or (before.declared_eps, before.declared_bps) != declared:
            before = SizeCalibration(*declared)
        after[size.name] = _after_round(before, by_size.get(size.name, []), max_latency_ms, now_ns)
    return after


def calibrated_sizes(sizes: Iterable[InstanceSize], known: Mapping[str, SizeCalibration]) -> tuple[InstanceSize, ...]:
    """The sizes with what they are believed to hold; declared capacities where nothing was learned."""
    return tuple(known[size.name].calibrated(size) if size.name in known else size for size in sizes)


def _after_round(
    before: SizeCalibration, readings: list[Reading], max_latency_ms: float, now_ns: int
) -> SizeCalibration:
    passed_s = LONGEST_STEP_S if before.at_ns is None else (now_ns - before.at_ns) / NS_PER_S
    if not readings or passed_s <= 0:
        return before
    step_s = min(LONGEST_STEP_S, passed_s)
    events: list[tuple[float, Reading]] = []
    size: list[tuple[float, Reading]] = []
    for reading in readings:
        by_events = reading.load_eps / before.declared_eps
        by_bytes = reading.load_bps / before.declared_bps
        (events if by_events >= by_bytes else size).append((max(by_events, by_bytes), reading))
    return SizeCalibration(
        before.declared_eps,
        before.declared_bps,
        _learned(before.events, events, max_latency_ms, step_s),
        _learned(before.bytes, size, max_latency_ms, step_s),
        now_ns,
    )


def _learned(before: Rate, found: list[tuple[float, Reading]], max_latency_ms: float, step_s: float) -> Rate:
    """A rate after readings of it, each with its load as a share of what is declared."""
    telling = [(share, reading) for share, reading in found if share >= _least_fill(reading) * before.share]
    if not telling:
        return before
    carried = median(share for share, _ in telling)
    # The latency of a round is its median: one instance that is slow is sick, and health looks after it.
    waits = [r.latency_ms for _, r in telling if r.latency_ms is not None and is_rate(r.latency_ms)]
    late = bool(waits) and median(waits) > ANSWER_SHARE * max_latency_ms
    breaches = before.breaches + 1 if late else 0
    proven = before.proven * math.exp(-step_s / FORGET_S)
    if waits and not late:
        proven = max(proven, carried)
    believed, bound = max(1.0, proven * GROWTH), "proof"
    # Instances of one size differ (their machines do): together they hold what they hold one by one.
    full = [share * (FULL_CPU - IDLE_CPU) / (cpu - IDLE_CPU) for share, cpu in _busy(telling)]
    if full and (by_cpu := fmean(full)) < believed:
        believed, bound = by_cpu, "cpu"
    rise_s = RISE_S
    if breaches >= BREACHES and carried * AFTER_BREACH < believed:
        believed, bound = carried * AFTER_BREACH, "latency"
    elif before.bound == "latency" and carried < before.share < believed * (1 - _REMARKABLE):
        bound, rise_s = "latency", RECOVER_S
    believed = min(HIGHEST, max(LOWEST, believed))
    weight = 1 - math.exp(-step_s / (FALL_S if believed < before.share else rise_s))
    return Rate(before.share + weight * (believed - before.share), proven, min(breaches, BREACHES), bound)


def _least_fill(reading: Reading) -> float:
    return LEAST_BUSY_FILL if reading.cpu_share is not None and reading.cpu_share >= BUSY_CPU else LEAST_FILL


def _busy(telling: list[tuple[float, Reading]]) -> list[tuple[float, float]]:
    """Load (share of declared) and CPU of the readings whose CPU is more than housekeeping."""
    known = ((share, reading.cpu_share) for share, reading in telling)
    return [(share, cpu) for share, cpu in known if cpu is not None and math.isfinite(cpu) and cpu > IDLE_CPU]
