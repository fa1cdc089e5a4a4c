"""The registry of a region's groups: their definitions in its store, and how they change (protocol rule 15).

Who is to hear of it is left to ``region_groups.py``. A group that starts at latest begins at ends known before it
existed; one that was deleted stays known as such, so that no instance brings it back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from fedbus.broker.group_spec import GroupRecord, GroupSpec, check_same_filters, checked_options
from fedbus.broker.protocol import GroupOptions, Start
from fedbus.clock import SystemClock
from fedbus.errors import ConflictError, NotFoundError, OverloadedError
from fedbus.limits import Limits
from fedbus.storage.store import Group, Store


class GroupRegistry:
    """One region's groups. ``version`` grows with every change; ``ends()``: of all ledgers, as known now."""

    def __init__(self, region: str, store: Store, limits: Limits, ends: Callable[[], dict[str, int]]) -> None:
        self.version = 1
        self._region = region
        self._store = store
        self._limits = limits
        self._ends = ends
        self._real = SystemClock()
        self._changing = threading.Lock()  # changes come from the actor's own threads
        self._known = {group.name: group for group in store.groups.all()}

    def find(self, name: str) -> GroupSpec:
        """A group's definition; :class:`NotFoundError`."""
        group = self._known.get(name)
        if group is None or group.definition.deleted:
            raise NotFoundError(f"region {self._region} has no group {name!r}")
        return group.definition.spec

    def definitions(self) -> list[GroupRecord]:
        """Of all groups, deleted ones too."""
        return [group.definition for group in list(self._known.values())]

    def _keep(self, spec: GroupSpec, *, deleted: bool = False) -> None:
        known, definition = self._known.get(spec.name), GroupRecord(spec, deleted)
        if known is None:
            group = self._store.groups.add(Group(name=spec.name, definition=definition, home_region=self._region))
        else:
            group = self._store.groups.swap(msgspec.structs.replace(known, definition=definition))
        self._known[spec.name] = group
        self.version += 1

    def _tails(self, start: Start) -> dict[str, int]:
        return self._ends() if start.kind == "latest" else {}

    def create(self, spec: GroupSpec) -> None:
        """The group of that name, made if there is none; :class:`ConflictError` if that one has other filters."""
        with self._changing:
            self._create(spec)

    def _create(self, spec: GroupSpec) -> GroupSpec:
        known = self._known.get(spec.name)
        if known is not None and not known.definition.deleted:
            check_same_filters(known.definition.spec, spec.filters)
            return known.definition.spec
        if sum(not group.definition.deleted for group in self._known.values()) >= self._limits.groups:
            raise OverloadedError(f"region {self._region} already has its {self._limits.groups} groups")
        created_ns = self._real.now_ns()
        if known is not None:
            created_ns = max(created_ns, known.definition.spec.created_ns + 1)
        options, tails = checked_options(spec.options, spec.name), self._tails(spec.start)
        made = GroupSpec(spec.name, spec.filters, spec.start, options, tails, created_ns=created_ns, version=1)
        self._keep(made)
        return made

    def put(self, name: str, filters: list[str], start: Start | None, options: GroupOptions) -> None:
        """Make a group, or give it other options.

        Neither filters nor start of a group change: :class:`ConflictError`.
        """
        with self._changing:
            spec = self._create(GroupSpec(name, filters, start or Start("earliest"), options))
            if start is not None and start != spec.start:
                raise ConflictError(
                    f"group {name!r} exists and started at {spec.start.kind}: move it with seek, or delete it first"
                )
            options = checked_options(options, name)
            if options != spec.options:
                self._keep(msgspec.structs.replace(spec, options=options, version=spec.version + 1))

    def seek(self, name: str, start: Start) -> None:
        """Begin anew at ``start``: what was settled before counts no more."""
        with self._changing:
            spec = self.find(name)
            moved = {"generation": spec.generation + 1, "version": spec.version + 1}
            self._keep(msgspec.structs.replace(spec, start=start, tails=self._tails(start), **moved))

    def delete(self, name: str) -> None:
        """Forget a group with its position and its members; :class:`NotFoundError`."""
        with self._changing:
            self._keep(self.find(name), deleted=True)
            self._store.groups.forget_deleted(self._limits.groups)
