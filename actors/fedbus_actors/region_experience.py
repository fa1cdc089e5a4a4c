"""What a region learns from running: how much its instances hold, and the minutes in which they did not hold enough.

Measured at every tick; what was learned is part of the plan's memory and so survives the manager.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from fedbus.control.calibration import Reading, calibrate
from fedbus.control.capacity import InstanceSize
from fedbus.control.load import LoadHistory, LoadSample
from fedbus.control.sla import Sla, max_latency_ms, violation_budget
from fedbus.control.view import Memory
from fedbus.control.violations import Service
from fedbus_actors.fleet import Member
from fedbus_actors.region_load import RegionLoad

#: Ticks remembered; a slot is judged a few ticks after its end.
SERVICES_KEPT = 4_000


class RegionExperience:
    """The measurements of one region's ticks."""

    def __init__(self, load: RegionLoad) -> None:
        self._load = load
        self._services: deque[Service] = deque(maxlen=SERVICES_KEPT)

    def serves(self, service: Service) -> None:
        """What is in service from now on."""
        self._services.append(service)

    def added_to(
        self,
        memory: Memory,
        members: Iterable[Member],
        sizes: Sequence[InstanceSize],
        slas: Sequence[Sla],
        now_ns: int,
    ) -> Memory:
        """The memory with what is known now of each size's capacity and of the minutes measured since."""
        readings = list(self._readings(members))
        violations = memory.violations.judged(self._measured(memory), self._load.slot_s, self._services)
        assurance = memory.assured(violation_budget(slas)).seen(violations.new_minutes, violations.new_violated)
        return msgspec.structs.replace(
            memory,
            assurance=assurance,
            calibrations=calibrate(memory.calibrations, readings, sizes, max_latency_ms(slas), now_ns),
            violations=violations,
        )

    def _readings(self, members: Iterable[Member]) -> Iterator[Reading]:
        for member in members:
            rates = self._load.rates.get(member.record.id)
            if rates is None or member.report is None or member.state not in ("healthy", "degraded"):
                continue
            yield Reading(
                size=member.record.size, load_eps=rates[0], load_bps=rates[1],
                latency_ms=member.vital.round_trip_ms, cpu_share=member.report.usage.cpu_share,
            )  # fmt: skip

    def _measured(self, memory: Memory) -> list[LoadSample]:
        """Slots not yet judged in which something was known to serve."""
        if not self._services:
            return []
        return _since(self._load.history, max(memory.violations.until_ns, self._services[0].at_ns))


def _since(history: LoadHistory, start_ns: int) -> list[LoadSample]:
    first = max(0, -(-start_ns // history.slot_ns) - history.first_slot)
    return [
        LoadSample((history.first_slot + slot) * history.slot_ns, history.events[slot], history.bytes[slot])
        for slot in range(first, len(history))
        if not math.isnan(history.events[slot])
    ]
