"""What neighbours ask of a region's capacity: room for one that could be lost, and the load of one that is (N−1).

A region holds, on top of its own need, its share of its largest neighbour's load. Shares go by capacity among the
regions that would be left. Once a neighbour is lost, what it carried when it was last heard is expected here, on top of
what this region carried then: in place of the reserve, and never on top of load that has already moved. After
``takeover_s`` the observed load contains it, and the reserve is for those that are left. When many neighbours are lost
at once, it is this region that was cut off: load that cannot get here is not waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fedbus.control.brake import many
from fedbus.control.capacity import IN_SERVICE
from fedbus.control.load import NS_PER_S
from fedbus.control.wish import Demand, is_rate, rate

if TYPE_CHECKING:
    from fedbus.control.view import ObservedLoad, PeerSummary, PlanSettings, RegionView


def lately_lost(view: RegionView, now_ns: int, settings: PlanSettings) -> list[PeerSummary]:
    """Neighbours whose load has not been seen long enough to be in what is observed."""
    return [
        peer
        for peer in view.peers
        if peer.lost_since_ns is not None and now_ns - peer.lost_since_ns <= settings.takeover_s * NS_PER_S
    ]


def own_load(view: RegionView, now_ns: int, settings: PlanSettings) -> ObservedLoad | None:
    """The load without that of lost neighbours: as it was when the last one was still there (and measured)."""
    alone, observed = view.memory.alone, view.observed
    measured = observed is None or (is_rate(observed.eps) and is_rate(observed.bps))
    if not measured or (alone is not None and lately_lost(view, now_ns, settings)):
        return alone
    return observed


def cut_off(view: RegionView, now_ns: int, settings: PlanSettings) -> bool:
    """Whether so many neighbours are gone that this region is more likely to be the one that is away."""
    return many(len(lately_lost(view, now_ns, settings)), len(view.peers), settings.brake_share)


def taken_over(view: RegionView, now_ns: int, settings: PlanSettings) -> list[Demand]:
    """Own load plus the share of what regions lost a short while ago carried."""
    lost = [peer for peer in lately_lost(view, now_ns, settings) if _is_load(peer)]
    if cut_off(view, now_ns, settings):
        return []
    own = own_load(view, now_ns, settings)
    if not lost or own is None or not (is_rate(own.eps) and is_rate(own.bps)):
        return []
    share = _share(view, lost)
    eps = own.eps + share * sum(peer.load_eps for peer in lost)
    bps = own.bps + share * sum(peer.load_bps for peer in lost)
    names = ", ".join(peer.region for peer in lost)
    return [Demand("reactive", eps, bps, now_ns, f"{names} cannot be reached, with its share the load is {rate(eps)}")]


def reserved(view: RegionView, own: Sequence[Demand], now_ns: int, settings: PlanSettings) -> list[Demand]:
    """The largest of a region's own demands plus its share of the largest neighbour that could be lost."""
    living = [peer for peer in view.peers if peer.lost_since_ns is None and _is_load(peer)]
    if not settings.neighbour_reserve or not living or not own or lately_lost(view, now_ns, settings):
        return []
    largest = max(living, key=lambda peer: (peer.load_eps, peer.region))
    share = _share(view, [largest])
    most = max(own, key=lambda demand: demand.eps)
    eps, bps = most.eps + share * largest.load_eps, max(each.bps for each in own) + share * largest.load_bps
    if eps <= most.eps and share * largest.load_bps <= 0:
        return []
    why = f"with {share:.0%} of {largest.region}'s {rate(largest.load_eps)}, should that be lost, it is {rate(eps)}"
    return [Demand("neighbour", eps, bps, most.at_ns, f"{most.why}; {why}")]


def _share(view: RegionView, lost: Iterable[PeerSummary]) -> float:
    """A region's part of what the lost ones carry: by capacity among those left, equal if none is known."""
    gone = {peer.region for peer in lost}
    left = [peer for peer in view.peers if peer.lost_since_ns is None and peer.region not in gone]
    sizes = {size.name: size.events_per_s for size in view.sizes}
    here = sum(sizes.get(each.size, 0.0) for each in view.instances if each.state in IN_SERVICE)
    there = sum(peer.capacity_eps for peer in left if is_rate(peer.capacity_eps))
    return here / (here + there) if here > 0 and there > 0 else 1 / (1 + len(left))


def _is_load(peer: PeerSummary) -> bool:
    return is_rate(peer.load_eps) and is_rate(peer.load_bps)
