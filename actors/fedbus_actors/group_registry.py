"""The registry of groups as one region knows them: their definitions in its store, and how they change (rules 13, 15).

Here they change by what is made or moved in this region; what other regions say comes in by ``shared_groups.py``. Who
is to hear of a change is left to ``region_groups.py``. A group that starts at latest begins at ends known before it
existed; one that was deleted stays known as such, so that no instance and no region brings it back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from fedbus.broker.group_spec import GroupHome, GroupRecord, GroupSpec, check_same_filters, checked_options
from fedbus.broker.protocol import GroupOptions, Start
from fedbus.clock import SystemClock
from fedbus.errors import ConflictError, NotFoundError, OverloadedError
from fedbus.limits import Limits
from fedbus.storage.store import Group, Store

UNSURE = 1000  # a time in nanoseconds divided by it is less than any of our time
FIRST_NS = 10**17


class GroupRegistry:
    """One region's. ``version`` grows with every change; ``ends()``: of all ledgers, as known now.

    ``changing``: held while something changes.
    """

    def __init__(self, region: str, store: Store, limits: Limits, ends: Callable[[], dict[str, int]]) -> None:
        self.version = 1
        self._region = region
        self._store = store
        self._limits = limits
        self._ends = ends
        self._real = SystemClock()
        self.changing = threading.RLock()  # changes come from the actor's own threads, and from peers
        self._known = {group.name: group for group in store.groups.all()}

    def record(self, name: str) -> GroupRecord | None:
        """What is known under that name."""
        group = self._known.get(name)
        return group.definition if group is not None else None

    def spec(self, name: str) -> GroupSpec | None:
        """A living group's definition."""
        record = self.record(name)
        return record.spec if record is not None and not record.deleted else None

    def find(self, name: str) -> GroupSpec:
        """A living group's definition; :class:`NotFoundError`."""
        spec = self.spec(name)
        if spec is None:
            raise NotFoundError(f"region {self._region} has no group {name!r}")
        return spec

    def definitions(self) -> list[GroupRecord]:
        """Of all groups, deleted ones too."""
        return [group.definition for group in list(self._known.values())]

    def living(self) -> list[GroupSpec]:
        """Of all that are not deleted."""
        return [record.spec for record in self.definitions() if not record.deleted]

    def keep(self, spec: GroupSpec, *, deleted: bool = False) -> GroupSpec:
        """Store a definition; under :attr:`changing`."""
        known, definition = self._known.get(spec.name), GroupRecord(spec, deleted)
        home = spec.home.region or self._region
        if known is None:
            group = self._store.groups.add(Group(name=spec.name, definition=definition, home_region=home))
        else:
            group = self._store.groups.swap(replace(known, definition=definition, home_region=home))
        self._known[spec.name] = group
        self.version += 1
        if deleted:
            self._store.groups.forget_deleted(self._limits.groups)
        return spec

    def _tails(self, start: Start) -> dict[str, int]:
        return self._ends() if start.kind == "latest" else {}

    # -- changes made here ---------------------------------------------------------------------------------------------

    def create(self, spec: GroupSpec, home: GroupHome, *, surely_new: bool = True) -> GroupSpec:
        """The group of that name, made if there is none; :class:`ConflictError` if that one has other filters.

        Not ``surely_new``: some region could not be asked. Such a group gives way to any of its name that turns up and
        was made with everybody's knowledge, for that has a past: its ``created_ns`` is lower than any of these.
        """
        with self.changing:
            known = self.record(spec.name)
            if known is not None and not known.deleted:
                check_same_filters(known.spec, spec.filters)
                return known.spec
            if len(self.living()) >= self._limits.groups:
                raise OverloadedError(f"region {self._region} already has its {self._limits.groups} groups")
            before_ns = known.spec.created_ns if known is not None else 0
            now_ns = self._real.now_ns()
            created_ns = max(now_ns if surely_new else now_ns // UNSURE, before_ns + 1)
            options, tails = checked_options(spec.options, spec.name), self._tails(spec.start)
            home = replace(home, since_ns=now_ns)
            return self.keep(
                GroupSpec(
                    spec.name, spec.filters, spec.start, options, tails, created_ns=created_ns, version=1, home=home,
                    replaces_ns=before_ns,
                )
            )  # fmt: skip

    def put(
        self, name: str, filters: list[str], start: Start | None, options: GroupOptions, home: GroupHome, *,
        surely_new: bool = True,
    ) -> None:  # fmt: skip
        """Make a group (at home there), or give it other options.

        Neither filters nor start of a group change: :class:`ConflictError`.
        """
        with self.changing:
            wanted = GroupSpec(name, filters, start or Start("earliest"), options)
            spec = self.create(wanted, home, surely_new=surely_new)
            if start is not None and start != spec.start:
                raise ConflictError(
                    f"group {name!r} exists and started at {spec.start.kind}: move it with seek, or delete it first"
                )
            options = checked_options(options, name)
            if options != spec.options:
                self.keep(replace(spec, options=options, version=spec.version + 1))

    def seek(self, name: str, start: Start) -> None:
        """Begin anew at ``start``: what was settled before counts no more."""
        with self.changing:
            spec = self.find(name)
            moved = {"generation": spec.generation + 1, "version": spec.version + 1}
            self.keep(replace(spec, start=start, tails=self._tails(start), **moved))

    def delete(self, name: str) -> None:
        """Forget a group with its position and its members; :class:`NotFoundError`."""
        with self.changing:
            spec = self.find(name)
            self.keep(replace(spec, version=spec.version + 1), deleted=True)

    def set_homes(self, wanted: Iterable[tuple[GroupSpec, GroupHome]]) -> list[GroupRecord]:
        """Other homes, or other standbys, of groups that are still at home where these specs say; what was changed."""
        with self.changing:
            now_ns = self._real.now_ns()
            changed = []
            for before, home in wanted:
                known = self._known.get(before.name)
                if known is None or known.definition.deleted or known.definition.spec.home != before.home:
                    continue
                since_ns = before.home.since_ns if home.region == before.home.region else now_ns
                spec = replace(known.definition.spec, home=replace(home, since_ns=since_ns))
                changed.append(replace(known, definition=GroupRecord(spec), home_region=home.region))
            for group in self._store.groups.swap_all(changed):
                self._known[group.name] = group
            self.version += bool(changed)
            return [group.definition for group in changed]


def created_at_ns(spec: GroupSpec) -> int:
    """When a group was made (Unix time), be it surely new or not."""
    return spec.created_ns if spec.created_ns >= FIRST_NS else spec.created_ns * UNSURE
