"""An area: one region as a Router sees it: its standings, who may be picked, and who of them is an outlier."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Collection
from math import exp

from fedbus.keys import NO_OWNER, best_owner
from fedbus.routing.decision import AVOIDED, BETTER, DRAWN, ONLY, PROBE, TRIED, Decision
from fedbus.routing.ejection import FAILURES, OUT, PROBING, limit_ms, most_out
from fedbus.routing.standing import Standing
from fedbus.routing.table import InstanceRoute, RegionRoute

ADVANTAGE = 1.5  # so many times smaller a score has to be to count: less is noise, and chasing it is oscillation
TRY = 3.0  # the worse of two is tried with this power of how good it is against the better one: see `pick`
STALE_NS = 1_000_000_000  # publishes not seen for so long are less and less certain …
DRIFT_NS = 2_000_000_000  # … with this time constant
STICKY = 1.25  # a region's predicted latency changes when it differs by this factor …
STICKY_MS = 2.0  # … and by so much


class Area:
    """Standings in the table's order, slot owners, candidates. ``decided`` takes every decision, with its reason."""

    __slots__ = ("candidates", "decided", "expected_ms", "limit_ms", "looked_ns", "places", "predicted_ms", "probing",
                 "route", "standings")  # fmt: skip

    def __init__(
        self, route: RegionRoute, standings: list[Standing], expected_ms: float, decided: deque[Decision]
    ) -> None:
        self.route = route
        self.standings = standings
        self.places: array[int] = route.owner_places()
        self.decided = decided
        self.expected_ms = expected_ms
        self.predicted_ms = expected_ms
        self.limit_ms = limit_ms(expected_ms)
        self.looked_ns = -1
        self.candidates: list[Standing] = []
        self.probing: list[Standing] = []
        for standing in standings:
            if standing.trip.at_ns is None:
                standing.trip.ms = expected_ms
            standing.weigh()
        self.refresh()

    def inherit(self, before: Area | None) -> None:
        """What was found out about the region under an older table still holds."""
        if before is not None:
            self.limit_ms, self.looked_ns = before.limit_ms, before.looked_ns
            measured = any(standing.trip.at_ns is not None for standing in self.standings)
            if measured or before.expected_ms == self.expected_ms:
                self.predicted_ms = before.predicted_ms

    def refresh(self) -> None:
        """Recompute who may be picked: where all are out, all are in."""
        self.candidates = [standing for standing in self.standings if standing.candidate]
        self.probing = [standing for standing in self.standings if standing.probing]
        if not self.candidates:
            self.candidates = [standing for standing in self.standings if standing.takes_events]
            self.probing = []

    def pick(self, random: Callable[[], float], avoid: Collection[str]) -> InstanceRoute | None:
        """A probe if one is due, else the better of two candidates drawn at random; none of them in ``avoid``.

        Of two that are as good as equal, the one with less in flight. One that is worse by its answers to publishes
        is tried all the same, the less often the worse it is: else its one slow answer would stay its newest.
        """
        if self.probing and (probe := self._probe(avoid)) is not None:
            return probe
        candidates = self.candidates
        count = len(candidates)
        if count > 1:
            place = int(random() * count)
            first = candidates[place]
            other = int(random() * (count - 1))
            second = candidates[other + (other >= place)]
            first_ms, second_ms = first.score, second.score
            how = DRAWN
            if second_ms * ADVANTAGE < first_ms:
                how = TRIED
                if not first.doubtful or random() > (second_ms * ADVANTAGE / first_ms) ** TRY:
                    first, second, first_ms, second_ms, how = second, first, second_ms, first_ms, BETTER
            elif first_ms * ADVANTAGE < second_ms:
                how = BETTER
                if second.doubtful and random() < (first_ms * ADVANTAGE / second_ms) ** TRY:
                    first, second, first_ms, second_ms, how = second, first, second_ms, first_ms, TRIED
            elif second.in_flight * second.per_batch < first.in_flight * first.per_batch:
                first, second, first_ms, second_ms = second, first, second_ms, first_ms
            if not avoid or first.route.instance not in avoid:
                self.decided.append((how, first, second, first_ms, second_ms))
                return first.route
            if second.route.instance not in avoid:
                self.decided.append((AVOIDED, second, first, second_ms, first_ms))
                return second.route
        return self._left(random, avoid)

    def owner(self, slot: int, avoid: Collection[str]) -> InstanceRoute | None:
        """The slot's owner, or its rendezvous successor among those not avoided."""
        place = self.places[slot]
        if place != NO_OWNER and self.standings[place].route.instance not in avoid:
            return self.standings[place].route
        left = [s.route for s in self.standings if s.route.takes_events and s.route.instance not in avoid]
        return left[best_owner(slot, [route.instance for route in left])] if left else None

    def stored(self, standing: Standing, ms: float, now_ns: int) -> None:
        """A publish there was answered after ``ms``."""
        ejection = standing.ejection
        ejection.failures = 0
        standing.store.observe(ms, now_ns)
        standing.weigh()
        if ejection.state == PROBING and ejection.probed(ms, self.limit_ms, now_ns):
            standing.trip.forget()  # the heartbeats of the bad time say nothing any more
            self.refresh()

    def failed(self, standing: Standing, now_ns: int) -> None:
        """It failed to take a batch; a beat decides whether it is ejected, unless it is on probation."""
        standing.ejection.failures += 1
        if standing.ejection.state == PROBING:
            standing.ejection.eject("a probe failed", now_ns)
            self.refresh()

    def beat(self, now_ns: int, passed_ns: int) -> bool:
        """Judge the standings; whether the region's predicted latency has changed by enough to say so."""
        taking = [standing for standing in self.standings if standing.takes_events]
        seen = sorted(s.latency_ms for s in taking if s.measured and s.ejection.state != OUT)
        if seen:
            typical_ms = seen[(len(seen) - 1) // 2]
            self.limit_ms = limit_ms(typical_ms)
            self._age(taking, typical_ms, now_ns, passed_ns)
            self._judge(taking, typical_ms, now_ns)
            self.looked_ns = now_ns
        return self._predict(min((s.trip.ms for s in taking if s.trip.at_ns is not None), default=self.expected_ms))

    def _age(self, taking: list[Standing], typical_ms: float, now_ns: int, passed_ns: int) -> None:
        """What nobody publishes to any more is tried again some day: its estimate nears what the others take."""
        share = 1.0 - exp(-passed_ns / DRIFT_NS)
        for standing in taking:
            at_ns = standing.store.at_ns
            if at_ns is not None and now_ns - at_ns > STALE_NS and standing.ejection.state != OUT:
                standing.store.drift(typical_ms, share)
                standing.weigh()

    def _judge(self, taking: list[Standing], typical_ms: float, now_ns: int) -> None:
        before = [standing.ejection.state for standing in taking]
        unheard = []
        for standing in taking:
            ejection = standing.ejection
            ejection.may_probe = True
            if ejection.state == OUT:
                if ejection.wait(standing.trip.ms, self.limit_ms, now_ns):
                    standing.store.forget()
            elif ejection.state == PROBING:
                if standing.store.trusted and standing.store.ms > self.limit_ms:
                    ejection.probed(standing.store.ms, self.limit_ms, now_ns)
            else:
                latency = standing.resting_on
                if ejection.look(latency.ms, latency.newest_ms(self.looked_ns), self.limit_ms, now_ns):
                    unheard.append(standing)
        spare = most_out(len(taking)) - sum(standing.ejection.state != "in" for standing in taking)
        due = [standing for standing in taking if standing.ejection.state == "in" and standing.ejection.due]
        for standing in sorted(due, key=lambda each: -each.latency_ms)[: max(0, spare)]:
            standing.ejection.eject(_reason(standing, typical_ms), now_ns)
            spare -= 1
        for standing in [each for each in unheard if each.ejection.state == "in"][: max(0, spare)]:
            standing.ejection.doubt(now_ns)
            standing.store.forget()
        if before != [standing.ejection.state for standing in taking]:
            self.refresh()

    def _predict(self, ms: float) -> bool:
        held = self.predicted_ms
        if abs(ms - held) <= STICKY_MS or (ms < held * STICKY and held < ms * STICKY):
            return False
        self.predicted_ms = ms
        return True

    def _probe(self, avoid: Collection[str]) -> InstanceRoute | None:
        for standing in self.probing:
            if standing.ejection.may_probe and not standing.in_flight and standing.route.instance not in avoid:
                standing.ejection.may_probe = False
                self.decided.append((PROBE, standing, standing, standing.score, 0.0))
                return standing.route
        return None

    def _left(self, random: Callable[[], float], avoid: Collection[str]) -> InstanceRoute | None:
        """The best of all that are not avoided, those out included if there is nobody else."""
        left = [standing for standing in self.candidates if standing.route.instance not in avoid]
        left = left or [s for s in self.standings if s.takes_events and s.route.instance not in avoid]
        if not left:
            return None
        found = min(left, key=lambda standing: (standing.score, random()))
        self.decided.append((AVOIDED if avoid else ONLY, found, found, found.score, 0.0))
        return found.route


def _reason(standing: Standing, typical_ms: float) -> str:
    if standing.ejection.failures >= FAILURES:
        return f"{standing.ejection.failures} failures in a row"
    return f"{standing.latency_ms:.0f} ms, the region's median is {typical_ms:.1f}"
