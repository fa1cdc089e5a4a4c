"""The broker core: one door, ``handle(input, now_ns) -> effects``.

Puts together a bus instance's ledgers, publish path, subscriptions and links. Assumes a shell that executes effects in
order and answers writes and reads with inputs; knows no sockets, files or clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedbus.batch import Buffer
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.feed import Feeds
from fedbus.broker.intake import Intake
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link import LinkTargets
from fedbus.broker.recovery import FoldedState, States
from fedbus.broker.session import Sessions
from fedbus.broker.status import BrokerStatus, group_status
from fedbus.broker.subscriptions import Subscriptions
from fedbus.errors import FedbusError, ProtocolError, UnknownSessionError
from fedbus.limits import Limits
from fedbus.routing.table import RoutingTable


class Broker:
    """One incarnation of an instance. ``ledger``: the one it writes; ``closed``: its earlier ones with their ends."""

    def __init__(self, region: str, instance: str, ledger: str, closed: Mapping[str, int], limits: Limits) -> None:
        self.region = region
        self.instance = instance
        self.limits = limits
        self.ledgers = Ledgers(ledger, closed, limits)
        self.sessions = Sessions(limits.sessions, limits.name_bytes)
        self.intake = Intake(region, instance, self.ledgers, limits)
        self.feeds = Feeds(self.ledgers, limits.read_chunk_bytes, limits.reads_waiting)
        self.subscriptions = Subscriptions(self.ledgers, self.feeds, limits)
        self.links = LinkTargets(instance, region, self.ledgers)
        self.folded = FoldedState(self.ledgers, self.intake, self.subscriptions, self.links)
        self.table: e.ApplyTable | None = None
        self.malformed = 0
        self.refused = 0

    def start(self, state: States, now_ns: int) -> list[e.Effect]:
        """Fold the state that earlier incarnations left (from the newest snapshot on), then write it anew."""
        self.folded.recover(state, self.ledgers.names(), now_ns)
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
                    self.ledgers.confirmed(number)
                    self.links.progress.confirmed(number)
                    self.subscriptions.groups.confirmed(now_ns)
                    self.subscriptions.pump(now_ns)
            case e.Records():
                self.feeds.answered(event)
                self.subscriptions.pump(now_ns)
            case e.Tick():
                self._tick(now_ns)
            case e.WriteRefused() | e.WriteFailed():
                self._not_written(event, now_ns)
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
        effects, subscriptions = self.ledgers.effects, self.subscriptions
        match message:
            case p.Publish():
                self.intake.publish(session, message, frames, now_ns)
            case p.Credit(subscription, events):
                subscriptions.credit((session, subscription), events, now_ns)
            case p.Ack() | p.Nack() | p.Extend():
                subscriptions.settle(session, message, now_ns)
            case p.Ping(nonce):
                pong = p.Pong(nonce, self.instance, self.ledgers.current, self.state, self.counters())
                effects.append(e.Send(session, pong))
            case p.Subscribe():
                subscriptions.subscribe(session, message, now_ns)
            case p.Pull():
                subscriptions.pull(session, message, now_ns)
            case p.Unsubscribe(request, subscription):
                subscriptions.end((session, subscription), now_ns)
                effects.append(e.Send(session, p.Ok(request)))
            case p.Goodbye():
                self._end_session(session, now_ns)

    def _end_session(self, session: bytes, now_ns: int) -> None:
        if self.sessions.close(session):
            self.subscriptions.session_ended(session, now_ns)

    # -- disk, time and control ----------------------------------------------------------------------------------------

    def _not_written(self, event: e.WriteRefused | e.WriteFailed, now_ns: int) -> None:
        """Go back to what is durable, and refuse whoever waits for more."""
        if isinstance(event, e.WriteFailed):
            self.ledgers.failed = event.detail
        elif event.generation != self.ledgers.generation:
            return
        lost = self.ledgers.void()
        lost += self.subscriptions.void()
        self.ledgers.effects += self.intake.void(lost, event.detail, now_ns)
        self.links.void(now_ns)

    def _tick(self, now_ns: int) -> None:
        for session in self.sessions.expired(now_ns):
            self._end_session(session, now_ns)
            self.ledgers.effects.append(e.Forget(session))
        self.subscriptions.tick(now_ns)
        self.links.tick(now_ns)

    def _control(self, event: e.Input, now_ns: int) -> None:
        match event:
            case e.PeerReceived(endpoint, frames):
                try:
                    self.links.received(endpoint, frames, now_ns)
                except ProtocolError:
                    self.malformed += 1
            case e.ApplyTable(version):
                if self.table is None or version > self.table.version:
                    self._apply_table(event)
            case e.ApplyLinks(links):
                self.links.apply(links, now_ns)
            case e.Drain():
                self.intake.draining = True
            case e.Adopt(closed, state):
                self.ledgers.adopt(closed)
                self.folded.recover(state, closed, now_ns)
                self.subscriptions.ledgers_changed()
                self.subscriptions.pump(now_ns)

    def _apply_table(self, table: e.ApplyTable) -> None:
        self.intake.adopt_table(RoutingTable.decode(table.data))
        self.table = table
        for session in self.sessions:
            if session.hello.want_table:
                self.ledgers.effects.append(e.Send(session.id, p.Table(table.version), (table.data,)))

    # -- what it says of itself ----------------------------------------------------------------------------------------

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
        return BrokerStatus(
            self.instance, self.ledgers.current, self.state,
            ledgers={name: self.ledgers.end(name) for name in self.ledgers.names()},
            groups=[group_status(group, self.ledgers) for group in self.subscriptions.groups],
            live=self.subscriptions.live_filters(),
            links={ledger: dict(scanned) for ledger, scanned in self.links.progress.scanned.items()},
            table_version=self.table.version if self.table else 0,
            counters=self.counters(),
            failed=self.ledgers.failed,
        )  # fmt: skip

    def _take_effects(self) -> list[e.Effect]:
        effects, self.ledgers.effects = self.ledgers.effects, []
        return effects
