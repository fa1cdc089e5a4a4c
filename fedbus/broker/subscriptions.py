"""All subscriptions of an instance: live ones, members of groups, and links that other regions pull.

Turns session messages into calls on them.
"""

from __future__ import annotations

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.effects import Send
from fedbus.broker.feed import Feed, Feeds
from fedbus.broker.group import Group
from fedbus.broker.groups import Groups
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link import LinkSource
from fedbus.broker.live import Live
from fedbus.broker.member import Member
from fedbus.errors import InvalidEventError, NotFoundError, OverloadedError, TooLargeError, UnavailableError
from fedbus.limits import Limits
from fedbus.topic import FilterSet, check_filter

Key = tuple[bytes, int]  # session, the session's number for the subscription


class Subscriptions:
    """Every subscription, by (session, number)."""

    def __init__(self, ledgers: Ledgers, feeds: Feeds, limits: Limits) -> None:
        self._ledgers = ledgers
        self._feeds = feeds
        self._limits = limits
        self.groups = Groups(ledgers, feeds, limits)
        self.streams: dict[Key, Live | LinkSource] = {}
        self._memberships: dict[Key, Group] = {}
        self.events_out = 0

    def subscribe(self, session: bytes, request: p.Subscribe, now_ns: int) -> None:
        """Attach a live subscription or a group member; raises a typed error and changes nothing if it may not be."""
        if not request.filters or len(request.filters) > self._limits.filters_per_group:
            raise InvalidEventError(f"a subscription has 1 to {self._limits.filters_per_group} filters")
        if max(len(request.group), len(request.member)) > self._limits.name_bytes:
            raise TooLargeError(f"names of groups and members have up to {self._limits.name_bytes} bytes")
        filters = sorted({check_filter(pattern) for pattern in request.filters})
        key = (session, request.subscription)
        self._check_room(key)
        credit = max(0, min(request.credit, self._limits.max_ack_window_events))
        done = Send(session, p.Subscribed(request.request, request.subscription, self._ledgers.tails()))
        if not request.group:
            cursor = Cursor.starting(request.start, self._ledgers)
            self.end(key, now_ns)
            self.streams[key] = Live(
                session, request.subscription, FilterSet(filters), cursor, credit, Feed(self._feeds)
            )
            self._ledgers.effects.append(done)
        else:
            group = self.groups.open(request, filters, now_ns)
            self.end(key, now_ns)
            name = request.member or session.hex()
            group.join(Member(name, session, request.subscription, credit, self._limits.member_credit_bytes))
            self._memberships[key] = group
            self._ledgers.answer_when_confirmed(group.recorded, done)
        self.pump(now_ns)

    def _check_room(self, key: Key) -> None:
        most = self._limits.subscriptions_per_session
        if key not in self.streams and key not in self._memberships and len(self._of(key[0])) >= most:
            raise OverloadedError(f"this session already has its {most} subscriptions")

    def _of(self, session: bytes) -> list[Key]:
        return [key for key in (*self.streams, *self._memberships) if key[0] == session]

    def pull(self, session: bytes, request: p.Pull, now_ns: int) -> None:
        """A link of another region; a newer pull of the same ledger by the same session replaces the older one."""
        if request.ledger not in self._ledgers.names():
            raise NotFoundError(f"ledger {request.ledger} is not served here")
        stream = LinkSource(session, request, Feed(self._feeds), self._limits.link_window_bytes)
        for key, older in list(self.streams.items()):
            if key[0] == session and isinstance(older, LinkSource) and older.ledger == request.ledger:
                del self.streams[key]
        self._check_room((session, request.subscription))
        self.streams[session, request.subscription] = stream
        self._ledgers.effects.append(Send(session, p.Ok(request.request)))
        self.pump(now_ns)

    def credit(self, key: Key, events: int, now_ns: int) -> None:
        """More events may be sent."""
        most = self._limits.max_ack_window_events
        stream = self.streams.get(key)
        if stream is not None:
            stream.grant(max(0, events), most)
            self.events_out += stream.pump(self._ledgers, self._ledgers.effects)
        elif (group := self._memberships.get(key)) is not None and (member := group.members.find(*key)) is not None:
            member.credit = min(most, member.credit + max(0, events))
            self._pump(group, now_ns)

    def settle(self, session: bytes, message: p.Ack | p.Nack | p.Extend, now_ns: int) -> None:
        """Ack, nack or extend; an ack with a request is answered when it is durable."""
        if sum(len(part.ranges) for part in message.settled) > self._limits.max_ack_window_events:
            raise TooLargeError(f"one message settles up to {self._limits.max_ack_window_events} ranges")
        group = self._memberships.get((session, message.subscription))
        if group is None:
            if isinstance(message, p.Ack) and message.request:
                raise NotFoundError("no such subscription in this session: subscribe again")
            return
        if isinstance(message, p.Ack):
            group.ack(message.settled)
            if message.request:
                self.groups.ok_when_durable(Send(session, p.Ok(message.request)), now_ns)
        elif isinstance(message, p.Nack):
            group.give_back(message.settled, now_ns, max(0, message.delay_ms))
        else:
            group.extend(message.settled, now_ns)
        self._pump(group, now_ns)

    def end(self, key: Key, now_ns: int) -> None:
        """One subscription ends."""
        self.streams.pop(key, None)
        group = self._memberships.pop(key, None)
        if group is not None:
            group.leave(*key)
            self._pump(group, now_ns)

    def session_ended(self, session: bytes, now_ns: int) -> None:
        """All of a session's subscriptions end."""
        for key in self._of(session):
            self.end(key, now_ns)

    def ledgers_changed(self) -> None:
        """Live subscriptions start anew: only their cursors, kept by the clients, say what of new ledgers they had."""
        detail = "more ledgers are served here: subscribe again with the cursor"
        for key, stream in list(self.streams.items()):
            if isinstance(stream, Live):
                del self.streams[key]
                self._ledgers.effects.append(Send(key[0], p.Ended(key[1], UnavailableError.code, detail)))

    def pump(self, now_ns: int) -> None:
        """Deliver whatever can be delivered now."""
        effects = self._ledgers.effects
        for stream in self.streams.values():
            self.events_out += stream.pump(self._ledgers, effects)
        for group in self.groups:
            self._pump(group, now_ns)

    def _pump(self, group: Group, now_ns: int) -> None:
        if len(group.members):
            self.events_out += group.pump(self._ledgers, self._ledgers.effects, now_ns)

    def live_filters(self) -> list[str]:
        """What live subscriptions ask for."""
        live = [stream for stream in self.streams.values() if isinstance(stream, Live)]
        return sorted({pattern for stream in live for pattern in stream.filters.patterns})

    def tick(self, now_ns: int) -> None:
        """Time has passed: deadlines, reads to try again, and acknowledgements to the ledger."""
        self._feeds.ticks += 1
        self.groups.flush(now_ns)
        self.pump(now_ns)

    def void(self) -> list[Send]:
        """Unconfirmed records were never stored: their groups end; returns the answers that will not be given."""
        gone, oks = self.groups.void()
        self._memberships = {key: group for key, group in self._memberships.items() if group.spec.name not in gone}
        return oks
