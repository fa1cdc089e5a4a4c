"""Whereabouts: the region in which a subscription attaches: for members of a group that in which it is at home.

A group is at home in one region, wherever its members are. They begin in their own; an instance of another region says
where the home is, or where it went. If nobody answers there (the region is lost), the other regions are asked in turn,
the own one first, until one of them has taken the group over.

A live subscription is at home in its own region. If nobody answers there for :data:`LIVE_PATIENCE_BEATS`, it goes on in
the next one, with what is stored there from a while before on (what it had already is known by its position), and back
once its own has been there for as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedbus.client.connection import Connection

PATIENCE_BEATS = 4  # without any connection, before another region is asked
LIVE_PATIENCE_BEATS = 40  # the same for live subscriptions: nobody sends them back, and their region may only restart
OVERLAP_MS = 60_000  # what had not come over a link yet when a live subscription left its region
MOVES_A_BEAT = 2  # regions that know different things send one back and forth


class Whereabouts:
    """``regions``: those of the federation, the own one first; ``connections``: to the instances of one.

    ``moved``: whether it has ever been another one than the own. ``since_ms``: what is stored there since then (unix
    time) may be new to a live subscription that came from elsewhere.
    """

    def __init__(
        self,
        regions: Callable[[], list[str]],
        connections: Callable[[str], Mapping[str, Connection]],
        now_ms: Callable[[], int],
    ) -> None:
        self._regions = regions
        self._now_ms = now_ms
        self._began_ms = now_ms()
        self._connections = connections
        self._region = next(iter(regions()), "")
        self.moved = False
        self.since_ms = 0
        self._silent_beats = 0
        self._home_beats = 0
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
        return self._beat(PATIENCE_BEATS, reachable=reachable)

    def beat_live(self, *, reachable: bool) -> bool:
        """The same for a live subscription, which also goes back to its own region."""
        home = next(iter(self._regions()), self._region)
        answers = home != self._region and any(each.ready for each in self._connections(home).values())
        self._home_beats = self._home_beats + 1 if answers else 0
        if self._home_beats >= LIVE_PATIENCE_BEATS:
            self._turn = 0
            self._move(home)
            return True
        return self._beat(LIVE_PATIENCE_BEATS, reachable=reachable)

    def _beat(self, patience_beats: int, *, reachable: bool) -> bool:
        self._moves = 0
        self._silent_beats = 0 if reachable else self._silent_beats + 1
        if self._silent_beats < patience_beats:
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
        self._silent_beats = self._home_beats = 0
        self.since_ms = max(self._began_ms, self._now_ms() - OVERLAP_MS)
