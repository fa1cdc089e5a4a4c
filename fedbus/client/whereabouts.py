"""Whereabouts: the region in which the members of one group attach.

A group is at home in one region, wherever its members are. They begin in their own; an instance of another region says
where the home is, or where it went. If nobody answers there (the region is lost), the other regions are asked in turn,
the own one first, until one of them has taken the group over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedbus.client.connection import Connection

PATIENCE_BEATS = 4  # without any connection, before another region is asked
MOVES_A_BEAT = 2  # regions that know different things send one back and forth


class Whereabouts:
    """``regions``: those of the federation, the own one first; ``connections``: to the instances of one.

    ``moved``: whether it has ever been another one than the own.
    """

    def __init__(
        self, regions: Callable[[], list[str]], connections: Callable[[str], Mapping[str, Connection]]
    ) -> None:
        self._regions = regions
        self._connections = connections
        self._region = next(iter(regions()), "")
        self.moved = False
        self._silent_beats = 0
        self._moves = 0
        self._turn = 0

    def connections(self) -> Mapping[str, Connection]:
        """Where to attach now."""
        return self._connections(self._region)

    def told(self, region: str) -> bool:
        """The group is said to be at home there; whether to attach there from now on."""
        if region == self._region or region not in self._regions() or self._moves >= MOVES_A_BEAT:
            return False
        self._move(region)
        return True

    def beat(self, *, reachable: bool) -> bool:
        """A moment has passed, in which somebody could be reached or not; whether to ask in another region now."""
        self._moves = 0
        self._silent_beats = 0 if reachable else self._silent_beats + 1
        if self._silent_beats < PATIENCE_BEATS:
            return False
        others = [region for region in self._regions() if region != self._region]
        if not others:
            return False
        self._turn += 1
        self._move(others[(self._turn - 1) % len(others)])
        return True

    def _move(self, region: str) -> None:
        self._region = region
        self.moved = True
        self._moves += 1
        self._silent_beats = 0
