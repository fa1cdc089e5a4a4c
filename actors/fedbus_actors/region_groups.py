"""Groups of a region: made when an instance asks, changed by operators, made known to instances and other regions.

A group comes to be when somebody subscribes to it (an instance asks) or by the control API. Either way the answer
comes when every living instance has recorded it and the regions that answer know it (protocol rule 15), and a group
that starts at latest begins at ends that were known before it existed; so an event published after the answer is never
missed. A name is the federation's: one that is not known here is asked for first. Changes are made by the manager of
the group's home (rule 13) and passed on to it from elsewhere. Definitions are told whole, deleted groups included; an
instance that was away is told by the watch, a region by peering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fedbus.broker.group_spec import GroupHome, GroupRecord, GroupSpec, check_same_filters
from fedbus.broker.protocol import Start
from fedbus.clock import Clock
from fedbus.control.group_homes import HomeSettings
from fedbus.control.links import Interest
from fedbus.errors import ConflictError
from fedbus.limits import Limits
from fedbus.storage.store import Store
from fedbus_actors.fleet import Fleet
from fedbus_actors.group_exchange import GroupExchange
from fedbus_actors.group_follows import GroupFollows, follows, takes_part
from fedbus_actors.group_peers import GroupPeers, Peering
from fedbus_actors.group_registry import GroupRegistry
from fedbus_actors.group_requests import GroupRequests
from fedbus_actors.group_telling import GroupTelling
from fedbus_actors.group_views import detail_view, group_view, history_view
from fedbus_actors.instance_calls import check_told, living, tell
from fedbus_actors.region_homes import RegionHomes
from fedbus_actors.shared_groups import SharedGroups

Answer = dict[str, Any]
HISTORY = 500


class RegionGroups:
    """One region's. ``requests``: by instances; ``shared``: with other regions. ``note``: to the status log."""

    def __init__(
        self,
        region: str,
        store: Store,
        fleet: Fleet,
        limits: Limits,
        peering: Callable[[], Peering],
        settings: HomeSettings,
        real: Clock,
        note: Callable[[str, str], None],
    ) -> None:
        self._region = region
        self._fleet = fleet
        self._log = store.status_log
        self._peers = GroupPeers(peering, real)
        self.registry = GroupRegistry(region, store, limits, self._ends)
        self.shared = SharedGroups(self.registry)
        self.homes = RegionHomes(region, self.registry, fleet, self._peers, settings, real, note)
        self._follows = GroupFollows(fleet)
        self._telling = GroupTelling(self.registry, fleet)
        self.exchange = GroupExchange(self.registry, self.shared, self._peers, note)
        self.requests = GroupRequests(region, fleet, self._create, self._telling.tell)

    def _ends(self) -> dict[str, int]:
        """Of this region's ledgers from the last reports, of others' from their last summaries."""
        ends = {
            ledger: end
            for member in list(self._fleet.members.values())
            if member.report is not None
            for ledger, end in member.report.status.ledgers.items()
        }
        for summary in self._peers.summaries().values():
            for ledger in summary.ledgers:
                ends.setdefault(ledger.ledger, ledger.end)
        return ends

    # -- changes -------------------------------------------------------------------------------------------------------

    def _at_home(self, change: str, name: str, value: Any, carry_out: Callable[[GroupSpec], None]) -> Answer:
        """Carry a change out here, if this is the group's home, else there."""
        spec = self.exchange.find(name).spec or self.registry.find(name)
        if spec.home.region not in ("", self._region):
            return self._peers.relay(spec.home.region, change, name, value)
        carry_out(spec)
        return self._told_all(name)

    def _create(self, spec: GroupSpec) -> None:
        """A group that somebody here subscribes to."""
        known, everybody = self.exchange.find(spec.name)
        if known is not None:
            check_same_filters(known, spec.filters)
            return
        self.registry.create(spec, self.homes.first(), surely_new=everybody)
        self.exchange.spread(spec.name)

    def put(self, name: str, wanted: dict[str, Any]) -> Answer:
        """As :meth:`GroupRegistry.put`; ``wanted``: filters, start (or None), options; home (a region), scope."""
        spec, everybody = self.exchange.find(name)
        home, regional = wanted.get("home"), wanted.get("scope") == "region"
        if spec is None:
            if not regional and home not in (None, self._region):
                return self._peers.relay(home, "put_group", name, wanted)
            made = GroupHome() if regional else self.homes.first()
        else:
            if spec.home.region not in ("", self._region):
                return self._peers.relay(spec.home.region, "put_group", name, wanted)
            if regional != (not spec.home.region) and "scope" in wanted:
                raise ConflictError(f"group {name!r} exists, and its scope cannot change: delete it first")
            if home not in (None, spec.home.region):
                raise ConflictError(f"group {name!r} is at home in {self._region}: move it to {home} instead")
            made = spec.home
        self.registry.put(
            name, wanted["filters"], wanted["start"], wanted["options"], made, surely_new=everybody or regional
        )
        return self._told_all(name)

    def seek(self, name: str, start: Start) -> Answer:
        """As :meth:`GroupRegistry.seek`."""
        return self._at_home("seek_group", name, start, lambda _: self.registry.seek(name, start))

    def delete(self, name: str, _: Any = None) -> Answer:
        """As :meth:`GroupRegistry.delete`."""
        return self._at_home("delete_group", name, None, lambda _: self.registry.delete(name))

    def move(self, name: str, to: str) -> Answer:
        """Another home; where the present one is lost, the new one takes it."""
        spec = self.exchange.find(name).spec or self.registry.find(name)
        home = spec.home.region
        if home not in ("", self._region) and (to != self._region or self.homes.is_living(home)):
            return self._peers.relay(home if self.homes.is_living(home) else to, "move_group", name, to)
        said = self.homes.move(spec, to, self._spread)
        return self._told_all(name) | {"region": to, "detail": said}

    def _told_all(self, name: str) -> Answer:
        check_told(self._spread(name), f"group {name}")
        record = self.registry.record(name)
        return {"group": name, "region": (record.spec.home.region if record is not None else "") or self._region}

    def _spread(self, name: str) -> dict[str, Any]:
        """Let the other regions and all instances know of a group as it is now; which of these have not recorded it."""
        self.exchange.spread(name)
        return self._telling.tell(list(self._fleet.members.values()), name)

    # -- other regions -------------------------------------------------------------------------------------------------

    def heard(self, _: str, records: Iterable[GroupRecord]) -> None:
        """Another region has these definitions."""
        self.exchange.heard(records)

    def interest(self) -> Interest:
        """What groups that are or may be dispatched here want, and the live subscriptions at the instances."""
        durable: set[str] = set()
        began: dict[str, list[dict[str, int]]] = {}
        for spec in self.registry.living():
            if not takes_part(self._region, spec):
                continue
            if spec.start.kind != "latest":
                durable.update(spec.filters)
            else:
                for pattern in spec.filters:
                    began.setdefault(pattern, []).append(spec.tails)
        reports = [member.report for member in list(self._fleet.members.values()) if member.report is not None]
        live = {pattern for report in reports for pattern in report.status.live}
        return Interest(frozenset(durable), frozenset(live - durable), began)

    # -- the watch -----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Homes; then whom instances follow, and definitions that they have not. Nobody is waited for."""
        self.homes.step()
        self._follows.step(follows(self._region, self.registry.living(), self._peers.summaries()))
        self._telling.step()

    # -- views ---------------------------------------------------------------------------------------------------------

    def views(self) -> list[dict[str, Any]]:
        """All groups, as the control API tells them."""
        statuses = [m.report.status for m in list(self._fleet.members.values()) if m.report is not None]
        specs = sorted(self.registry.living(), key=lambda spec: spec.name)
        return [group_view(spec, self._region, statuses, self.exchange.conflict(spec.name)) for spec in specs]

    def detail(self, name: str) -> dict[str, Any]:
        """One group, with its part at every instance; :class:`NotFoundError`."""
        spec = self.registry.find(name)
        members = living(list(self._fleet.members.values()))
        statuses = [member.report.status for member in members if member.report is not None]
        backlogs = tell(members, lambda handle: handle.group_backlog.remote(name))
        view = detail_view(spec, self._region, statuses, backlogs, self.exchange.conflict(name))
        return view | {"history": history_view(name, self._log.recent(HISTORY, region=self._region, kind="group"))}
