"""V1: what was acknowledged reaches every durable subscription that matched it, or its end is on record."""

from __future__ import annotations

from collections.abc import Iterator

from fedbus.topic import FilterSet
from fedbus_loadtests.chaos.entry import Entry, region_of
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.published import Publication, Published
from fedbus_loadtests.chaos.violation import Violations

NS_PER_MS = 1_000_000


class DurableSubscription:
    """A group: from when on it has a claim to events, and what reached it (or became a dead letter of it)."""

    def __init__(self, subscribed: Entry) -> None:
        self.subscribed = subscribed
        self.since_ns = 0 if subscribed.start == "earliest" else subscribed.time_ns
        self.got: set[str] = set()
        self.settled: set[str] = set()  # acknowledged, or a dead letter
        self.refused: dict[str, Entry] = {}  # given back, and neither of these yet
        self._filters = FilterSet(subscribed.topic.split())

    def claims(self, publication: Publication) -> bool:
        """Whether this event was due to it."""
        invoked = publication.invoked
        return invoked.time_ns >= self.since_ns and self._filters.matches(invoked.topic)


class Delivered:
    """With one copy, what was on a lost or damaged disk may be missing; V8 sees to it that damage is reported.

    Of a region that is gone what is younger than its published recovery point may be, nothing of a synchronous topic.
    """

    def __init__(self, promise: Promise, published: Published) -> None:
        self.violations = Violations("V1")
        self._one_copy = promise.replicas == 1
        self._published = published
        self._subscriptions: dict[str, DurableSubscription] = {}
        self._gone: dict[str, list[tuple[int, int]]] = {}  # ledger → offsets that may be missing
        self._synchronous = FilterSet(promise.synchronous)
        self._away: dict[str, Entry] = {}  # region → since when it is gone

    def see(self, entry: Entry) -> None:
        """Collect what arrived, and what may be missing."""
        if entry.operation == "subscribe" and entry.kind == "ok" and not entry.live:
            self._subscriptions.setdefault(entry.subscription, DurableSubscription(entry))
        elif entry.operation in ("deliver", "dead", "ack", "nack"):
            if entry.subscription in self._subscriptions:
                self._arrived(self._subscriptions[entry.subscription], entry)
        elif entry.operation == "expire" or (entry.operation == "damage" and self._one_copy):
            self._gone.setdefault(entry.ledger, []).append((entry.offset, entry.end))
        elif entry.operation == "gone":
            self._away[entry.target] = entry
        elif entry.operation == "back":
            self._away.pop(entry.target, None)
        elif entry.operation == "lose" and self._one_copy:
            self._gone.setdefault(entry.position, []).append((0, 1 << 63))

    def _arrived(self, subscription: DurableSubscription, entry: Entry) -> None:
        if entry.operation in ("deliver", "dead"):
            subscription.got.add(entry.id)
        if entry.operation == "dead" or (entry.operation == "ack" and entry.kind == "ok"):
            subscription.settled.add(entry.id)
        if entry.operation in ("dead", "ack"):  # an ack that was only begun may have been the last word
            subscription.refused.pop(entry.id, None)
        elif entry.operation == "nack" and entry.id not in subscription.settled:
            subscription.refused[entry.id] = entry

    def unsettled(self) -> Iterator[tuple[Entry, DurableSubscription]]:
        """What was given back, is not lost, and neither came again to be acknowledged nor became a dead letter."""
        for subscription in self._subscriptions.values():
            for refused in subscription.refused.values():
                if not self._may_be_gone(refused):
                    yield refused, subscription

    def due(self) -> Iterator[tuple[Publication, DurableSubscription]]:
        """What is acknowledged and has not arrived where it should."""
        for publication in self._published.by_id.values():
            if not publication.acked or all(self._excused(publication, acked) for acked in publication.acked):
                continue
            for subscription in self._subscriptions.values():
                if publication.invoked.id not in subscription.got and subscription.claims(publication):
                    yield publication, subscription

    def end(self) -> None:
        """Whatever is still due is lost."""
        for publication, subscription in self.due():
            acked, subscribed = publication.acked[0], subscription.subscribed
            self.violations.add(
                f"{acked.id} was acknowledged at {acked.position} and never reached {subscribed.subscription}",
                subscribed, publication.invoked, acked,
            )  # fmt: skip
        for refused, subscription in self.unsettled():
            name = subscription.subscribed.subscription
            text = f"{refused.id} was given back by {name} and is neither acknowledged nor a dead letter"
            self.violations.add(text, refused)

    def _excused(self, publication: Publication, acked: Entry) -> bool:
        if self._may_be_gone(acked):
            return True
        gone = self._away.get(region_of(acked.position))
        synchronous = self._synchronous.matches(publication.invoked.topic)
        return gone is not None and not synchronous and acked.time_ns >= gone.time_ns - gone.lag_ms * NS_PER_MS

    def _may_be_gone(self, acked: Entry) -> bool:
        gone = self._gone.get(acked.ledger)
        return gone is not None and any(first <= acked.offset < end for first, end in gone)
