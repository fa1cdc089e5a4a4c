"""All groups of an instance, and what makes them and their acknowledgements durable.

Acknowledgements go to the ledger in one SETTLED record at a time, with all that came while the one before was being
written; so their number costs nothing. A group that could not be recorded has never existed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.effects import Send
from fedbus.broker.feed import Feed, Feeds
from fedbus.broker.group import Group
from fedbus.broker.ledger import Ledgers
from fedbus.broker.record import Kind, encode_body
from fedbus.broker.state import GroupRecord, GroupSettled, GroupSpec, GroupState
from fedbus.errors import ConflictError, OverloadedError, StorageError
from fedbus.limits import Limits

MIN_ACK_DEADLINE_MS = 100
NEVER = -1


class Groups:
    """Groups by name."""

    def __init__(self, ledgers: Ledgers, feeds: Feeds, limits: Limits) -> None:
        self._ledgers = ledgers
        self._feeds = feeds
        self._limits = limits
        self._groups: dict[str, Group] = {}
        self._oks: list[Send] = []  # to be sent when what has been acknowledged so far is durable
        self._flushed = NEVER  # number of the newest SETTLED record

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def __len__(self) -> int:
        return len(self._groups)

    def get(self, name: str) -> Group | None:
        """The group of that name."""
        return self._groups.get(name)

    # -- making groups -------------------------------------------------------------------------------------------------

    def open(self, request: p.Subscribe, filters: list[str], now_ns: int) -> Group:
        """The group asked for, made if there is none; raises a typed error and changes nothing if it may not be."""
        group = self._groups.get(request.group)
        if group is None:
            return self._create(request, filters, now_ns)
        if group.spec.filters != filters:
            raise ConflictError(
                f"group {request.group!r} exists with filter {', '.join(group.spec.filters)}, not "
                f"{', '.join(filters)}: use another group name, or delete the group first"
            )
        if len(group.members) >= self._limits.members_per_group:
            raise OverloadedError(f"group {request.group!r} already has its {len(group.members)} members here")
        return group

    def _create(self, request: p.Subscribe, filters: list[str], now_ns: int) -> Group:
        if len(self._groups) >= self._limits.groups:
            raise OverloadedError(f"this instance already has its {self._limits.groups} groups")
        cursor = Cursor.starting(request.start, self._ledgers)
        tails = {} if request.start.kind == "earliest" else dict(cursor.positions)
        deadline_ms = max(MIN_ACK_DEADLINE_MS, request.ack_deadline_ms)
        spec = GroupSpec(request.group, filters, request.start, deadline_ms, tails=tails)
        record = self._ledgers.append(Kind.GROUP, now_ns, payload=encode_body(GroupRecord(spec)))
        group = self._add(spec, cursor)
        group.recorded = record.number
        return group

    def _add(self, spec: GroupSpec, cursor: Cursor) -> Group:
        window = self._limits.max_ack_window_events
        group = self._groups[spec.name] = Group(spec, cursor, window, Feed(self._feeds), Feed(self._feeds))
        return group

    # -- acknowledgements ----------------------------------------------------------------------------------------------

    def ok_when_durable(self, answer: Send, now_ns: int) -> None:
        """Send this once all acknowledgements until now are durable; raises :class:`StorageError` if they cannot be."""
        if self._ledgers.failed:
            raise StorageError(f"acknowledgements are not stored any more: {self._ledgers.failed}")
        self._oks.append(answer)
        self.flush(now_ns)

    def flush(self, now_ns: int) -> None:
        """Hand acknowledgements to the ledger, unless earlier ones are still on their way there."""
        if self._ledgers.failed or not self._ledgers.is_confirmed(self._flushed):
            return
        settled: list[GroupSettled] = [part for group in self if (part := group.take_dirty()) is not None]
        if settled or self._oks:
            self._flushed = self._ledgers.append(Kind.SETTLED, now_ns, payload=encode_body(settled)).number
            for answer in self._oks:
                self._ledgers.answer_when_confirmed(self._flushed, answer)
            self._oks = []

    def confirmed(self, now_ns: int) -> None:
        """Records have become durable: those who wait for an acknowledgement have their turn."""
        if self._oks:
            self.flush(now_ns)

    def void(self) -> tuple[list[str], list[Send]]:
        """Unconfirmed records were never stored: (names of groups that are gone, answers that will not be given)."""
        self._flushed = NEVER
        gone = [group.spec.name for group in self if not self._ledgers.is_confirmed(group.recorded)]
        for name in gone:
            del self._groups[name]
        oks, self._oks = self._oks, []
        return gone, oks

    # -- recovery ------------------------------------------------------------------------------------------------------

    def restore_group(self, spec: GroupSpec, state: GroupState | None = None) -> None:
        """A group found in a record or snapshot of an earlier incarnation (or of an adopted instance)."""
        group = self._groups.get(spec.name)
        if group is None:
            positions = {name: spec.tails.get(name, 0) for name in self._ledgers.names()}
            group = self._add(spec, Cursor(positions, dict(spec.start.cursor), spec.start.time_ms))
        if state is not None:
            group.restore(state.settled, state.low)

    def restore_settled(self, parts: Iterable[GroupSettled]) -> None:
        """Acknowledgements found in a record."""
        for part in parts:
            if (group := self._groups.get(part.group)) is not None:
                group.restore(part.settled)

    def restored(self, ledgers: Iterable[str], ends: dict[str, int]) -> None:
        """Recovery or adoption is complete: scan these ledgers, take acknowledgements up to these ends."""
        names = list(ledgers)
        for group in self:
            group.adopt(names, ends)

    def states(self) -> list[GroupState]:
        """Their part of a snapshot."""
        return [group.state(self._ledgers) for group in self]
