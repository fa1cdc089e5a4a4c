"""Geo-durability: topics whose events count only once a second region has them (protocol rule 20).

Such a batch is taken only while one of its target regions pulls its topics; it is stored, hidden
(``broker/geo_batches.py``), fetched by the targets over their links, and released when for each of its topics one of
them has said "durable here": then its producer is answered and it is dispatched. The topic policy in force says which
regions these are; a record says later what was released, so that a restart need not hear it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from fedbus.batch import Batch
from fedbus.broker import protocol as p
from fedbus.broker.effects import Send
from fedbus.broker.geo_batches import GeoBatch
from fedbus.broker.geo_targets import GeoTargets
from fedbus.broker.ledger import Ledgers
from fedbus.broker.policies import Policies
from fedbus.broker.record import Kind, encode_body
from fedbus.broker.settled import Settled
from fedbus.errors import OverloadedError, UnavailableError
from fedbus.limits import Limits
from fedbus.ranges import RangeSet

RETRY_MS = 500
NEW_LEDGER_NS = 5_000_000_000  # by then other regions pull a ledger that has just begun
RECORD_NS = 200_000_000  # what was released is recorded so often
ANSWERS_PER_BATCH = 8  # of sessions that ask again for the same batch the newest are answered

Place = tuple[str, int]  # ledger, offset
Asked = tuple[bytes, str, int]  # session, producer, sequence


class Waiting:
    """An answer that waits for record ``number`` of ``ledger``, and for what is at these places to be released."""

    __slots__ = ("answer", "ledger", "number", "places")

    def __init__(self, answer: Send, ledger: str, number: int, places: Iterable[Place]) -> None:
        self.answer = answer
        self.ledger = ledger
        self.number = number
        self.places = deque(places)


class GeoDurability:
    """One instance's. ``refused``: batches not taken because no target region was there."""

    def __init__(self, region: str, ledgers: Ledgers, limits: Limits, policies: Policies) -> None:
        self.targets = GeoTargets(region)
        self.refused = 0
        self._region = region
        self._ledgers = ledgers
        self._batches = ledgers.geo
        self._most_events = limits.geo_events
        self._policies = policies
        self._policies_version = policies.version
        self._waiting: dict[Place, dict[Asked, Waiting]] = {}
        self._released: dict[str, RangeSet] = {}  # not yet recorded
        self._next_record_ns = 0
        self._now_ms = 0
        self._ledger = ""
        self._began_ns = 0  # when that ledger was first seen here

    # -- what comes in -------------------------------------------------------------------------------------------------

    def concerns(self, topics: Iterable[str]) -> bool:
        """Whether a batch of these topics has to be in a second region before it counts."""
        return self._policies.federated and any(self._policies.in_second_region(topic) for topic in topics)

    def check(self, batch: Batch, now_ns: int) -> None:
        """Raise a retryable error if no region is there that could have this batch too, or too many wait for one."""
        if not self.concerns(batch.topics):
            return
        topics = [topic for topic in batch.topics if self._policies.in_second_region(topic)]
        ledger = self._to_be_pulled(now_ns)
        for topic in topics:
            rule = self._policies.rule(topic)
            if not self.targets.regions(topic, rule.regions, ledger, now_ns):
                self.refused += 1
                others = " or ".join(each for each in rule.regions if each != self._region) or "another region"
                raise UnavailableError(
                    f"topic {topic} is acknowledged only when {others} has it too (policy of {rule.filter}), and none "
                    "is pulling it now: nothing of this batch is stored; publish again with the same ids",
                    retry_after_ms=RETRY_MS,
                )
        if self._batches.events and self._batches.events + batch.count > self._most_events:
            self.refused += 1
            raise OverloadedError(
                f"{self._batches.events} events already wait for a second region; the limit is {self._most_events}",
                retry_after_ms=RETRY_MS,
            )

    def _to_be_pulled(self, now_ns: int) -> str:
        """Which ledger has to be pulled: the one being written, or any while other regions may not have heard of it."""
        if self._ledger != self._ledgers.current:
            self._ledger, self._began_ns = self._ledgers.current, now_ns
        return self._ledger if now_ns - self._began_ns > NEW_LEDGER_NS else ""

    def answer(self, answer: Send, number: int, batch: tuple[str, int], places: Iterable[Place]) -> None:
        """Answer once record ``number`` is confirmed and everything at these places is in a second region.

        ``batch``: producer and sequence; a session that asks again for one is answered once.
        """
        self._go_on((answer.session, *batch), Waiting(answer, self._ledgers.current, number, places))

    def _go_on(self, key: Asked, waiting: Waiting) -> None:
        while waiting.places:
            ledger, offset = waiting.places[0]
            batch = self._batches.holding(ledger, offset)
            if batch is not None:
                others = self._waiting.setdefault((ledger, batch.first_offset), {})
                others.pop(key, None)
                others[key] = waiting
                if len(others) > ANSWERS_PER_BATCH:
                    del others[next(iter(others))]
                return
            waiting.places.popleft()
        number = waiting.number if waiting.ledger == self._ledgers.current else -1
        self._ledgers.answer_when_confirmed(number, waiting.answer)

    # -- what other regions say ----------------------------------------------------------------------------------------

    def pulled(self, session: bytes, region: str, pull: p.Pull) -> bool:
        """Another region pulls a ledger; whether anything was released."""
        self.targets.pulled(session, region, pull)
        return self._review(pull.ledger)

    def credited(self, session: bytes, credit: p.Credit) -> bool:
        """Another region has more of a ledger; whether anything was released."""
        ledger = self.targets.credited(session, credit.subscription, credit.durable_to)
        return bool(ledger) and self._review(ledger)

    def review(self) -> bool:
        """Look at all of them (other policies, other ledgers); whether anything was released."""
        before = self._batches.changes
        for ledger in self._ledgers.names():
            self._review(ledger)
        return self._batches.changes != before

    def _review(self, ledger: str) -> bool:
        if not self._batches or not self._policies.version:  # without policies nobody knows which region counts
            return False
        before, end = self._batches.changes, self._ledgers.end(ledger)
        for batch in self._batches.in_ledger(ledger):
            if batch.next_offset <= end and self._is_durable(batch):
                self._release(batch)
        return self._batches.changes != before

    def _is_durable(self, batch: GeoBatch) -> bool:
        return all(
            self.targets.have(
                batch.ledger, topic, batch.first_offset, batch.next_offset, self._policies.rule(topic).regions
            )
            for topic in batch.topics
            if self._policies.in_second_region(topic)
        )

    def _release(self, batch: GeoBatch) -> None:
        self._batches.release(batch.ledger, batch.first_offset)
        self._released.setdefault(batch.ledger, RangeSet()).add(batch.first_offset, batch.next_offset)
        for key, waiting in self._waiting.pop((batch.ledger, batch.first_offset), {}).items():
            self._go_on(key, waiting)

    # -- time and disk -------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> bool:
        """Record what was released; whether other policies have released anything."""
        self._now_ms = now_ns // 1_000_000
        self._to_be_pulled(now_ns)
        changed = self._policies_version != self._policies.version and self.review()
        self._policies_version = self._policies.version
        if now_ns < self._next_record_ns:
            return changed
        self._next_record_ns = now_ns + RECORD_NS
        self._waiting = {place: each for place, each in self._waiting.items() if self._batches.holding(*place)}
        if self._released and self._ledgers.writable:
            released, self._released = self._released, {}
            body = [Settled(ledger, list(ranges)) for ledger, ranges in released.items()]
            self._ledgers.append(Kind.GEO_DURABLE, now_ns, payload=encode_body(body))
        return changed

    def void(self) -> list[Send]:
        """Unconfirmed records were never stored; returns the answers that will not be given."""
        current, confirmed = self._ledgers.current, self._ledgers.confirmed_number
        self._batches.drop(current, self._ledgers.confirmed_offset)
        lost: list[Send] = []
        for place, others in list(self._waiting.items()):
            for key, waiting in list(others.items()):
                if waiting.ledger == current and waiting.number > confirmed:
                    lost.append(others.pop(key).answer)
            if not others:
                del self._waiting[place]
        return lost

    # -- what there is to say of it ------------------------------------------------------------------------------------

    def counters(self) -> dict[str, int]:
        """Gauges: events that wait for a second region, and for how long the oldest has; and what was refused."""
        oldest_ms = self._batches.oldest_ms() or self._now_ms
        return {
            "geo_waiting_events": self._batches.events,
            "geo_waiting_ms": max(0, self._now_ms - oldest_ms),
            "geo_refused": self.refused,
        }
