"""Groups as earlier incarnations recorded them: folded into the present ones, and the snapshot of these."""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker.cursor import Cursor
from fedbus.broker.group_spec import GroupRecord
from fedbus.broker.groups import NEVER, Groups
from fedbus.broker.ledger import Ledgers
from fedbus.broker.settled import GroupSettled
from fedbus.broker.state import GroupState


class GroupFold:
    """The part of an instance's folded state that is groups (see ``broker/recovery.py``)."""

    def __init__(self, groups: Groups, ledgers: Ledgers) -> None:
        self._groups = groups
        self._ledgers = ledgers

    def group(self, record: GroupRecord, state: GroupState | None = None) -> None:
        """A group found in a record or snapshot of an earlier incarnation (or of an adopted instance)."""
        spec = record.spec
        group = self._groups.get(spec.name)
        if spec.created_ns <= self._groups.deleted.get(spec.name, NEVER):
            return
        if record.deleted:
            self._groups.bury(spec.name, spec.created_ns)
            return
        if group is None or spec.identity > group.spec.identity:
            group = self._groups.add(spec, Cursor.of_group(spec, self._ledgers))
        elif spec.age > group.spec.age:
            self._groups.homes.change(group, spec)
        if state is not None and group.spec.identity == spec.identity:
            group.restore(state.settled, state.low)

    def deleted(self, deleted: dict[str, int]) -> None:
        """Tombstones found in a snapshot."""
        for name, created_ns in deleted.items():
            self._groups.bury(name, created_ns)

    def tombstones(self) -> dict[str, int]:
        """The other part of it: what was deleted."""
        return dict(self._groups.deleted)

    def settled(self, parts: Iterable[GroupSettled]) -> None:
        """Acknowledgements found in a record; those under another identity say nothing."""
        for part in parts:
            group = self._groups.get(part.group)
            if group is not None and group.spec.identity == (part.created_ns, part.generation):
                group.restore(part.settled)

    def complete(self, ledgers: Iterable[str], ends: dict[str, int]) -> None:
        """Recovery or adoption is complete: scan these ledgers, take acknowledgements up to these ends."""
        names = list(ledgers)
        for group in self._groups:
            group.adopt(names, self._ledgers, ends)

    def states(self) -> list[GroupState]:
        """Their part of a snapshot."""
        return [group.state(self._ledgers) for group in self._groups]
