"""The region that keyed events go to: home, or while nobody there takes any, the one that stands in.

Order per key breaks whenever that changes, so it changes rarely: who stands in is chosen once, as the order of the
regions is then, and stays until nobody is left there either, or until home has been back for :data:`HOME_BACK_NS`
without a break. Whoever asks has to be told of a change before anything goes another way: that is what
:meth:`KeyRegion.review` returns. Pure: time is passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedbus.errors import NotFoundError, UnavailableError
from fedbus.routing.router import Router
from fedbus.routing.table import InstanceRoute

HOME_BACK_NS = 5_000_000_000


class KeyRegion:
    """One of ``regions`` (the first is home; None: all of the federation, as near as the router finds them)."""

    def __init__(self, router: Router, regions: Sequence[str] | None = None) -> None:
        self._router = router
        self._regions = regions
        self._home = regions[0] if regions else router.home_region
        self._back_ns: int | None = None  # home takes events again since then
        self._used = False  # something was placed where it is now
        self.now = self._home

    def owner(self, key_hash: int, avoid: Collection[str]) -> InstanceRoute:
        """Whose this key is there; :class:`UnavailableError` if nobody takes any."""
        try:
            found = self._router.owner(key_hash, self.now, avoid, elsewhere=False)
        except NotFoundError as error:
            raise UnavailableError(str(error)) from None
        self._used = True
        return found

    def review(self, avoid: Collection[str], now_ns: int) -> bool:
        """Look again who takes events, given whom to avoid; whether keys go to another region from now on."""
        before = self.now
        home = self._takes(self._home, avoid)
        self._back_ns = (now_ns if self._back_ns is None else self._back_ns) if home else None
        stays = self._takes(before, avoid)
        if before != self._home and stays and home and self._back_ns is not None:
            stays = self._used and now_ns - self._back_ns < HOME_BACK_NS
        if not stays:
            order = self._regions or [region for region, _ in self._router.failover()]
            self.now = next((region for region in order if self._takes(region, avoid)), before)
        if self.now != before:
            self._used = False
        return self.now != before

    def _takes(self, region: str, avoid: Collection[str]) -> bool:
        return any(route.takes_events and route.instance not in avoid for route in self._router.instances(region))
