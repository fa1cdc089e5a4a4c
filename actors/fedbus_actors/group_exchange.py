"""Definitions of groups between regions: what others say, what they are told, what there is to note of it (rule 13)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from fedbus.broker.group_spec import GroupRecord, GroupSpec
from fedbus_actors.group_peers import GroupPeers
from fedbus_actors.group_registry import GroupRegistry
from fedbus_actors.shared_groups import SharedGroups


class Found(NamedTuple):
    """A group, if anybody who answers knows it; ``everybody``: whether all regions have answered."""

    spec: GroupSpec | None
    everybody: bool


class GroupExchange:
    """One region's. ``note``: to the status log."""

    def __init__(
        self, registry: GroupRegistry, shared: SharedGroups, peers: GroupPeers, note: Callable[[str, str], None]
    ) -> None:
        self._shared = shared
        self._registry = registry
        self._peers = peers
        self._note = note

    def find(self, name: str) -> Found:
        """A group by name, wherever it was made: regions that answer are asked."""
        spec, everybody = self._registry.spec(name), True
        if spec is None:
            records, everybody = self._peers.exchange(name)
            self.heard(records)
            spec = self._registry.spec(name)
        return Found(spec, everybody)

    def spread(self, name: str) -> None:
        """Let the other regions know of a group as it is now; those that answer have stored it then."""
        record = self._registry.record(name)
        if record is not None and record.spec.home.region:
            self._peers.publish([record])
            self.heard(self._peers.exchange(name, record)[0])

    def answer(self, asked: dict[str, Any]) -> Any:
        """What is known here of the group ``name``, another region telling what it has (``record``); in builtins."""
        if asked.get("record") is not None:
            self.heard([msgspec.convert(asked["record"], GroupRecord)])
        record = self._registry.record(asked["name"])
        return msgspec.to_builtins(record) if record is not None and record.spec.home.region else None

    def heard(self, records: Iterable[GroupRecord]) -> None:
        """Other regions have these definitions."""
        news = []
        for heard in records:
            if not heard.spec.home.region:
                continue
            known_conflict = heard.spec.name in self._shared.conflicts
            known, counts = self._shared.learn(heard)
            if heard.spec.name in self._shared.conflicts and not known_conflict:
                self._note("group", f"{_conflict(heard.spec)}: each region keeps its own until one is deleted")
            if known is not None and not (known.deleted or counts.deleted):
                self._note_change(known.spec, counts.spec)
            if counts not in (known, heard):
                news.append(counts)
        self._peers.publish(news)

    def _note_change(self, before: GroupSpec, after: GroupSpec) -> None:
        name, home = after.name, after.home
        if after.created_ns > before.created_ns > after.replaces_ns:
            self._note("group", f"group {name} was made in {home.region} too, later: that one counts from now on")
        if home.region != before.home.region:
            was = before.home.region
            self._note("group", f"group {name} is at home in {home.region} (term {home.term}), no longer in {was}")

    def conflict(self, name: str) -> str:
        """What there is to say of another region's group of that name, if it is another one."""
        other = self._shared.conflicts.get(name)
        return _conflict(other.spec) if other is not None else ""


def _conflict(spec: GroupSpec) -> str:
    return f"{spec.home.region} has another group {spec.name}, with filter {', '.join(spec.filters)}"
