"""Regions that decide about the home of a group and tell one another, second by second, while cuts come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from fedbus.broker.group_spec import GroupHome, GroupRecord, GroupSpec
from fedbus.broker.protocol import EARLIEST
from fedbus.control.group_definitions import merge
from fedbus.control.group_homes import NS_PER_S, GroupHomes, HomeSettings
from fedbus.control.regions_heard import RegionState

Cuts = frozenset[tuple[str, str]]  # (who does not hear, whom)
Merge = Callable[[GroupRecord, GroupRecord], GroupRecord]


def cut_off(region: str, others: Iterable[str]) -> Cuts:
    """Nobody hears it, it hears nobody."""
    return frozenset(pair for other in others if other != region for pair in ((region, other), (other, region)))


class HomesWorld:
    """``log``: (second, region, the home it gave the group). Raises AssertionError at what may never be."""

    def __init__(
        self,
        names: tuple[str, ...],
        settings: HomeSettings | None = None,
        *,
        keeper: type[GroupHomes] = GroupHomes,
        merged: Merge = merge,
    ) -> None:
        self.names, self.settings, self._merged = names, settings or HomeSettings(), merged
        self.homes = {name: keeper(name, self.settings) for name in names}
        self.second = 0
        self.cuts: Cuts = frozenset()
        self.left: set[str] = set()
        self.log: list[tuple[int, str, GroupHome]] = []
        self._lost_since: dict[tuple[str, str], int] = {}
        self._whole_for = 0
        for name in names:
            self._observe(name)
        spec = GroupSpec("g", ["a"], EARLIEST, created_ns=1, version=1, home=self.homes[names[0]].first(0))
        self.records = dict.fromkeys(names, GroupRecord(spec))

    @property
    def now_ns(self) -> int:
        return self.second * NS_PER_S

    def home(self, name: str) -> GroupHome:
        """As this region knows it."""
        return self.records[name].spec.home

    def _observe(self, name: str) -> None:
        states = {
            other: RegionState(self._lost_since.get((name, other)), other in self.left, abs(place - self.place(name)))
            for place, other in enumerate(self.names)
            if other != name
        }
        self.homes[name].regions.observe(states, self.now_ns)

    def place(self, name: str) -> int:
        return self.names.index(name)

    def set(self, name: str, home: GroupHome) -> None:
        """A region gives the group another home."""
        before = self.home(name)
        assert home.term > before.term, f"{name}: {before} -> {home}"
        if before.region not in (home.region, name):
            lost_since = self._lost_since.get((name, before.region))
            gone = before.region in self.left
            waited = lost_since is not None and self.now_ns - lost_since >= self.settings.failover_after_ns
            assert gone or waited, f"second {self.second}: {name} takes over from {before.region} too early"
        self.records[name] = GroupRecord(replace(self.records[name].spec, home=home))
        self.log.append((self.second, name, home))

    def step(self, caught_up: bool = True) -> None:
        """A second: everybody looks, decides, and hears those who are not cut off."""
        self.second += 1
        for pair in [(a, b) for a in self.names for b in self.names if a != b]:
            if pair in self.cuts:
                self._lost_since.setdefault(pair, self.now_ns)
            else:
                self._lost_since.pop(pair, None)
        self._whole_for = 0 if self.cuts else self._whole_for + 1
        for name in (each for each in self.names if each not in self.left):
            self._observe(name)
            known = self.names if caught_up else ()
            move = self.homes[name].decide(self.home(name), known, self.now_ns)
            if move is not None:
                self.set(name, move.home)
        self._tell()
        if self._whole_for > 2:
            acting = [name for name in self.names if self.home(name).region == name and name not in self.left]
            assert len(acting) == 1, f"second {self.second}: at home in {acting}, though all hear one another"

    def _tell(self) -> None:
        for name in self.names:
            for other in self.names:
                if other != name and (name, other) not in self.cuts:
                    before = self.home(name).term
                    self.records[name] = self._merged(self.records[name], self.records[other])
                    assert self.home(name).term >= before, "terms only grow"

    def run(self, seconds: int, cuts: Cuts = frozenset()) -> None:
        """So many seconds under these cuts."""
        self.cuts = cuts
        for _ in range(seconds):
            self.step()
