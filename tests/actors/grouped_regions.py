"""Regions without Ray: registries of groups over real stores, instances that remember what they are told, and peering
that passes words on at once, unless somebody is cut off."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec

from fedbus.broker.group_spec import GroupRecord
from fedbus.broker.protocol import GroupOptions, Start
from fedbus.broker.status import BrokerStatus, GroupStatus, LedgerBacklog
from fedbus.clock import NS_PER_S
from fedbus.control.group_homes import HomeSettings
from fedbus.control.summary import LedgerSummary, RegionAddress, RegionSummary
from fedbus.errors import NotFoundError, UnavailableError
from fedbus.limits import Limits
from fedbus.storage.store import Store
from fedbus_actors.region_groups import RegionGroups


class Instance:
    """An instance as its manager has it; remembers what it was told, unless it does not answer."""

    def __init__(self, region: str, name: str, ends: dict[str, int] | None = None) -> None:
        self.name = f"{region}/{name}"
        self.state = "healthy"
        self.handle = self
        self.answers = True
        self.refuses: dict[str, str] = {}
        self.definitions: list[GroupRecord] = []
        self.follows: list[Any] = []
        self.refusals: list[tuple[Any, ...]] = []
        self.told = 0
        self.status = BrokerStatus(self.name, f"{self.name}/0", "healthy", ends or {}, [], [], {}, 0, {})
        self.report: Any = SimpleNamespace(pid=7, status=self.status)
        self.apply_groups = SimpleNamespace(remote=self._apply)
        self.apply_follows = SimpleNamespace(remote=self._follow)
        self.backlog: list[LedgerBacklog] = []
        self.group_backlog = SimpleNamespace(remote=lambda _: self.backlog)
        self.group_refused = SimpleNamespace(remote=lambda *refusal: self.refusals.append(refusal))

    def _apply(self, definitions: list[GroupRecord]) -> Any:
        if not self.answers:
            return TimeoutError("no answer")
        self.told += 1
        self.definitions = definitions
        return self.refuses

    def _follow(self, follows: list[Any]) -> None:
        self.follows = follows

    def names(self) -> list[str]:
        return [each.spec.name for each in self.definitions if not each.deleted]

    def shares(self, group: str, **standbys: tuple[int, int]) -> None:
        """What it reports of a group: events and milliseconds not shared yet, by region."""
        others = [each for each in self.status.groups if each.name != group]
        self.status.groups[:] = [*others, GroupStatus(group, ["a"], [], 0, 0, 0, shared=dict(standbys))]


class GroupedRegion:
    """One region: its store, an instance, its groups. ``notes``: its status log."""

    def __init__(self, world: GroupedRegions, name: str, folder: Path) -> None:
        self.world, self.name = world, name
        self.store = Store(folder / f"{name}.db", 1)
        self.instance = Instance(name, "b1", {f"{name}/b1/0": 5})
        self.fleet: Any = SimpleNamespace(members={"b1": self.instance})
        self.notes: list[str] = []
        self.left = False
        self.lags: dict[str, Any] = {}
        self.groups = RegionGroups(
            name, self.store, self.fleet, Limits(), lambda: self, world.settings, world,  # type: ignore[arg-type]
            self._note,
        )  # fmt: skip

    def _note(self, kind: str, message: str) -> None:
        self.notes.append(message)
        self.store.status_log.append(self.name, kind, message, self.world.time_ns)

    def home(self, group: str) -> Any:
        spec = self.groups.registry.spec(group)
        return spec.home if spec is not None else None

    # -- what groups ask of peering ------------------------------------------------------------------------------------

    def _others(self) -> list[GroupedRegion]:
        return [each for each in self.world.regions.values() if each is not self and not each.left]

    @property
    def states(self) -> dict[str, Any]:
        return {
            each.name: SimpleNamespace(
                present=self.world.hears(self.name, each.name),
                lost_since_ns=self.world.lost(self.name, each.name),
                round_trip_ms=self.world.round_trips.get(frozenset((self.name, each.name))),
            )
            for each in self._others()
        }

    @property
    def summaries(self) -> dict[str, RegionSummary]:
        return {
            each.name: RegionSummary(
                each.name, 1, 0, 0.0, 0.0, 0.0, 0.0, 0.0, [],
                [LedgerSummary(ledger, end, f"tcp://{each.name}", open=True) for ledger, end in
                 each.instance.status.ledgers.items()], link_key=f"key of {each.name}", lags=each.lags,
            )
            for each in self._others()
        }  # fmt: skip

    def members(self) -> list[RegionAddress]:
        return [RegionAddress(each.name, "", "", left=each.left) for each in self.world.regions.values()]

    def publish_groups(self, records: Iterable[GroupRecord]) -> None:
        for other in self._others():
            if self.world.hears(other.name, self.name):
                other.groups.exchange.heard(records)

    def call(self, region: str, method: str, *arguments: Any, timeout_s: float) -> Any:
        if not self.world.hears(self.name, region) or not self.world.hears(region, self.name):
            raise UnavailableError(f"region {region} is lost")
        if region not in self.world.regions:
            raise NotFoundError(f"there is no region {region}")
        what, *rest = msgspec.json.decode(msgspec.json.encode(arguments))
        groups = self.world.regions[region].groups
        if method == "query":
            return msgspec.to_builtins(groups.exchange.answer(rest[0]))
        name, value = rest
        if what == "put_group":
            start = msgspec.convert(value["start"], Start | None)
            value |= {"start": start, "options": msgspec.convert(value["options"], GroupOptions)}
        elif what == "seek_group":
            value = msgspec.convert(value, Start)
        change = {"put_group": groups.put, "seek_group": groups.seek, "delete_group": groups.delete,
                  "move_group": groups.move}[what]  # fmt: skip
        return change(name, value)


class GroupedRegions:
    """All regions, and their clock."""

    def __init__(self, folder: Path, *names: str, settings: HomeSettings | None = None) -> None:
        self.settings = settings or HomeSettings()
        self.cut: set[str] = set()
        self.lost_since: dict[tuple[str, str], int] = {}
        self.round_trips: dict[frozenset[str], float] = {}
        self.time_ns = NS_PER_S
        self.regions: dict[str, GroupedRegion] = {}
        for name in names:
            self.regions[name] = GroupedRegion(self, name, folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.regions.values():
            each.groups.requests.stop()
            each.store.close()

    def __getitem__(self, name: str) -> GroupedRegion:
        return self.regions[name]

    def now_ns(self) -> int:
        return self.time_ns

    def monotonic_ns(self) -> int:
        return self.time_ns

    def hears(self, region: str, other: str) -> bool:
        return region not in self.cut and other not in self.cut

    def lost(self, region: str, other: str) -> int | None:
        """Since when; from the first look on."""
        if self.hears(region, other):
            return None
        return self.lost_since.setdefault((region, other), self.time_ns)

    def run(self, seconds: int) -> None:
        """The watches of all regions, once a second; who hears one another exchanges what it knows."""
        for _ in range(seconds):
            self.time_ns += NS_PER_S
            for one in self.regions.values():
                for other in self.regions.values():
                    if other is not one:
                        self._meet(one, other)
            for each in self.regions.values():
                each.groups.step()

    def _meet(self, one: GroupedRegion, other: GroupedRegion) -> None:
        if not self.hears(one.name, other.name):
            self.lost_since.setdefault((one.name, other.name), self.time_ns)
            return
        self.lost_since.pop((one.name, other.name), None)
        if one.groups.shared.digest() != other.groups.shared.digest():
            one.groups.exchange.heard(other.groups.shared.records())
