"""All subscriptions of an instance: live ones, groups with their members, and links that other regions pull.

Turns session messages into calls on them, and makes groups and acknowledgements durable.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.effects import Send
from fedbus.broker.feed import Feed, Feeds
from fedbus.broker.group import Group
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link import LinkSource
from fedbus.broker.live import Live
from fedbus.broker.member import Member
from fedbus.broker.record import Kind, encode_body
from fedbus.broker.state import GroupRecord, GroupSettled, GroupSpec, GroupState
from fedbus.errors import ConflictError, InvalidEventError, OverloadedError
from fedbus.limits import Limits
from fedbus.position import LedgerId
from fedbus.topic import FilterSet, check_filter

Key = tuple[bytes, int]  # session, the session's number for the subscription


class Subscriptions:
    """Every subscription, by (session, number) and, for groups, by name."""

    def __init__(self, ledgers: Ledgers, feeds: Feeds, limits: Limits) -> None:
        self._ledgers = ledgers
        self._feeds = feeds
        self._limits = limits
        self.groups: dict[str, Group] = {}
        self.streams: dict[Key, Live | LinkSource] = {}
        self._memberships: dict[Key, Group] = {}
        self.events_out = 0

    def subscribe(self, session: bytes, request: p.Subscribe, now_ns: int) -> None:
        """Attach a live subscription or a group member; raises a typed error and changes nothing if it may not be."""
        if not request.filters or len(request.filters) > self._limits.filters_per_group:
            raise InvalidEventError(f"a subscription has 1 to {self._limits.filters_per_group} filters")
        filters = sorted({check_filter(pattern) for pattern in request.filters})
        key = (session, request.subscription)
        credit = max(0, min(request.credit, self._limits.max_ack_window_events))
        self.end(key, now_ns)
        done = Send(session, p.Subscribed(request.request, request.subscription, self.tails()))
        if not request.group:
            cursor = Cursor.starting(request.start, self._ledgers)
            self.streams[key] = Live(
                session, request.subscription, FilterSet(filters), cursor, credit, Feed(self._feeds)
            )
            self._ledgers.effects.append(done)
        else:
            group = self.groups.get(request.group)
            if group is None:
                group = self._create(request, filters, now_ns, done)
            elif group.spec.filters != filters:
                raise ConflictError(
                    f"group {request.group!r} exists with filter {', '.join(group.spec.filters)}, not "
                    f"{', '.join(filters)}: use another group name, or delete the group first"
                )
            else:
                self._ledgers.effects.append(done)
            group.members.add(Member(request.member or session.hex(), session, request.subscription, credit))
            self._memberships[key] = group
        self.pump(now_ns)

    def _create(self, request: p.Subscribe, filters: list[str], now_ns: int, done: Send) -> Group:
        if len(self.groups) >= self._limits.groups:
            raise OverloadedError(f"this instance already has its {self._limits.groups} groups")
        cursor = Cursor.starting(request.start, self._ledgers)
        tails = {} if request.start.kind == "earliest" else dict(cursor.positions)
        spec = GroupSpec(request.group, filters, request.start, max(100, request.ack_deadline_ms), tails=tails)
        group = self._add(spec, cursor)
        self._ledgers.append(Kind.GROUP, now_ns, payload=encode_body(GroupRecord(spec)), then=done)
        return group

    def _add(self, spec: GroupSpec, cursor: Cursor) -> Group:
        window = self._limits.max_ack_window_events
        group = self.groups[spec.name] = Group(spec, cursor, window, Feed(self._feeds), Feed(self._feeds))
        return group

    def pull(self, session: bytes, request: p.Pull, now_ns: int) -> None:
        """A link of another region; a newer pull of the same ledger by the same session replaces the older one."""
        for key, stream in list(self.streams.items()):
            if key[0] == session and isinstance(stream, LinkSource) and stream.ledger == request.ledger:
                del self.streams[key]
        self.streams[session, request.subscription] = LinkSource(session, request, Feed(self._feeds))
        self._ledgers.effects.append(Send(session, p.Ok(request.request)))
        self.pump(now_ns)

    def credit(self, key: Key, events: int, now_ns: int) -> None:
        """More events may be sent."""
        most = self._limits.max_ack_window_events
        stream = self.streams.get(key)
        if stream is not None:
            stream.credit = min(most, stream.credit + max(0, events))
            self.events_out += stream.pump(self._ledgers, self._ledgers.effects)
        elif (group := self._memberships.get(key)) is not None and (member := group.members.find(*key)) is not None:
            member.credit = min(most, member.credit + max(0, events))
            self.events_out += group.pump(self._ledgers, self._ledgers.effects, now_ns)

    def settle(self, session: bytes, message: p.Ack | p.Nack | p.Extend, now_ns: int) -> None:
        """Ack, nack or extend; an ack with a request is answered when it is durable."""
        group = self._memberships.get((session, message.subscription))
        if group is None:
            if isinstance(message, p.Ack) and message.request:
                detail = "no such subscription in this session: subscribe again"
                self._ledgers.effects.append(Send(session, p.Refused(message.request, "not_found", detail)))
            return
        if isinstance(message, p.Ack):
            group.ack(message.settled)
            if message.request:
                self._flush([group], now_ns, Send(session, p.Ok(message.request)))
        elif isinstance(message, p.Nack):
            group.give_back(message.settled, now_ns, max(0, message.delay_ms))
        else:
            group.extend(message.settled, now_ns)
        self.events_out += group.pump(self._ledgers, self._ledgers.effects, now_ns)

    def end(self, key: Key, now_ns: int) -> None:
        """One subscription ends."""
        self.streams.pop(key, None)
        group = self._memberships.pop(key, None)
        if group is not None:
            group.leave(*key, now_ns)
            self.events_out += group.pump(self._ledgers, self._ledgers.effects, now_ns)

    def session_ended(self, session: bytes, now_ns: int) -> None:
        """All of a session's subscriptions end."""
        for key in [key for key in (*self.streams, *self._memberships) if key[0] == session]:
            self.end(key, now_ns)

    def pump(self, now_ns: int) -> None:
        """Deliver whatever can be delivered now."""
        effects = self._ledgers.effects
        for stream in self.streams.values():
            self.events_out += stream.pump(self._ledgers, effects)
        for group in self.groups.values():
            if len(group.members):
                self.events_out += group.pump(self._ledgers, effects, now_ns)

    def tick(self, now_ns: int) -> None:
        """Deadlines, and buffered acknowledgements to the ledger."""
        for group in self.groups.values():
            group.expire(now_ns)
        self._flush(self.groups.values(), now_ns, None)
        self.pump(now_ns)

    def _flush(self, groups: Iterable[Group], now_ns: int, then: Send | None) -> None:
        settled: list[GroupSettled] = [part for group in groups if (part := group.take_dirty()) is not None]
        if settled or then is not None:
            self._ledgers.append(Kind.SETTLED, now_ns, payload=encode_body(settled), then=then)

    def tails(self) -> dict[str, int]:
        """Where ``latest`` is: for each instance's newest ledger here (older ones are finished) its confirmed end."""
        newest: dict[tuple[str, str], LedgerId] = {}
        for name in self._ledgers.names():
            ledger = LedgerId.parse(name)
            known = newest.get((ledger.region, ledger.instance))
            if known is None or known.epoch < ledger.epoch:
                newest[ledger.region, ledger.instance] = ledger
        return {str(ledger): self._ledgers.end(str(ledger)) for ledger in newest.values()}

    # -- recovery ------------------------------------------------------------------------------------------------------

    def restore_group(self, spec: GroupSpec, state: GroupState | None = None) -> None:
        """A group found in a record or snapshot of an earlier incarnation (or of an adopted instance)."""
        group = self.groups.get(spec.name)
        if group is None:
            names = self._ledgers.names()
            positions = {name: spec.tails.get(name, 0) for name in names}
            group = self._add(spec, Cursor(positions, dict(spec.start.cursor), spec.start.time_ms))
        if state is not None:
            group.restore(state.settled, state.low)

    def restore_settled(self, parts: Iterable[GroupSettled]) -> None:
        """Acknowledgements found in a record."""
        for part in parts:
            if (group := self.groups.get(part.group)) is not None:
                group.restore(part.settled)

    def restored(self, ledgers: Iterable[str], ends: dict[str, int]) -> None:
        """Recovery or adoption is complete: scan these ledgers, take acknowledgements up to these ends."""
        names = list(ledgers)
        for group in self.groups.values():
            group.adopt(names, ends)

    def states(self) -> list[GroupState]:
        """The groups' part of a snapshot."""
        return [group.state(self._ledgers) for group in self.groups.values()]
