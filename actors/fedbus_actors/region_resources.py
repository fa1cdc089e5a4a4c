"""Resource metrics of a region as its instances report them: the present ones at hand, slots of them in the store."""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.clock import NS_PER_S, Clock
from fedbus.storage.store import ResourceMetrics, ResourceSlot, Store
from fedbus_actors.fleet import Member


class RegionResources:
    """CPU, memory and network of every instance and, added up, of the region (scope ``region/NAME``)."""

    def __init__(self, region: str, slot_s: int, store: Store, clock: Clock) -> None:
        self._region = region
        self._slot_s = slot_s
        self._store = store
        self._clock = clock
        self._slot_ns = slot_s * NS_PER_S
        self._began_ns = clock.now_ns() // self._slot_ns * self._slot_ns
        self._readings: dict[str, list[ResourceMetrics]] = {}
        self.latest: dict[str, ResourceMetrics] = {}
        """The last reading by instance id; none of those that are gone."""

    @property
    def cpu_share(self) -> dict[str, float]:
        """Share of one core that each instance used lately."""
        return {instance: reading.cpu_share for instance, reading in self.latest.items()}

    def collect(self, members: Iterable[Member]) -> None:
        """Take what the instances have just reported; store the slot before when another has begun."""
        now_ns = self._clock.now_ns()
        self._close(now_ns)
        heard, nodes = False, {}
        known, self.latest = self.latest, {}
        for member in members:
            instance = member.record.id
            if member.fresh and member.report is not None:
                heard = True
                self.latest[instance] = reading = _reading(member, now_ns)
                self._readings.setdefault(reading.scope, []).append(reading)
            elif instance in known:
                self.latest[instance] = known[instance]
            if instance in self.latest:
                nodes[member.record.node] = self.latest[instance]
        if heard:
            total = ResourceMetrics(
                scope=f"region/{self._region}",
                time_ns=now_ns,
                cpu_share=sum(each.cpu_share for each in self.latest.values()),
                memory_bytes=sum(each.memory_bytes for each in self.latest.values()),
                # The network's rates are those of nodes: instances on one report the same.
                received_bytes_per_s=sum(each.received_bytes_per_s for each in nodes.values()),
                sent_bytes_per_s=sum(each.sent_bytes_per_s for each in nodes.values()),
            )
            self._readings.setdefault(total.scope, []).append(total)

    def _close(self, now_ns: int) -> None:
        if now_ns < self._began_ns + self._slot_ns:
            return
        slots = [ResourceSlot.of(self._began_ns, readings) for readings in self._readings.values()]
        self._store.resource_metrics.record(self._slot_s, slots)
        self._readings = {}
        self._began_ns = now_ns // self._slot_ns * self._slot_ns


def _reading(member: Member, now_ns: int) -> ResourceMetrics:
    assert member.report is not None
    usage = member.report.usage
    return ResourceMetrics(
        scope=f"instance/{member.record.id}",
        time_ns=now_ns,
        cpu_share=usage.cpu_share,
        memory_bytes=usage.memory_bytes,
        received_bytes_per_s=usage.node_received_bytes_per_s,
        sent_bytes_per_s=usage.node_sent_bytes_per_s,
    )
