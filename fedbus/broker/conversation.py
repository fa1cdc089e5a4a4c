"""What sessions say to an instance: each message to the part that it concerns, each error back as a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedbus.batch import Buffer
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.errors import FedbusError, ProtocolError, UnknownSessionError
from fedbus.routing.table import RoutingTable

if TYPE_CHECKING:
    from fedbus.broker.broker import Broker

# What instances of other regions may say.
FROM_REGIONS = (p.Ping, p.Pull, p.Credit, p.Unsubscribe, p.Follow, p.Taken, p.Goodbye)


class Conversations:
    """All sessions of a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._ledgers = broker.ledgers
        self._subscriptions = broker.subscriptions
        self._table: e.ApplyTable | None = None

    @property
    def table_version(self) -> int:
        """Of the routing table that sessions are told (0: none)."""
        return self._table.version if self._table is not None else 0

    def received(self, session: bytes, frames: Sequence[Buffer], now_ns: int, peer: str = "") -> None:
        """A message from a session; ``peer``: the region it has proven to be of, if not the own one."""
        request = 0
        try:
            message = p.decode_from_peer(frames)
            request = getattr(message, "request", 0)
            if isinstance(message, p.Hello):
                self._hello(session, message, now_ns, peer)
            elif (known := self._broker.sessions.heard(session, now_ns)) is None or known.peer != peer:
                raise UnknownSessionError(f"instance {self._broker.instance} does not know this session: say hello")
            elif peer and not isinstance(message, FROM_REGIONS):
                raise ProtocolError(f"instances of other regions say no {type(message).__name__.lower()} here")
            else:
                self._take(session, message, frames, now_ns)
        except FedbusError as error:
            self._broker.refused += 1
            self._broker.malformed += isinstance(error, ProtocolError)
            home = getattr(error, "region", "")
            refusal = p.Refused(request, error.code, error.detail, error.retryable, error.retry_after_ms, home)
            self._ledgers.effects.append(e.Send(session, refusal))

    def _hello(self, session: bytes, hello: p.Hello, now_ns: int, peer: str) -> None:
        broker = self._broker
        self._subscriptions.session_ended(session, now_ns)
        broker.intake.geo.targets.ended(session)
        version = broker.sessions.open(session, hello, now_ns, peer)
        welcome = p.Welcome(
            version, broker.region, broker.instance, self._ledgers.current, self.table_version,
            broker.sessions.timeout_ms, broker.limits.publish_window_bytes, broker.limits,
        )  # fmt: skip
        self._ledgers.effects.append(e.Send(session, welcome))
        if hello.want_table and self._table is not None:
            self._ledgers.effects.append(e.Send(session, p.Table(self._table.version), (self._table.data,)))

    def _take(self, session: bytes, message: p.FromPeer, frames: Sequence[Buffer], now_ns: int) -> None:
        broker, subscriptions = self._broker, self._subscriptions
        match message:
            case p.Publish():
                put_off = self._ledgers.pausing and broker.replication.lineage.put_off(session, message, frames, now_ns)
                if not put_off:
                    broker.intake.publish(session, message, frames, now_ns)
            case p.Credit(subscription, events):
                if message.durable_to >= 0 and broker.intake.geo.credited(session, message):
                    subscriptions.pump(now_ns)
                subscriptions.credit((session, subscription), events, now_ns)
            case p.Ack() | p.Nack() | p.Extend():
                subscriptions.members.settle(session, message, now_ns)
            case p.Ping(nonce):
                pong = p.Pong(nonce, broker.instance, self._ledgers.current, broker.state, broker.counters())
                self._ledgers.effects.append(e.Send(session, pong))
            case p.Subscribe():
                subscriptions.subscribe(session, message, now_ns)
            case p.Pull():
                self._pull(session, message, now_ns)
            case p.Unsubscribe(request, subscription):
                subscriptions.end((session, subscription), now_ns)
                broker.intake.geo.targets.ended(session, subscription)
                self._ledgers.effects.append(e.Send(session, p.Ok(request)))
            case p.Goodbye():
                self.end(session, now_ns, politely=True)
            case _:
                self._take_from_instance(session, message, frames, now_ns)

    def _pull(self, session: bytes, pull: p.Pull, now_ns: int) -> None:
        known = self._broker.sessions.heard(session, now_ns)
        region = known.hello.region if known is not None else ""
        self._subscriptions.pull(session, pull, self._broker.policies, region, now_ns)
        if self._broker.intake.geo.pulled(session, region, pull):
            self._subscriptions.pump(now_ns)

    def _take_from_instance(self, session: bytes, message: p.FromPeer, frames: Sequence[Buffer], now_ns: int) -> None:
        """What other instances ask."""
        broker = self._broker
        match message:
            case p.Follow():
                known = broker.sessions.heard(session, now_ns)
                region = known.hello.region if known is not None else ""
                self._subscriptions.sharing.follow(session, region, message, now_ns)
            case p.Taken():
                self._subscriptions.sharing.taken(session, message, now_ns)
            case p.AskSlots():
                broker.key_slots.releases.ask(session, message, self._subscriptions.groups)
            case p.Reject():
                broker.intake.judge.answer(session, message, now_ns)
            case p.Append() | p.Fetch():
                broker.replication.message(session, message, frames, now_ns)

    def end(self, session: bytes, now_ns: int, *, politely: bool = False) -> None:
        """A session is over."""
        self._broker.intake.geo.targets.ended(session)
        if self._broker.sessions.close(session):
            self._subscriptions.session_ended(session, now_ns, politely=politely)

    def expire(self, now_ns: int) -> None:
        """Sessions that were silent for too long are over."""
        for session in self._broker.sessions.expired(now_ns):
            self.end(session, now_ns)
            self._ledgers.effects.append(e.Forget(session))

    def apply_table(self, table: e.ApplyTable, now_ns: int) -> None:
        """A routing table; only a newer one changes anything. Raises :class:`ProtocolError` if it cannot be read."""
        if self._table is not None and table.version <= self._table.version:
            return
        decoded = RoutingTable.decode(table.data)
        self._broker.intake.slot_owners.adopt_table(decoded)
        self._broker.inquiry.adopt_table(decoded)
        self._broker.key_slots.apply(decoded, now_ns)
        self._table = table
        for session in self._broker.sessions:
            if session.hello.want_table:
                self._ledgers.effects.append(e.Send(session.id, p.Table(table.version), (table.data,)))
