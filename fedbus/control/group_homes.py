"""Homes of groups: which region dispatches a group, and who takes its place (protocol rule 13).

Every region decides for itself, from what it hears; what it decides is a :class:`GroupHome` with a higher term, which
reaches the others as part of the group's definition (``group_definitions.py``). While regions cannot hear one another
two may be home: both deliver, and once they hear one another again the higher term counts (of equal ones the region
whose name comes later). Since when a group is at home somewhere (:attr:`GroupHome.since_ns`, another clock's time)
whoever records it says.

A standby that hears nobody at all, where there would be several to hear, is more probably cut off itself: it waits
longer. It does not wait for a majority: two regions have none, and delivering twice is allowed, standing still is not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

import msgspec

from fedbus.broker.group_spec import GroupHome
from fedbus.control.regions_heard import RegionsHeard
from fedbus.errors import ConflictError, NotFoundError

NS_PER_S = 1_000_000_000
ALONE_FACTOR = 4
STABLE_FACTOR = 2


class HomeSettings(msgspec.Struct, frozen=True):
    """``failover_after_ns``: a home that is lost for so long is replaced. ``standbys``: how many are wanted.

    ``failback`` auto: the home goes back where it was, once that region has been heard for twice as long and has caught
    up; manual: it stays until an operator moves it.
    """

    failover_after_ns: int = 15 * NS_PER_S
    failback: Literal["auto", "manual"] = "auto"
    standbys: int = 1

    @property
    def stable_ns(self) -> int:
        """Heard for so long without a break a region counts as back."""
        return STABLE_FACTOR * self.failover_after_ns


class Move(NamedTuple):
    """Another home or other standbys, and why, in a sentence that begins with a verb."""

    home: GroupHome
    why: str


class GroupHomes:
    """One region's view. ``leaving``: it is about to leave the federation and gives its groups away.

    ``regions``: the others, as they are seen now.
    """

    def __init__(self, region: str, settings: HomeSettings) -> None:
        self.leaving = False
        self.regions = RegionsHeard(region)
        self._region = region
        self._settings = settings

    # -- decisions -----------------------------------------------------------------------------------------------------

    def first(self, now_ns: int) -> GroupHome:
        """Of a group that is made here."""
        return GroupHome(self._region, self._standbys(self._region, (), self._region, now_ns), 1, self._region)

    def decide(self, home: GroupHome, caught_up: Collection[str], now_ns: int) -> Move | None:
        """What this region changes about a group's home. ``caught_up``: regions that know what the home knows."""
        if home.region == self._region:
            return self._leave(home, now_ns) or self._fail_back(home, caught_up, now_ns) or self._tend(home, now_ns)
        if self._region in home.standbys and not self.leaving:
            return self._take_over(home, now_ns)
        return None

    def _take_over(self, home: GroupHome, now_ns: int) -> Move | None:
        wait_ns = self._settings.failover_after_ns * (ALONE_FACTOR if self.regions.alone else 1)
        before = home.standbys[: home.standbys.index(self._region)]
        if not all(self._missed(each, wait_ns, now_ns) for each in (home.region, *before)):
            return None
        preferred = home.preferred if self._settings.failback == "auto" else self._region
        preferred = self._region if self.regions.has_left(preferred) else preferred
        standbys = self._standbys(self._region, (*home.standbys, home.region), preferred, now_ns)
        lost_s = self.regions.lost_ns(home.region, now_ns) / NS_PER_S
        what = "has left" if self.regions.has_left(home.region) else f"is lost for {lost_s:.1f} s"
        return Move(
            GroupHome(self._region, standbys, home.term + 1, preferred),
            f"takes over from {home.region}, which {what}",
        )

    def _missed(self, region: str, wait_ns: int, now_ns: int) -> bool:
        return self.regions.has_left(region) or self.regions.lost_ns(region, now_ns) >= wait_ns

    def _leave(self, home: GroupHome, now_ns: int) -> Move | None:
        living = self.regions.living()
        heirs = [each for each in (*home.standbys, *living) if each in living]
        if not self.leaving or not heirs:
            return None
        return Move(self.moved(home, heirs[0], now_ns), f"gives it to {heirs[0]}: this region leaves the federation")

    def _fail_back(self, home: GroupHome, caught_up: Collection[str], now_ns: int) -> Move | None:
        to = home.preferred
        if self._settings.failback != "auto" or to in ("", self._region) or to not in home.standbys:
            return None
        if self.regions.heard_ns(to, now_ns) < self._settings.stable_ns or to not in caught_up:
            return None
        return Move(self.moved(home, to, now_ns), f"gives it back to {to}, which has caught up")

    def _tend(self, home: GroupHome, now_ns: int) -> Move | None:
        """Standbys that are gone are replaced; who is lost too, if there is another one."""
        preferred = self._region if self.regions.has_left(home.preferred) else home.preferred
        standbys = self._standbys(self._region, home.standbys, preferred, now_ns)
        if (standbys, preferred) == (home.standbys, home.preferred):
            return None
        changed = GroupHome(self._region, standbys, home.term + 1, preferred, home.since_ns)
        return Move(changed, f"has other standbys: {', '.join(standbys) or 'none'}")

    def _standbys(self, home: str, present: Iterable[str], preferred: str, now_ns: int) -> tuple[str, ...]:
        """As many as are wanted: who is one stays one; then the nearest; the preferred home always."""
        wanted, limit_ns = self._settings.standbys, self._settings.failover_after_ns
        may = [each for each in dict.fromkeys(present) if each != home and not self.regions.has_left(each)]
        lasting = [each for each in may if self.regions.lost_ns(each, now_ns) < limit_ns]
        chosen = list(dict.fromkeys((*lasting, *(each for each in self._near() if each != home), *may)))[:wanted]
        if preferred not in (*chosen, home, "") and not self.regions.has_left(preferred):
            chosen.append(preferred)
        return tuple(chosen)

    def _near(self) -> list[str]:
        return self.regions.living() if self.leaving else [*self.regions.living(), self._region]

    # -- an operator's word --------------------------------------------------------------------------------------------

    def prepared(self, home: GroupHome, to: str) -> GroupHome:
        """``to`` as a standby, where the group is preferred to be: a move is next.

        :class:`NotFoundError` if that is no region, :class:`ConflictError` if it is not heard.
        """
        members = self.regions.members()
        if to not in members:
            raise NotFoundError(f"region {to!r} is none of this federation's: {', '.join(members)}")
        if not self.regions.is_living(to):
            raise ConflictError(f"region {to} is lost: a group cannot move where nobody is heard")
        standbys = home.standbys if to in (home.region, *home.standbys) else (*home.standbys, to)
        if (standbys, to) == (home.standbys, home.preferred):
            return home
        return msgspec.structs.replace(home, standbys=standbys, preferred=to, term=home.term + 1)

    def moved(self, home: GroupHome, to: str, now_ns: int) -> GroupHome:
        """The group at home in ``to``, with the former home as its first standby."""
        present = (each for each in (home.region, *home.standbys) if not (self.leaving and each == self._region))
        return GroupHome(to, self._standbys(to, present, to, now_ns), home.term + 1, to)
