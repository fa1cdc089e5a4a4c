"""Members of groups, by session: how they join, settle and leave, and what happens to them when a group changes."""

from __future__ import annotations

from collections.abc import Iterator

from fedbus.broker import protocol as p
from fedbus.broker.effects import Send
from fedbus.broker.group import Group
from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.groups import Groups
from fedbus.broker.ledger import Ledgers
from fedbus.broker.member import Member
from fedbus.errors import GroupElsewhereError, NotFoundError, TooLargeError, UnavailableError
from fedbus.limits import Limits

Key = tuple[bytes, int]  # session, the session's number for the subscription
SUPERSEDED = "a newer session is this member now"
MOVED = "the group was moved: subscribe again"


class Memberships:
    """All of an instance."""

    def __init__(self, groups: Groups, ledgers: Ledgers, limits: Limits) -> None:
        self.events_out = 0
        self._groups = groups
        self._ledgers = ledgers
        self._limits = limits
        self._of: dict[Key, Group] = {}
        self._former: dict[Key, Group] = {}  # whose group went to another region: what they still say is heard

    def __iter__(self) -> Iterator[Key]:
        return iter(self._of)

    def join(self, session: bytes, request: p.Subscribe, spec: GroupSpec, now_ns: int) -> None:
        """Another member of this group; raises a typed error and changes nothing if it may not be."""
        group = self._groups.open(spec, now_ns)
        if not group.here:
            raise _elsewhere(group.spec)
        key = (session, request.subscription)
        self._former.pop(key, None)
        self.end(key, now_ns)
        name = request.member or session.hex()
        if (older := group.members.named(name)) is not None:
            self._ended((older.session, older.subscription), UnavailableError.code, SUPERSEDED)
        group.join(self._member(name, session, request, group.spec.options))
        self._of[key] = group
        done = p.Subscribed(request.request, request.subscription, self._ledgers.tails(), group.spec.identity)
        self._ledgers.answer_when_confirmed(group.recorded, Send(session, done))
        self._pump(group, now_ns)

    def _member(self, name: str, session: bytes, request: p.Subscribe, group: p.GroupOptions) -> Member:
        """It holds at most what the group, the limits and it itself say."""
        limits = self._limits
        asked = [each for each in (group.max_in_flight, request.options.max_in_flight) if each > 0]
        most = min([limits.member_credit_events, *asked])
        credit = max(0, min(request.credit, limits.max_ack_window_events))
        return Member(name, session, request.subscription, credit, most, limits.member_credit_bytes)

    def credit(self, key: Key, events: int, now_ns: int) -> None:
        """More events may be sent; a negative number takes back what was not used."""
        group = self._of.get(key)
        member = group.members.find(*key) if group is not None else None
        if group is not None and member is not None:
            member.credit = max(0, min(self._limits.max_ack_window_events, member.credit + events))
            self._pump(group, now_ns)

    def settle(self, session: bytes, message: p.Ack | p.Nack | p.Extend, now_ns: int) -> None:
        """Ack, nack or extend; an ack with a request is answered when it is durable."""
        if sum(len(part.ranges) for part in message.settled) > self._limits.max_ack_window_events:
            raise TooLargeError(f"one message settles up to {self._limits.max_ack_window_events} ranges")
        key = (session, message.subscription)
        group = self._of.get(key) or self._former.get(key)
        if group is None:
            if isinstance(message, p.Ack) and message.request:
                raise NotFoundError("no such subscription in this session: subscribe again")
            return
        group.settle(group.members.find(*key), message, now_ns)
        if isinstance(message, p.Ack) and message.request:
            self._groups.acks.ok_when_durable(Send(session, p.Ok(message.request)), now_ns)
        self._pump(group, now_ns)

    # -- the end of it -------------------------------------------------------------------------------------------------

    def end(self, key: Key, now_ns: int, *, politely: bool = True) -> None:
        """One membership ends; ``politely``: the member said so itself."""
        self._former.pop(key, None)
        group = self._of.pop(key, None)
        if group is not None:
            group.leave(*key, politely=politely)
            self._pump(group, now_ns)

    def session_ended(self, session: bytes, now_ns: int, *, politely: bool) -> None:
        """All of a session's memberships end."""
        for key in [key for key in (*self._of, *self._former) if key[0] == session]:
            self.end(key, now_ns, politely=politely)

    def _ended(self, key: Key, code: str, detail: str, region: str = "") -> None:
        self._of.pop(key).leave(*key, politely=True)
        self._ledgers.effects.append(Send(key[0], p.Ended(key[1], code, detail, region)))

    def end_all(self, detail: str) -> None:
        """The instance hands nothing out any more."""
        for key in list(self._of):
            self._ended(key, UnavailableError.code, detail)

    def sweep(self, *, deleted: bool = True) -> None:
        """Members of groups that are no more are told so: these were ``deleted``, or moved or never stored.

        Those of groups that went to another region are told where.
        """
        self._former = {key: of for key, of in self._former.items() if self._groups.get(of.spec.name) is of}
        for key, group in list(self._of.items()):
            present = self._groups.get(group.spec.name)
            if present is None and deleted:
                self._ended(key, NotFoundError.code, f"group {group.spec.name!r} was deleted")
            elif present is not group:
                self._ended(key, UnavailableError.code, MOVED)
            elif not group.here:
                error = _elsewhere(group.spec)
                self._ended(key, error.code, error.detail, error.region)
                self._former[key] = group

    # -- time ----------------------------------------------------------------------------------------------------------

    def pump(self, now_ns: int) -> None:
        """Deliver whatever can be delivered now."""
        for group in self._groups:
            self._pump(group, now_ns)

    def _pump(self, group: Group, now_ns: int) -> None:
        if group.here and (len(group.members) or group.deliveries.condemned):
            self.events_out += group.pump(self._ledgers, self._ledgers.effects, now_ns)


def _elsewhere(spec: GroupSpec) -> GroupElsewhereError:
    region = spec.home.region
    return GroupElsewhereError(f"group {spec.name!r} is at home in {region}: subscribe there", region=region)
