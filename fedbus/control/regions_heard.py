"""The other regions as one of them hears them: who is lost, since when, who is back for how long, who has left."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class RegionState(msgspec.Struct, frozen=True):
    """Another region as seen from here. ``lost_since_ns`` ``None``: it is heard; ``left``: a member no more."""

    lost_since_ns: int | None = None
    left: bool = False
    round_trip_ms: float = 0.0


class RegionsHeard:
    """As ``region`` sees the others. All times are of one clock."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._states: dict[str, RegionState] = {}
        self._heard_since: dict[str, int] = {}
        self._living: list[str] = []
        self._missing_since: dict[str, int] = {}  # named by somebody, but not known to be a member

    def observe(self, states: Mapping[str, RegionState], now_ns: int) -> None:
        """What is known of them now."""
        self._states = {name: state for name, state in states.items() if name != self._region}
        heard = {name for name, state in self._states.items() if state.lost_since_ns is None and not state.left}
        self._heard_since = {name: self._heard_since.get(name, now_ns) for name in heard}
        self._living = sorted(heard, key=lambda name: (self._states[name].round_trip_ms, name))
        self._missing_since = {name: at for name, at in self._missing_since.items() if name not in self._states}

    def living(self) -> list[str]:
        """The other regions that are heard, the nearest first."""
        return list(self._living)

    def members(self) -> list[str]:
        """All that have not left, this one too."""
        return sorted((self._region, *(name for name, state in self._states.items() if not state.left)))

    def is_living(self, region: str) -> bool:
        """Whether this region is heard (the own one is)."""
        return region == self._region or region in self._heard_since

    def has_left(self, region: str) -> bool:
        """Whether it is known to have left the federation."""
        return region in self._states and self._states[region].left

    def lost_ns(self, region: str, now_ns: int) -> int:
        """For how long it has been lost; 0 while it is heard."""
        state = self._states.get(region)
        if state is None:
            return now_ns - self._missing_since.setdefault(region, now_ns)
        return 0 if state.lost_since_ns is None else max(1, now_ns - state.lost_since_ns)

    def heard_ns(self, region: str, now_ns: int) -> int:
        """For how long it has been heard without a break; -1 if it is not."""
        return now_ns - self._heard_since[region] if region in self._heard_since else -1

    @property
    def alone(self) -> bool:
        """Whether nobody is heard where there would be several to hear."""
        others = [name for name in self.members() if name != self._region]
        return len(others) > 1 and not self._heard_since
