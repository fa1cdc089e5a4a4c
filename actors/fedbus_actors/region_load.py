"""Load of a region as measured: instances' counters to slots of history, in memory and in the store."""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.clock import Clock, SystemClock
from fedbus.control.load import CounterReading, LoadHistory, LoadMeter, LoadSample, RateMeter
from fedbus.control.view import ObservedLoad
from fedbus.options.control import ForecastingOptions
from fedbus.position import LedgerId
from fedbus.storage.store import Store
from fedbus_actors.fleet import Member

OBSERVED_SLOTS = 2
#: What counts as the present rate: over at least this part of a slot.
RATE_SLOTS = 0.5
#: A report is taken at the latest in the poll after the one it was asked for.
LONGEST_WAIT_NS = 3_000_000_000
#: Forgetting what is old looks at every series of the store.
RETAIN_EVERY_NS = 3_600_000_000_000


class RegionLoad:
    """The load history of one region and the present rates of its instances."""

    def __init__(self, region: str, options: ForecastingOptions, store: Store, clock: Clock) -> None:
        self._region = region
        self._options = options
        self._store = store
        self._clock = clock
        self._real = SystemClock()
        now_ns = clock.now_ns()
        self.slot_s = options.slot_s
        self._meter = LoadMeter(now_ns, self.slot_s)
        self.history = LoadHistory(self.slot_s, options.history_ms // options.slot_ms)
        since_ns = now_ns - options.history_ms * 1_000_000
        self.history.extend(store.load_history.between(region, self.slot_s, since_ns, now_ns))
        self._retained_ns = 0
        self._before: dict[str, CounterReading] = {}
        self._meters: dict[str, RateMeter] = {}
        self.rates: dict[str, tuple[float, float]] = {}
        """Events/s and bytes/s between the last two reports, of the instances that have just reported."""
        self.published: dict[str, int] = {}
        self.published_total = 0
        self.delivered_total = 0
        self._delivered: dict[str, int] = {}

    def collect(self, members: Iterable[Member]) -> None:
        """Take the counters of the instances that have just reported; store the slots that are complete now."""
        now_ns = self._clock.now_ns()
        present = set()
        for member in members:
            present.add(member.record.id)
            if member.report is not None and member.fresh:
                self._read(member, now_ns)
            else:  # whoever stands in for it has its load now; until that is known, the last slots hold
                self.rates.pop(member.record.id, None)
        for gone in set(self._before) - present:
            self._meter.forget(gone)
            del self._before[gone], self._meters[gone]
            self.rates.pop(gone, None)
        slots = self._meter.close(now_ns)
        if slots:
            self._store.load_history.record(self._region, self.slot_s, slots)
            self.history.extend(slots)
        if now_ns - self._retained_ns >= RETAIN_EVERY_NS:
            self._retained_ns = now_ns
            self._store.retain(now_ns, self._options.kept_ns, self._options.metrics_kept_ns)

    def _read(self, member: Member, now_ns: int) -> None:
        assert member.report is not None
        instance, counters = member.record.id, member.report.status.counters
        # Events that came over links are this region's load too: they are written and dispatched here.
        events = counters["events_in"] + counters["linked_events"]
        epoch = LedgerId.parse(member.report.status.ledger).epoch
        started_ns, made_ns = self._moments(member, now_ns)
        size = counters["bytes_in"] + counters["linked_bytes"]
        reading = CounterReading(instance, epoch, started_ns, made_ns, events, size)
        self._meter.read(reading)
        self._meters.setdefault(instance, RateMeter(RATE_SLOTS * self.slot_s)).read(reading)
        before = self._before.get(instance)
        continued = before is not None and before.epoch == epoch
        if before is not None and before.epoch == epoch and made_ns > before.time_ns:
            passed_s = (made_ns - before.time_ns) / 1e9
            self.rates[instance] = (events - before.events) / passed_s, (reading.bytes - before.bytes) / passed_s
        known_in, known_out = (
            (self.published.get(instance, 0), self._delivered.get(instance, 0)) if continued else (0, 0)
        )
        self.published_total += counters["events_in"] - known_in
        self.delivered_total += counters["events_out"] - known_out
        self.published[instance], self._delivered[instance] = counters["events_in"], counters["events_out"]
        self._before[instance] = reading

    def _moments(self, member: Member, now_ns: int) -> tuple[int, int]:
        """When the incarnation began and when it reported, in the control plane's time (it tells its own real time).

        A report may have waited for those of slower instances; a node's clock may be wrong by more than that.
        """
        assert member.report is not None
        scale = 1 / self._clock.real_seconds(1.0)
        waited_ns = max(0, min(LONGEST_WAIT_NS, self._real.now_ns() - member.report.made_ns))
        made_ns = now_ns - round(waited_ns * scale)
        return made_ns - round((member.report.made_ns - member.report.started_ns) * scale), made_ns

    @property
    def complete(self) -> bool:
        """Whether every known instance was heard lately."""
        return not self._meter.silent(self._clock.now_ns())

    def observed(self) -> ObservedLoad | None:
        """The peak of the last slots and of the present rates; ``None`` before anything was measured."""
        now_ns = self._clock.now_ns()
        rates = [self._meters[instance].rate() for instance in self.rates]
        eps, bps = sum(rate[0] for rate in rates), sum(rate[1] for rate in rates)
        recent = self.history.recent_peak_eps(OBSERVED_SLOTS) if self._is_recent(now_ns) else None
        if not self.rates and recent is None:
            return None
        return ObservedLoad(now_ns, max(eps, recent or 0.0), bps)

    def _is_recent(self, now_ns: int) -> bool:
        return self.history.end_ns >= now_ns - (OBSERVED_SLOTS + 2) * self.history.slot_ns

    def since(self, known_until_ns: int) -> list[LoadSample]:
        """Slots from ``known_until_ns`` on."""
        if known_until_ns >= self.history.end_ns:
            return []
        return [sample for sample in self.history.samples() if sample.time_ns >= known_until_ns]
