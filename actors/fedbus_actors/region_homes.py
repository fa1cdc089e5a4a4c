"""Homes of groups: what ``control/group_homes.py`` decides, carried out, and an operator's moves (protocol rule 13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

from fedbus.broker.group_spec import GroupHome, GroupSpec
from fedbus.clock import Clock
from fedbus.control.group_homes import GroupHomes, HomeSettings, Move
from fedbus.errors import ConflictError, UnavailableError
from fedbus_actors.fleet import Fleet
from fedbus_actors.group_peers import GroupPeers
from fedbus_actors.group_registry import GroupRegistry

CAUGHT_UP_MS = 2000
LINK_LAG_MS = 5000
MOVES_AT_ONCE = 200  # so that the watch is not held up: each is noted in the status log
PREPARE_S, PREPARE_POLL_S = 3.0, 0.1


class RegionHomes:
    """One region's. ``note``: to the status log; ``leaving``: this region is about to leave the federation."""

    def __init__(
        self,
        region: str,
        registry: GroupRegistry,
        fleet: Fleet,
        peers: GroupPeers,
        settings: HomeSettings,
        real: Clock,
        note: Callable[[str, str], None],
    ) -> None:
        self._region = region
        self._registry = registry
        self._fleet = fleet
        self._peers = peers
        self._real = real
        self._note = note
        self._homes = GroupHomes(region, settings)

    def _look(self) -> int:
        now_ns = self._real.monotonic_ns()
        self._homes.regions.observe(self._peers.states(), now_ns)
        return now_ns

    def first(self) -> GroupHome:
        """Of a group that is made here."""
        return self._homes.first(self._look())

    def is_living(self, region: str) -> bool:
        """Whether a region is heard."""
        self._look()
        return self._homes.regions.is_living(region)

    def step(self) -> None:
        """What time, and the loss or the return of regions, bring about; of very many groups some at a time."""
        now_ns = self._look()
        moves: list[tuple[GroupSpec, Move]] = []
        for spec in self._registry.living():
            if not spec.home.region:
                continue
            goes_back = spec.home.region == self._region != spec.home.preferred
            move = self._homes.decide(spec.home, self.caught_up(spec) if goes_back else (), now_ns)
            if move is not None:
                moves.append((spec, move))
            if len(moves) == MOVES_AT_ONCE:
                break
        self._carry_out(moves)

    def _carry_out(self, moves: Sequence[tuple[GroupSpec, Move]]) -> None:
        changed = self._registry.set_homes((spec, move.home) for spec, move in moves)
        names = {record.spec.name for record in changed}
        for spec, move in moves:
            if spec.name in names:
                self._note("group", f"group {spec.name}: {self._region} {move.why} (term {move.home.term})")
        self._peers.publish(changed)

    def caught_up(self, spec: GroupSpec) -> set[str]:
        """Standbys that know (nearly) all that is settled here, and have (nearly) all events that are here."""
        shared = [
            group.shared
            for member in list(self._fleet.members.values())
            if member.report is not None
            for group in member.report.status.groups
            if group.name == spec.name
        ]
        found = set()
        for region in spec.home.standbys:
            parts = [each.get(region, (-1, 0)) for each in shared]
            if parts and all(events == 0 or (events > 0 and since_ms < CAUGHT_UP_MS) for events, since_ms in parts):
                found.add(region)
        summaries = self._peers.summaries()
        return {region for region in found if _lag_ms(summaries.get(region), self._region) <= LINK_LAG_MS}

    # -- an operator's word --------------------------------------------------------------------------------------------

    def move(self, spec: GroupSpec, to: str, spread: Callable[[str], Any]) -> str:
        """The group at home in ``to``: first a standby there, until it has caught up, but not for long.

        ``spread``: lets all instances and regions know of the group as it is. Returns what there is to say of it.
        """
        if not spec.home.region:
            raise ConflictError(f"group {spec.name!r} is each region's own (scope: region): it has no home to move")
        now_ns = self._look()
        if spec.home.region != self._region:
            return self._seize(spec, to, now_ns)
        if to == self._region:
            return f"is at home in {to} already"
        ready = self._homes.prepared(spec.home, to)
        if ready != spec.home:
            self._carry_out([(spec, Move(ready, f"prepares its move to {to}"))])
            spread(spec.name)
        caught_up = self._wait_for(spec.name, to)
        spec = self._registry.find(spec.name)
        moved = self._homes.moved(spec.home, to, self._look())
        self._carry_out([(spec, Move(moved, f"moves it to {to}, as an operator asked"))])
        return f"is at home in {to}" + ("" if caught_up else "; what it had not heard yet is delivered again")

    def _seize(self, spec: GroupSpec, to: str, now_ns: int) -> str:
        """The home is lost, and nobody waits for it: here is the group's home from now on."""
        if self._homes.regions.is_living(spec.home.region):
            raise UnavailableError(f"group {spec.name!r} is at home in {spec.home.region}: it is moved there")
        moved = self._homes.moved(spec.home, to, now_ns)
        self._carry_out([(spec, Move(moved, f"takes it from {spec.home.region}, which is lost"))])
        return f"is at home in {to}; what {spec.home.region} had not shared is delivered again"

    def _wait_for(self, name: str, to: str) -> bool:
        pause = Event()
        for _ in range(round(PREPARE_S / PREPARE_POLL_S)):
            if to in self.caught_up(self._registry.find(name)):
                return True
            pause.wait(PREPARE_POLL_S)
        return False

    def give_away(self, region: str) -> None:
        """A region is about to leave the federation: its groups move, if it is there to say so."""
        if region == self._region:
            self.leave()
        elif self.is_living(region):
            self._peers.relay(region, "leave_groups", "", None)

    def leave(self, _: str = "", __: Any = None) -> dict[str, Any]:
        """Give all groups away; none is taken any more."""
        self._homes.leaving = True
        while any(spec.home.region == self._region for spec in self._registry.living()):
            before = self._registry.version
            self.step()
            if self._registry.version == before:  # there is nobody to take them
                break
        return {"region": self._region}


def _lag_ms(summary: Any, origin: str) -> int:
    lag = summary.lags.get(origin) if summary is not None else None
    return lag.lag_ms if lag is not None else 0
