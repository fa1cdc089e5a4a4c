"""Hand-over of key slots, the new owner's side: what came before, elsewhere, is settled before what is new goes out.

When a routing table gives this instance slots it did not have, it asks every other instance of its region whether
events of these slots, published there until that instance had the table too, are still to be settled, per group; until
they say no, groups here withhold what is published to these slots from now on. Answers are pushed as they change
(``broker/release.py``). After ``key_handover_max_ms`` it goes on without (an owner that is gone cannot answer) and
counts the break. An instance that has just started, or has missed a table, asks about all of its slots.

Guarantee: per group, first deliveries of a key follow the order in which its events were published, across owners, if
the old owner (or who serves its ledgers) answers in time, and no batch was published around an owner that was
unreachable for its producer. What is withheld is bounded like all that is dispatched and not settled.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker import protocol as p
from fedbus.broker.in_flight import Portion
from fedbus.broker.ledger import Ledgers
from fedbus.broker.peers import Peers
from fedbus.broker.slot_mask import NO_SLOTS, from_bytes, mask_of, to_bytes
from fedbus.broker.stored import Stored
from fedbus.position import LedgerId
from fedbus.routing.table import RegionRoute

MILLISECOND = 1_000_000
ASK_AGAIN_NS = 500 * MILLISECOND
USER = "handover"
Mark = tuple[int, int]  # epoch, offset: events before it were published under an earlier table
NOT_OWN: Mark = (-1, -1)


class Marks:
    """Where events lie in the ledgers that this instance writes, over all of its epochs.

    ``instance``: its name in the routing table, with the region (``region/id``) or without.
    """

    def __init__(self, region: str, instance: str, ledgers: Ledgers) -> None:
        self._prefix = f"{instance}/" if instance.startswith(f"{region}/") else f"{region}/{instance}/"
        self._ledgers = ledgers
        self._epochs: dict[str, int] = {}

    def now(self) -> Mark:
        """Before everything that will be published from now on."""
        if self._ledgers.current:
            return self.epoch(self._ledgers.current), self._ledgers.next_offset()
        return max((self.epoch(name) for name in self._ledgers.names()), default=-1) + 1, 0

    def epoch(self, ledger: str) -> int:
        """The epoch of an own ledger; -1 for another's."""
        if ledger not in self._epochs:
            self._epochs[ledger] = LedgerId.parse(ledger).epoch if ledger.startswith(self._prefix) else -1
        return self._epochs[ledger]

    def of(self, batch: Stored | Portion) -> Mark:
        """Where a batch is; before everything if it was not published here."""
        epoch = self.epoch(batch.ledger) if batch.origin_ledger == batch.ledger else -1
        return (epoch, batch.first_offset) if epoch >= 0 else NOT_OWN


class Handover:
    """The slots that one table brought. ``answers``: per instance asked what is still open there, by group."""

    def __init__(self, number: int, version: int, slots: int, mark: Mark, until_ns: int, endpoints: list[str]) -> None:
        self.number = number
        self.version = version
        self.slots = slots
        self.mark = mark
        self.until_ns = until_ns
        self.answers: dict[str, dict[str, int] | None] = dict.fromkeys(endpoints)
        self.asked_ns = 0

    def open_for(self, group: str) -> int:
        """The slots that this group has to withhold."""
        found = NO_SLOTS
        for answer in self.answers.values():
            found |= self.slots if answer is None else answer.get(group, NO_SLOTS)
        return found & self.slots

    @property
    def done(self) -> bool:
        """Whether nothing is open anywhere."""
        return all(answer is not None and not answer for answer in self.answers.values())


class Handovers:
    """All that are under way. ``changes``: how often an answer has changed something."""

    def __init__(self, instance: str, ledgers: Ledgers, peers: Peers, marks: Marks, max_ms: int) -> None:
        self.changes = 0
        self._instance = instance
        self._peers = peers
        self._marks = marks
        self._max_ns = max_ms * MILLISECOND
        self._own = NO_SLOTS
        self._version = 0
        self._open: list[Handover] = []
        self._numbers = 0
        self._ledgers = ledgers

    @property
    def under_way(self) -> bool:
        """Whether anybody is waited for."""
        return bool(self._open)

    def apply(self, version: int, route: RegionRoute | None, now_ns: int) -> None:
        """A newer routing table says who has which slots."""
        routes = route.instances if route is not None else []
        places = route.owner_places() if route is not None else ()
        me = next((at for at, each in enumerate(routes) if each.instance == self._instance), None)
        own = mask_of(slot for slot, place in enumerate(places) if place == me) if me is not None else NO_SLOTS
        # Who had them in between, if tables were missed, is not known: whoever it was is asked about all.
        gained = own & ~self._own if version == self._version + 1 else own
        self._own, self._version = own, version
        others = [each.endpoint for each in routes if each.instance != self._instance]
        if gained and others:
            self._numbers += 1
            mark, until_ns = self._marks.now(), now_ns + self._max_ns
            self._open.append(Handover(self._numbers, version, gained, mark, until_ns, others))
            self.changes += 1
        self._settle_peers(now_ns)
        self._ask(now_ns)

    def received(self, endpoint: str, message: p.SlotsOpen) -> None:
        """An answer."""
        for handover in self._open:
            if handover.number == message.request and endpoint in handover.answers:
                handover.answers[endpoint] = {group: from_bytes(slots) for group, slots in message.slots.items()}
                self.changes += 1

    def welcomed(self, now_ns: int) -> None:
        """A session with some instance has begun (anew): it knows nothing of earlier questions."""
        for handover in self._open:
            handover.asked_ns = 0
        self._ask(now_ns)

    def tick(self, now_ns: int) -> list[Handover]:
        """Ask (again), let go of what is done; returns those whose time is over."""
        if not self._open:
            return []
        late = [each for each in self._open if each.until_ns <= now_ns and not each.done]
        left = [each for each in self._open if each.until_ns > now_ns and not each.done]
        if len(left) < len(self._open):
            self._open = left
            self.changes += 1
            self._settle_peers(now_ns)
        self._ask(now_ns)
        return late

    def barred(self, group: str, batch: Stored | Portion) -> int:
        """The slots whose events in this batch this group withholds."""
        if not self._open:
            return NO_SLOTS
        at = self._marks.of(batch)
        found = NO_SLOTS
        for handover in self._open:
            if at >= handover.mark:
                found |= handover.open_for(group)
        return found

    def _ask(self, now_ns: int) -> None:
        for handover in self._open:
            if now_ns - handover.asked_ns < ASK_AGAIN_NS:
                continue
            waiting = [endpoint for endpoint, answer in handover.answers.items() if answer is None or answer]
            ready = [endpoint for endpoint in waiting if self._peers.ready(endpoint)]
            for endpoint in ready:
                ask = p.AskSlots(handover.number, handover.version, to_bytes(handover.slots))
                self._peers.send(endpoint, ask)
            if ready:
                handover.asked_ns = now_ns

    def _settle_peers(self, now_ns: int) -> None:
        self._peers.keep(USER, sorted(_endpoints(self._open)), now_ns)


def _endpoints(handovers: Iterable[Handover]) -> set[str]:
    return {endpoint for each in handovers for endpoint, answer in each.answers.items() if answer is None or answer}
