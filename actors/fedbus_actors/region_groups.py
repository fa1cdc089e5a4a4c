"""Groups of a region: made when an instance asks, changed by operators, made known to every instance.

A group comes to be when somebody subscribes to it (an instance asks) or by the control API. Either way the answer
comes when every living instance has recorded it (protocol rule 15), and a group that starts at latest begins at ends
that were known before it existed; so an event published after the answer is never missed. Definitions are told whole,
deleted groups included; an instance that was away is told by the watch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fedbus.broker.protocol import Start
from fedbus.control.summary import RegionSummary
from fedbus.errors import UnavailableError
from fedbus.limits import Limits
from fedbus.storage.store import Store
from fedbus_actors import remote
from fedbus_actors.fleet import Fleet, Member
from fedbus_actors.group_registry import GroupRegistry
from fedbus_actors.group_requests import GroupRequests
from fedbus_actors.group_views import detail_view, group_view
from fedbus_actors.instance_calls import check_told, living, tell

Answer = dict[str, Any]
Told = tuple[int, int]  # process, version of the definitions


class RegionGroups:
    """One region's. ``summaries()``: what is known of others (their ledgers' ends); ``requests``: by instances."""

    def __init__(
        self,
        region: str,
        store: Store,
        fleet: Fleet,
        summaries: Callable[[], Iterable[RegionSummary]],
        limits: Limits,
    ) -> None:
        self._region = region
        self._fleet = fleet
        self._summaries = summaries
        self.registry = GroupRegistry(region, store, limits, self._ends)
        self._told: dict[str, Told] = {}
        self._telling: dict[str, tuple[Told, Any]] = {}
        self.requests = GroupRequests(region, fleet, self.registry, self._tell)

    def _ends(self) -> dict[str, int]:
        """Of this region's ledgers from the last reports, of others' from their last summaries."""
        ends = {
            ledger: end
            for member in list(self._fleet.members.values())
            if member.report is not None
            for ledger, end in member.report.status.ledgers.items()
        }
        for summary in self._summaries():
            for ledger in summary.ledgers:
                ends.setdefault(ledger.ledger, ledger.end)
        return ends

    # -- changes -------------------------------------------------------------------------------------------------------

    def put(self, name: str, wanted: dict[str, Any]) -> Answer:
        """As :meth:`GroupRegistry.put`; ``wanted``: filters, start (or None), options."""
        self.registry.put(name, wanted["filters"], wanted["start"], wanted["options"])
        return self._told_all(name)

    def seek(self, name: str, start: Start) -> Answer:
        """As :meth:`GroupRegistry.seek`."""
        self.registry.seek(name, start)
        return self._told_all(name)

    def delete(self, name: str, _: Any = None) -> Answer:
        """As :meth:`GroupRegistry.delete`."""
        self.registry.delete(name)
        return self._told_all(name)

    def _told_all(self, name: str) -> Answer:
        failures = self._tell(list(self._fleet.members.values()), name)
        check_told(failures, f"group {name}")
        return {"group": name, "region": self._region}

    def _tell(self, members: Iterable[Member], *names: str) -> dict[str, Any]:
        """Tell these instances all definitions; who of them has not recorded these groups, and why."""
        version, definitions = self.registry.version, self.registry.definitions()
        writing = {m.name: m for m in living(members) if m.report is not None and m.report.status.ledger}
        answers = tell(writing.values(), lambda handle: handle.apply_groups.remote(definitions))
        failures: dict[str, Any] = {}
        for instance, answer in answers.items():
            refused = {} if isinstance(answer, Exception) else {each: answer[each] for each in names if each in answer}
            if isinstance(answer, Exception):
                failures[instance] = answer
            elif refused:
                failures[instance] = UnavailableError("; ".join(refused.values()))
            elif not answer:
                self._has(writing[instance], version)
        return failures

    def _has(self, member: Member, version: int) -> None:
        if member.report is not None:
            self._told[member.name] = (member.report.pid, version)

    # -- the watch -----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Tell those who have not all definitions; nobody is waited for."""
        version, definitions = self.registry.version, self.registry.definitions()
        if not definitions:
            return
        calls = {name: _returns(reference) for name, (_, reference) in self._telling.items()}
        for name, answer in remote.ask(calls, 0.0).items() if calls else ():
            if not isinstance(answer, TimeoutError):
                told, _ = self._telling.pop(name)
                if answer == {}:
                    self._told[name] = told
        for member in living(list(self._fleet.members.values())):
            if member.report is None or not member.report.status.ledger or member.name in self._telling:
                continue
            wanted = (member.report.pid, version)
            if self._told.get(member.name) != wanted:
                self._telling[member.name] = wanted, member.handle.apply_groups.remote(definitions)

    # -- views ---------------------------------------------------------------------------------------------------------

    def views(self) -> list[dict[str, Any]]:
        """All groups, as the control API tells them."""
        statuses = [m.report.status for m in list(self._fleet.members.values()) if m.report is not None]
        specs = [each.spec for each in self.registry.definitions() if not each.deleted]
        return [group_view(spec, self._region, statuses) for spec in sorted(specs, key=lambda spec: spec.name)]

    def detail(self, name: str) -> dict[str, Any]:
        """One group, with its part at every instance; :class:`NotFoundError`."""
        spec = self.registry.find(name)
        members = living(list(self._fleet.members.values()))
        statuses = [member.report.status for member in members if member.report is not None]
        backlogs = tell(members, lambda handle: handle.group_backlog.remote(name))
        return detail_view(spec, self._region, statuses, backlogs)


def _returns(reference: Any) -> Callable[[], Any]:
    return lambda: reference
