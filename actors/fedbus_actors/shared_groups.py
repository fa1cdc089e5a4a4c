"""The groups that all regions share: what this one tells, and what it takes from what others say (protocol rule 13).

``control/group_definitions.py`` says which of two definitions counts.
"""

from __future__ import annotations

from fedbus.broker.group_spec import GroupRecord
from fedbus.control.group_definitions import digest, in_conflict, merge
from fedbus_actors.group_registry import GroupRegistry


class SharedGroups:
    """One region's. ``conflicts``: what other regions call by the name of a group that is another one here."""

    def __init__(self, registry: GroupRegistry) -> None:
        self.conflicts: dict[str, GroupRecord] = {}
        self._registry = registry
        self._changes = 0  # of the conflicts
        self._digest = (0, 0), ""  # of which version

    def records(self) -> list[GroupRecord]:
        """What all regions are to know: the definitions of the federation's groups, deleted ones too."""
        return [record for record in self._registry.definitions() if record.spec.home.region]

    def digest(self) -> str:
        """Equal where the same is known; of what is in conflict there is nothing to come to an end about."""
        version, (digested_of, digested) = (self._registry.version, self._changes), self._digest
        if version != digested_of:
            digested = digest(record for record in self.records() if record.spec.name not in self.conflicts)
            self._digest = version, digested
        return digested

    def learn(self, heard: GroupRecord) -> tuple[GroupRecord | None, GroupRecord]:
        """What another region says of a group of the federation: what was known, and what counts now."""
        registry, name = self._registry, heard.spec.name
        with registry.changing:
            known = registry.record(name)
            if known is not None and _apart(known, heard):
                self._conflict(name, None if heard.deleted else heard)
                return known, known
            merged = heard if known is None else merge(known, heard)
            self._conflict(name, None)
            if merged != known:
                registry.keep(merged.spec, deleted=merged.deleted)
            return known, merged

    def _conflict(self, name: str, other: GroupRecord | None) -> None:
        if self.conflicts.get(name) == other:
            return
        self._changes += 1
        if other is None:
            del self.conflicts[name]
        else:
            self.conflicts[name] = other


def _apart(known: GroupRecord, heard: GroupRecord) -> bool:
    """Whether the two have nothing to do with one another but the name."""
    regional = not known.spec.home.region and not known.deleted
    return regional or in_conflict(known, heard)
