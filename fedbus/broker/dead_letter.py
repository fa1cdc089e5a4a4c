"""Dead letters: what a group could not get rid of is written as a new event on its dead-letter topic, with the reason.

Only when that is durable the event counts as settled; a crash in between may repeat a dead letter and never loses it.
The copy has the data and attributes of the original; where it came from stands in extension attributes. It lies in the
ledger of the instance that gave up, and everybody may subscribe to the topic; those of pinned topics never leave the
region.
"""

from __future__ import annotations

from collections import deque

import msgspec

from fedbus.batch import BatchBuilder
from fedbus.broker import protocol as p
from fedbus.broker.deliveries import Deliveries
from fedbus.broker.feed import Feed
from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.in_flight import Portion
from fedbus.broker.ledger import Ledgers
from fedbus.broker.record import STAYS, EventsMeta, Kind, encode_body
from fedbus.broker.settlement import Settlement
from fedbus.broker.stored import Stored
from fedbus.errors import InvalidEventError
from fedbus.event import Event

REASON, GROUP, DELIVERIES = "deadletterreason", "deadlettergroup", "deadletterdeliveries"
TOPIC, POSITION = "deadlettertopic", "deadletterposition"
REASON_BYTES = 200
_META, _STAYS = encode_body(EventsMeta()), encode_body(EventsMeta(flags=STAYS))


class DeadLetters:
    """One group's. ``written``: events that have gone to the dead-letter topic since the start."""

    def __init__(self, settlement: Settlement, deliveries: Deliveries, feed: Feed) -> None:
        self.written = 0
        self._settlement = settlement
        self._deliveries = deliveries
        self._feed = feed
        self._under_way: deque[tuple[int, Portion]] = deque()  # with the number of its record

    def pump(self, spec: GroupSpec, ledgers: Ledgers, now_ns: int) -> None:
        """Write those that are condemned, as far as the ledger takes them."""
        condemned = self._deliveries.condemned
        while condemned and ledgers.writable and not ledgers.full:
            portion = condemned[0]
            portion.keep(self._deliveries.unsettled(portion))
            at = (portion.ledger, portion.first_offset)
            stored = self._feed.at(*at) if portion.ranges else None
            if portion.ranges and stored is None and self._feed.blank_until(*at) == portion.first_offset:
                return  # still to be read
            if stored is None or stored.first_offset != portion.first_offset:  # can no longer be read: reported there
                self._settle(portion)
            else:
                self._bury(spec, stored, portion, ledgers, now_ns)
            condemned.popleft()  # only now: a snapshot that went before the letter has to know of it

    def _bury(self, spec: GroupSpec, stored: Stored, portion: Portion, ledgers: Ledgers, now_ns: int) -> None:
        builder = BatchBuilder()
        places = stored.places(portion.ranges)
        for place, (topic, key, data) in zip(places, stored.batch.select(places).events(), strict=True):
            position = f"{portion.origin_ledger}:{stored.offsets[place]}"
            letter = _letter(spec.name, portion, topic, position, data)
            if letter is not None:
                builder.add(spec.dead_letter_topic, key, letter)
        if not len(builder):
            self._settle(portion)
            return
        batch = builder.build()
        meta = _STAYS if any(map(ledgers.pinned, stored.batch.topics)) else _META
        record = ledgers.append(
            Kind.EVENTS, now_ns, count=batch.count, meta=meta, index=batch.index_bytes, payload=batch.payload
        )
        self._deliveries.buried.append(portion)
        self._under_way.append((record.number, portion))

    def confirmed(self, ledgers: Ledgers) -> None:
        """Records have become durable: what they hold of dead letters is settled."""
        while self._under_way and ledgers.is_confirmed(self._under_way[0][0]):
            self._done()

    def rolled(self) -> None:
        """The ledger they were written to has ended: all of it is durable."""
        while self._under_way:
            self._done()

    def _done(self) -> None:
        _, portion = self._under_way.popleft()
        self._deliveries.buried.popleft()
        self.written += portion.count
        self._settle(portion)

    def void(self) -> None:
        """Unconfirmed records were never stored."""
        self._deliveries.condemned.extendleft(portion for _, portion in reversed(self._under_way))
        self._deliveries.buried.clear()
        self._under_way.clear()

    def _settle(self, portion: Portion) -> None:
        if portion.ranges:
            self._settlement.ack([p.Settled(portion.origin_ledger, portion.ranges)])
            self._deliveries.in_flight.settled()


def _letter(group: str, portion: Portion, topic: str, position: str, data: memoryview) -> bytes | None:
    """The event to write; ``None`` for this group's own dead letter: that one is where it belongs already."""
    try:
        event = Event.decode(data)
    except InvalidEventError:  # bytes that are no event: kept as they are
        event = Event(id=position, source="fedbus", type=topic, payload=bytes(data))
    attributes = dict(event.attributes or {})
    if attributes.get(GROUP) == group:
        return None
    attributes |= {
        REASON: portion.reason[:REASON_BYTES],
        GROUP: group,
        DELIVERIES: portion.delivery,
        TOPIC: topic,
        POSITION: position,
    }
    return msgspec.structs.replace(event, attributes=attributes).encode()
