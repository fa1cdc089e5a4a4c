"""Inflow: what comes in for one subscription from all instances of a region, queued until it is read.

Live ones keep a cursor (per origin ledger the next offset) and go on from it after any loss, so that nothing is missed
or comes twice. Groups leave that to the instances, which deliver again what was not acknowledged; their members attach
where the group is at home (``client/whereabouts.py``), and what they acknowledge after it went is said there
(``client/homeless.py``). Queued are at most ``credit`` events per instance.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque

import msgspec

from fedbus.batch import Batch
from fedbus.broker import protocol as wire
from fedbus.client.attachment import Attachment
from fedbus.client.connection import Connection
from fedbus.client.homeless import Homeless
from fedbus.client.whereabouts import Whereabouts
from fedbus.errors import FedbusError


class SubscriptionSpec(msgspec.Struct, frozen=True):
    """What is subscribed to. ``group`` empty: live."""

    filters: list[str]
    group: str
    start: wire.Start
    credit: int
    options: wire.GroupOptions


class Arrived(msgspec.Struct):
    """A delivery not yet handed out.

    ``floor``: offsets below it were had before. ``next_offset``: where a cursor stands once it has been handed out.
    """

    attachment: Attachment
    session: int
    deliver: wire.Deliver
    batch: Batch
    floor: int
    next_offset: int


class Inflow:
    """Attachments, what arrived through them, and how far that is."""

    def __init__(self, spec: SubscriptionSpec, number: int, where: Whereabouts) -> None:
        self.spec = spec
        self.queue: deque[Arrived] = deque()
        # Next offset per ledger, of what has been handed out; what was had before the start stays had.
        self.read: dict[str, int] = {} if spec.group else dict(spec.start.cursor)
        self.reading: Arrived | None = None  # being handed out
        self.failure: FedbusError | None = None
        self.attachments: dict[str, Attachment] = {}
        self._received: dict[str, int] = {}  # next offset per ledger, of what has arrived
        self._number = number
        self._member = secrets.token_hex(8)
        self._where = where
        self._known = frozenset(where.connections())  # the instances there were at the start
        self.homeless = Homeless(self.attachments.values, lambda: self.stands)
        self._change: asyncio.Future[None] | None = None
        self.refresh()

    @property
    def stands(self) -> bool:
        """Whether all instances that can be reached have the subscription, and at least one has."""
        attachments = self.attachments.values()
        return any(a.standing for a in attachments) and all(a.standing or a.hopeless for a in attachments)

    def refresh(self) -> None:
        """Attach to exactly the instances there are now."""
        connections = self._where.connections()
        if self._where.moved:
            self._known |= connections.keys()  # the group is no younger than they are
        for instance, attachment in list(self.attachments.items()):
            if connections.get(instance) is not attachment.connection:
                del self.attachments[instance]
                attachment.lost()
                attachment.end()
        for instance, connection in connections.items():
            if instance not in self.attachments:
                credit = self.spec.credit
                attachment = Attachment(self, instance, connection, self._number, credit)
                self.attachments[instance] = attachment
                attachment.attach()

    def elsewhere(self, region: str) -> None:
        """The group is at home in that region."""
        if self._where.told(region):
            self.refresh()

    def beat(self) -> None:
        """A moment has passed."""
        reachable = any(attachment.connection.ready for attachment in self.attachments.values())
        beat = self._where.beat if self.spec.group else self._where.beat_live
        if beat(reachable=reachable):
            self.refresh()

    def connection_changed(self, connection: Connection, *, ready: bool) -> None:
        """A session with one of the instances begins or has ended."""
        for attachment in self.attachments.values():
            if attachment.connection is connection:
                if ready:
                    attachment.attach()
                else:
                    attachment.lost()
                    self.wake()

    def request_for(self, attachment: Attachment, request: int) -> wire.Subscribe:
        """The request that makes this instance go on where the subscription stands."""
        spec = self.spec
        start = spec.start
        late = attachment.instance not in self._known
        going_on = not spec.group and start.kind in ("latest", "cursor")
        if going_on and self._where.moved and self._received:
            start = wire.Start("time", self._where.since_ms)  # what was had before is known by its position
        elif going_on and (late or attachment.ever_stood):
            start = wire.Start("cursor", cursor={**start.cursor, **self._received})
        elif late and start.kind == "latest":
            start = wire.EARLIEST  # whatever it has came after the start
        attachment.from_latest = start.kind == "latest"
        return wire.Subscribe(
            request,
            self._number,
            spec.filters,
            start,
            spec.credit,
            spec.group,
            self._member,
            spec.options,
        )

    def attached(self, attachment: Attachment, tails: dict[str, int]) -> None:
        """From now on a cursor must say where the tails were, if ``latest`` was asked for (and not a cursor)."""
        self.homeless.attached(attachment)
        if not self.spec.group and attachment.from_latest:
            for ledger, offset in tails.items():
                self._received.setdefault(ledger, offset)
                self.read.setdefault(ledger, offset)
        self.wake()

    def arrived(self, attachment: Attachment, deliver: wire.Deliver, frames: list[bytes]) -> None:
        """Queue a delivery."""
        floor = 0
        if not self.spec.group:
            floor = self._received.get(deliver.ledger, 0)
            self._received[deliver.ledger] = max(floor, deliver.next_offset)
        if frames[1]:
            batch = Batch.decode(frames[1], frames[2])
            self.queue.append(Arrived(attachment, attachment.session, deliver, batch, floor, deliver.next_offset))
            self.wake()
        else:
            self._skip_to(deliver.ledger, deliver.next_offset)

    def _skip_to(self, ledger: str, next_offset: int) -> None:
        """Nothing below ``next_offset`` matches any more; a cursor says so once what came before is handed out."""
        for arrived in (*reversed(self.queue), self.reading):
            if arrived is not None and arrived.deliver.ledger == ledger:
                arrived.next_offset = max(arrived.next_offset, next_offset)
                return
        self.read[ledger] = max(self.read.get(ledger, 0), next_offset)

    def failed(self, error: FedbusError) -> None:
        """Everything ends with this error."""
        self.failure = error
        self.wake()

    async def close(self) -> None:
        """Unsubscribe everywhere."""
        self.homeless.close()
        await asyncio.gather(*(attachment.close() for attachment in self.attachments.values()))
        self.queue.clear()
        self.wake()

    async def changed(self) -> None:
        """Wait until something arrives, an attachment stands or falls, or it fails."""
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._change)

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)
