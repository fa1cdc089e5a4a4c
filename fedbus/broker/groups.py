"""All groups of an instance, and what makes them and their acknowledgements durable.

Every change of a group is a GROUP record; it is in force at once, and taken back if its record is not stored after all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from fedbus.broker.cursor import Cursor
from fedbus.broker.effects import Effect
from fedbus.broker.feed import Feeds
from fedbus.broker.group import Group
from fedbus.broker.group_homes import GroupHomes
from fedbus.broker.group_spec import GroupRecord, GroupSpec, check_same_filters, checked_options
from fedbus.broker.handover import Handovers
from fedbus.broker.ledger import Ledgers
from fedbus.broker.record import Kind, encode_body
from fedbus.broker.settled import GroupSettled, Settled
from fedbus.errors import OverloadedError, StorageError
from fedbus.limits import Limits

NEVER = -1


class Acknowledgements:
    """How they become durable: in one SETTLED record at a time, so that their number costs nothing.

    It holds all that came while the one before was being written.
    """

    def __init__(self, groups: dict[str, Group], ledgers: Ledgers) -> None:
        self._groups = groups
        self._ledgers = ledgers
        self.note: Callable[[GroupSettled], None] = lambda _: None  # is told what was given here
        self._oks: list[Effect] = []  # to be sent when what has been acknowledged so far is durable
        self._flushed = NEVER  # number of the newest SETTLED record

    def ok_when_durable(self, answer: Effect, now_ns: int) -> None:
        """Send this once all acknowledgements until now are durable; raises :class:`StorageError` if they cannot be."""
        if self._ledgers.failed:
            raise StorageError(f"acknowledgements are not stored any more: {self._ledgers.failed}")
        self._oks.append(answer)
        self.flush(now_ns)

    def flush(self, now_ns: int) -> None:
        """Hand acknowledgements to the ledger, unless earlier ones are still on their way there."""
        if not self._ledgers.writable or self._ledgers.pausing or not self._ledgers.is_confirmed(self._flushed):
            return
        settled: list[GroupSettled] = []
        for group in self._groups.values():
            given, learned = group.settlement.take_dirty()
            if given:
                settled.append(_part(group, given))
                self.note(settled[-1])
            if learned:
                settled.append(_part(group, learned))
        if settled or self._oks:
            self._flushed = self._ledgers.append(Kind.SETTLED, now_ns, payload=encode_body(settled)).number
            for answer in self._oks:
                self._ledgers.answer_when_confirmed(self._flushed, answer)
            self._oks = []

    def confirmed(self, now_ns: int) -> None:
        """Records have become durable: those who wait for an acknowledgement have their turn."""
        if self._oks:
            self.flush(now_ns)

    def void(self) -> list[Effect]:
        """Unconfirmed records were never stored: the answers that will not be given."""
        self._flushed = NEVER
        oks, self._oks = self._oks, []
        return oks

    def rolled(self) -> None:
        """Another ledger is being written."""
        self._flushed = NEVER


class Groups:
    """Groups by name. ``deleted``: of names once deleted the newest creation time that is no more."""

    def __init__(self, ledgers: Ledgers, feeds: Feeds, limits: Limits, handovers: Handovers, region: str) -> None:
        self.deleted: dict[str, int] = {}
        self.homes = GroupHomes(region, ledgers)
        self._ledgers = ledgers
        self._feeds = feeds
        self._limits = limits
        self._handovers = handovers
        self._groups: dict[str, Group] = {}
        self._undo: deque[tuple[int, Callable[[], None]]] = deque()  # per unconfirmed GROUP record
        self.acks = Acknowledgements(self._groups, ledgers)

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def __len__(self) -> int:
        return len(self._groups)

    def get(self, name: str) -> Group | None:
        """The group of that name."""
        return self._groups.get(name)

    # -- making and changing groups ------------------------------------------------------------------------------------

    def open(self, spec: GroupSpec, now_ns: int) -> Group:
        """The group asked for, made if there is none; raises a typed error and changes nothing if it may not be."""
        group = self._groups.get(spec.name)
        if group is None:
            if spec.start.kind == "latest":
                tails = {name: self._ledgers.end(name) for name in self._ledgers.names()}
                spec = replace(spec, tails=tails)
            created_ns = self.deleted[spec.name] + 1 if spec.name in self.deleted else 0
            return self._make(replace(spec, created_ns=created_ns), now_ns)
        check_same_filters(group.spec, spec.filters)
        if len(group.members) >= self._limits.members_per_group:
            raise OverloadedError(f"group {spec.name!r} already has its {len(group.members)} members here")
        return group

    def apply(self, definition: GroupRecord, now_ns: int) -> None:
        """What the manager says of a group; older news change nothing.

        Raises a typed error if the definition cannot be carried out.
        """
        spec = definition.spec
        known = self._groups.get(spec.name)
        if spec.created_ns <= self.deleted.get(spec.name, NEVER):
            return
        if definition.deleted:
            self._record(definition, now_ns, self._put_back(spec.name))
            self.bury(spec.name, spec.created_ns)
        elif known is None or spec.identity > known.spec.identity:
            self._make(spec, now_ns)
        elif spec.age > known.spec.age:
            check_same_filters(known.spec, spec.filters)
            before, options = known.spec, checked_options(spec.options, spec.name)
            after = replace(before, options=options, version=spec.version, home=spec.home)
            self._record(GroupRecord(after), now_ns, lambda: self.homes.change(known, before))
            self.homes.change(known, after)

    def _make(self, spec: GroupSpec, now_ns: int) -> Group:
        if spec.name not in self._groups and len(self._groups) >= self._limits.groups:
            raise OverloadedError(f"this instance already has its {self._limits.groups} groups")
        spec = replace(spec, options=checked_options(spec.options, spec.name))
        cursor = Cursor.of_group(spec, self._ledgers)  # raises on what is no start
        number = self._record(GroupRecord(spec), now_ns, self._put_back(spec.name))
        group = self.add(spec, cursor)
        group.recorded = number
        return group

    def bury(self, name: str, created_ns: int) -> None:
        """The deletion of the group made then (and of all before) is recorded already."""
        known = self._groups.get(name)
        if known is not None and known.spec.created_ns <= created_ns:
            del self._groups[name]
        self.deleted[name] = max(created_ns, self.deleted.pop(name, NEVER))
        while len(self.deleted) > self._limits.groups:
            del self.deleted[next(iter(self.deleted))]

    def _put_back(self, name: str) -> Callable[[], None]:
        """What brings a name back to where it is now."""
        known, deleted = self._groups.get(name), self.deleted.get(name)

        def undo() -> None:
            self._groups.pop(name, None)
            self.deleted.pop(name, None)
            if known is not None:
                self._groups[name] = known
            if deleted is not None:
                self.deleted[name] = deleted

        return undo

    def _record(self, body: GroupRecord, now_ns: int, undo: Callable[[], None]) -> int:
        """Raises :class:`StorageError` if it cannot be written."""
        number = self._ledgers.append(Kind.GROUP, now_ns, payload=encode_body(body)).number
        self._undo.append((number, undo))
        return number

    def add(self, spec: GroupSpec, cursor: Cursor) -> Group:
        """A group that is recorded already; it takes the place of one of that name."""
        window = self._limits.max_ack_window_events
        here = self.homes.here(spec)
        group = self._groups[spec.name] = Group(spec, cursor, window, self._feeds, self._handovers, here=here)
        return group

    @property
    def recorded(self) -> bool:
        """Whether every change so far is durable."""
        return not self._undo

    # -- records and the disk ------------------------------------------------------------------------------------------

    def confirmed(self, now_ns: int) -> None:
        """Records have become durable: those who wait for an acknowledgement have their turn."""
        while self._undo and self._ledgers.is_confirmed(self._undo[0][0]):
            self._undo.popleft()
        for group in self:
            group.dead_letters.confirmed(self._ledgers)
        self.acks.confirmed(now_ns)

    def void(self) -> list[Effect]:
        """Unconfirmed records were never stored, what they said is taken back: the answers that will not be given."""
        while self._undo:
            self._undo.pop()[1]()
        for group in self:
            group.dead_letters.void()
        return self.acks.void()

    def rolled(self) -> None:
        """Another ledger is being written, everything in the one before is confirmed: scan the new one too."""
        self.acks.rolled()
        self._undo.clear()
        for group in self:
            group.recorded = NEVER
            group.dead_letters.rolled()
            group.adopt([self._ledgers.current] if self._ledgers.current else [], self._ledgers, {})


def _part(group: Group, settled: list[Settled]) -> GroupSettled:
    return GroupSettled(group.spec.name, settled, *group.spec.identity)
