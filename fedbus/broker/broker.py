"""The broker core: one door, ``handle(input, now_ns) -> effects``.

Puts together a bus instance's ledgers, publish path, subscriptions and links. Assumes a shell that executes effects in order
and answers writes and reads with inputs; knows no sockets, files or clocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fedbus.batch import Buffer
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.feed import Feeds
from fedbus.broker.intake import Intake
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link import LinkTargets
from fedbus.broker.live import Live
from fedbus.broker.record import Kind, Record, encode_body
from fedbus.broker.session import Sessions
from fedbus.broker.state import Snapshot, group_decoder, scanned_decoder, settled_decoder, snapshot_decoder
from fedbus.broker.status import BrokerStatus, GroupStatus
from fedbus.broker.subscriptions import Subscriptions
from fedbus.errors import FedbusError, ProtocolError, UnknownSessionError
from fedbus.limits import Limits
from fedbus.routing.table import RoutingTable


class Broker:
    """One incarnation of a bus instance. ``ledger``: the one it writes; ``closed``: its earlier ones with their ends."""

    def __init__(self, region: str, instance: str, ledger: str, closed: Mapping[str, int], limits: Limits) -> None:
        self.region = region
        self.instance = instance
        self.limits = limits
        self.ledgers = Ledgers(ledger, closed, limits, self._snapshot)
        self.sessions = Sessions(limits.sessions)
        self.intake = Intake(region, instance, self.ledgers, limits)
        self.feeds = Feeds(self.ledgers, limits.read_chunk_bytes, limits.reads_waiting)
        self.subscriptions = Subscriptions(self.ledgers, self.feeds, limits)
        self.links = LinkTargets(instance, region, self.ledgers)
        self.table: e.ApplyTable | None = None
        self.malformed = 0
        self.refused = 0

    def start(self, state: Iterable[tuple[str, Record]], now_ns: int) -> list[e.Effect]:
        """Fold the state that earlier incarnations left (ledger, record; newest snapshot first), then write it anew."""
        self._fold(state)
        self.subscriptions.restored(self.ledgers.names(), self._ends())
        self.ledgers.snapshot_now(now_ns)
        return self._take_effects()

    def handle(self, event: e.Input, now_ns: int) -> list[e.Effect]:
        """The one door: apply one input, return what the shell has to do, in order."""
        match event:
            case e.Received(session, frames):
                self._received(session, frames, now_ns)
            case e.Unroutable(session):
                self._end_session(session, now_ns)
            case e.Durable(number, generation):
                if generation == self.ledgers.generation:
                    visible = self.ledgers.confirmed(number)
                    self.links.confirmed(number)
                    if visible:
                        self.subscriptions.pump(now_ns)
            case e.Records():
                self.feeds.answered(event)
                self.subscriptions.pump(now_ns)
            case e.Tick():
                self._tick(now_ns)
            case e.WriteRefused() | e.WriteFailed():
                self._not_written(event, now_ns)
            case e.PeerReceived(endpoint, frames):
                self._peer_received(endpoint, frames, now_ns)
            case _:
                self._control(event, now_ns)
        return self._take_effects()

    # -- messages ------------------------------------------------------------------------------------------------------

    def _received(self, session: bytes, frames: Sequence[Buffer], now_ns: int) -> None:
        request = 0
        try:
            message = p.decode_from_peer(frames)
            request = getattr(message, "request", 0)
            if isinstance(message, p.Hello):
                self._hello(session, message, now_ns)
            elif self.sessions.heard(session, now_ns) is None:
                raise UnknownSessionError(f"instance {self.instance} does not know this session: say hello")
            else:
                self._message(session, message, frames, now_ns)
        except FedbusError as error:
            self.refused += 1
            self.malformed += isinstance(error, ProtocolError)
            refusal = p.Refused(request, error.code, error.detail, error.retryable, error.retry_after_ms)
            self.ledgers.effects.append(e.Send(session, refusal))

    def _hello(self, session: bytes, hello: p.Hello, now_ns: int) -> None:
        self.subscriptions.session_ended(session, now_ns)
        version = self.sessions.open(session, hello, now_ns)
        welcome = p.Welcome(
            version, self.region, self.instance, self.ledgers.current, self.table.version if self.table else 0,
            self.sessions.timeout_ms, self.limits.publish_window_bytes, self.limits,
        )  # fmt: skip
        self.ledgers.effects.append(e.Send(session, welcome))
        if hello.want_table and self.table is not None:
            self.ledgers.effects.append(e.Send(session, p.Table(self.table.version), (self.table.data,)))

    def _message(self, session: bytes, message: p.FromPeer, frames: Sequence[Buffer], now_ns: int) -> None:
        match message:
            case p.Publish():
                self.intake.publish(session, message, frames, now_ns)
            case p.Credit(subscription, events):
                self.subscriptions.credit((session, subscription), events, now_ns)
            case p.Ack() | p.Nack() | p.Extend():
                self.subscriptions.settle(session, message, now_ns)
            case p.Ping(nonce):
                self.ledgers.effects.append(e.Send(session, self._pong(nonce)))
            case p.Subscribe():
                self.subscriptions.subscribe(session, message, now_ns)
            case p.Pull():
                self.subscriptions.pull(session, message, now_ns)
            case p.Unsubscribe(request, subscription):
                self.subscriptions.end((session, subscription), now_ns)
                self.ledgers.effects.append(e.Send(session, p.Ok(request)))
            case p.Goodbye():
                self._end_session(session, now_ns)

    def _end_session(self, session: bytes, now_ns: int) -> None:
        if self.sessions.close(session):
            self.subscriptions.session_ended(session, now_ns)

    def _peer_received(self, endpoint: str, frames: Sequence[Buffer], now_ns: int) -> None:
        try:
            self.links.received(endpoint, frames, now_ns)
        except ProtocolError:
            self.malformed += 1

    # -- disk and control ----------------------------------------------------------------------------------------------

    def _not_written(self, event: e.WriteRefused | e.WriteFailed, now_ns: int) -> None:
        generation = event.generation if isinstance(event, e.WriteRefused) else self.ledgers.generation
        if isinstance(event, e.WriteFailed):
            self.ledgers.failed = event.detail
        if generation == self.ledgers.generation:
            lost = self.ledgers.void(generation)
            self.ledgers.effects += self.intake.void(lost, self.ledgers.next_number(), event.detail)
            if not self.ledgers.failed:
                self.links.void(now_ns)

    def _tick(self, now_ns: int) -> None:
        for session in self.sessions.expired(now_ns):
            self._end_session(session, now_ns)
        if not self.ledgers.failed:
            self.subscriptions.tick(now_ns)
            self.links.tick(now_ns)

    def _control(self, event: e.Input, now_ns: int) -> None:
        match event:
            case e.ApplyTable(version, data):
                if self.table is None or version > self.table.version:
                    self.intake.adopt_table(RoutingTable.decode(data))
                    self.table = event
                    for session in self.sessions:
                        if session.hello.want_table:
                            self.ledgers.effects.append(e.Send(session.id, p.Table(version), (data,)))
            case e.ApplyLinks(links):
                self.links.apply(links, now_ns)
            case e.Drain():
                self.intake.draining = True
            case e.Adopt(closed, state):
                self._adopt(closed, state, now_ns)

    def _adopt(self, closed: dict[str, int], state: list[tuple[str, Record]], now_ns: int) -> None:
        self.ledgers.closed.update(closed)
        self._fold(state)
        self.subscriptions.restored(closed, self._ends())
        self.ledgers.snapshot_now(now_ns)
        for key, stream in list(self.subscriptions.streams.items()):
            if isinstance(stream, Live):  # its cursor, kept by the client, says what of these ledgers it has had
                self.subscriptions.end(key, now_ns)
                ended = p.Ended(
                    key[1], "ledgers_changed", "more ledgers are served here: subscribe again with the cursor"
                )
                self.ledgers.effects.append(e.Send(key[0], ended))
        self.subscriptions.pump(now_ns)

    # -- state ---------------------------------------------------------------------------------------------------------

    def _snapshot(self) -> bytes:
        state = Snapshot(self.intake.dedup.snapshot(), self.subscriptions.states(), self.links.state())
        return encode_body(state)

    def _fold(self, state: Iterable[tuple[str, Record]]) -> None:
        for ledger, record in state:
            if record.kind is Kind.EVENTS:
                self.intake.fold(ledger, record)
                origin = record.events_meta().origin
                if origin is not None:
                    self.links.fold(origin.ledger, dict.fromkeys(origin.filters, origin.scanned_to))
            elif record.kind is Kind.SETTLED:
                self.subscriptions.restore_settled(settled_decoder.decode(record.payload))
            elif record.kind is Kind.GROUP:
                self.subscriptions.restore_group(group_decoder.decode(record.payload).spec)
            elif record.kind is Kind.SCANNED:
                for part in scanned_decoder.decode(record.payload):
                    self.links.fold(part.ledger, part.scanned_to)
            else:
                self._fold_snapshot(snapshot_decoder.decode(record.payload))

    def _fold_snapshot(self, snapshot: Snapshot) -> None:
        self.intake.dedup.restore(snapshot.producers)
        for group in snapshot.groups:
            self.subscriptions.restore_group(group.spec, group)
        for link in snapshot.links:
            self.links.fold(link.ledger, link.scanned_to)

    def _ends(self) -> dict[str, int]:
        """Per origin ledger the offset up to which earlier incarnations may have dispatched."""
        linked = {ledger: max(scanned.values(), default=0) for ledger, scanned in self.links.scanned.items()}
        return linked | {name: self.ledgers.end(name) for name in self.ledgers.closed}

    def _pong(self, nonce: int) -> p.Pong:
        return p.Pong(nonce, self.instance, self.ledgers.current, self.state, self.counters())

    @property
    def state(self) -> str:
        """What the instance says of itself: healthy, draining or failed."""
        return "failed" if self.ledgers.failed else "draining" if self.intake.draining else "healthy"

    def counters(self) -> dict[str, int]:
        """Totals since start, and gauges."""
        return {
            "events_in": self.intake.events_in,
            "bytes_in": self.intake.bytes_in,
            "batches_in": self.intake.batches_in,
            "duplicates": self.intake.duplicates,
            "events_out": self.subscriptions.events_out,
            "linked_events": self.links.linked_events,
            "refused": self.refused,
            "malformed": self.malformed,
            "damaged_events": self.feeds.damaged_events,
            "sessions": len(self.sessions),
            "unconfirmed_bytes": self.ledgers.pending_bytes,
        }

    def status(self) -> BrokerStatus:
        """Everything the manager wants to know."""
        groups = [
            GroupStatus(
                group.spec.name, group.spec.filters, group.members.names(), group.backlog(self.ledgers),
                group.settlement.outstanding, group.redelivered,
            )
            for group in self.subscriptions.groups.values()
        ]  # fmt: skip
        live = {
            pattern
            for s in self.subscriptions.streams.values()
            if isinstance(s, Live)
            for pattern in s.filters.patterns
        }
        ends = {name: self.ledgers.end(name) for name in self.ledgers.names()}
        return BrokerStatus(
            self.instance, self.ledgers.current, self.state, ends, groups, sorted(live), self.links.scanned,
            self.table.version if self.table else 0, self.counters(), self.ledgers.failed,
        )  # fmt: skip

    def _take_effects(self) -> list[e.Effect]:
        effects, self.ledgers.effects = self.ledgers.effects, []
        return effects
