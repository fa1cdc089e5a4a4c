"""N−1: room for the largest neighbour, and its load when it is lost."""

from __future__ import annotations

import msgspec
import pytest

from fedbus.control.capacity import InstanceSize
from fedbus.control.load import NS_PER_S
from fedbus.control.plan import plan
from fedbus.control.view import InstanceView, Memory, ObservedLoad, PeerSummary, PlanSettings, RegionView, View

NOW = 1_735_740_000 * NS_PER_S
US = PeerSummary(region="us", at_ns=NOW, load_eps=3000, load_bps=3e5, capacity_eps=4000)
AP = PeerSummary(region="ap", at_ns=NOW, load_eps=500, load_bps=5e4, capacity_eps=1000)


def eu(count=2, load=1000.0, peers=(US, AP), **changes):
    base = RegionView(
        region="eu", sizes=(InstanceSize("small", 1000.0),), size="small", minimum=1, maximum=20,
        instances=tuple(
            InstanceView(id=f"b{n}", size="small", state="healthy", node="n1", since_ns=NOW - 3600 * NS_PER_S)
            for n in range(count)
        ),
        observed=ObservedLoad(NOW, load), provisioning_lead_s=300, memory=Memory(began_ns=NOW - 3600 * NS_PER_S),
        target_utilization=0.5, peers=peers,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def planned(view, now_ns=NOW, **knobs):
    return plan(View(now_ns=now_ns, generation=1, regions=(view,), settings=PlanSettings(**knobs))).regions[0]


def lost(peer, seconds=30):
    return msgspec.structs.replace(peer, lost_since_ns=NOW - seconds * NS_PER_S)


def test_a_region_has_room_for_its_share_of_the_largest_neighbour_and_says_so():
    result = planned(eu(2))
    # eu holds 2,000 of the 3,000 events/s of capacity that would be left without us
    assert result.target == 6  # (1,000 + 2/3 of 3,000) at 50 %
    assert {each.cause for each in result.directives} == {"neighbour"}
    assert result.directives[0].reason == (
        "observed load is 1k events/s; with 67% of us's 3k events/s, should that be lost, it is 3k events/s "
        "= 6 × 500 events/s, capacity in service 1k events/s → create 4"
    )
    assert "6 × small needed" in result.explanation


def test_the_reserve_can_be_switched_off_and_needs_a_neighbour_with_a_load():
    assert planned(eu(2), neighbour_reserve=False).target == 2
    assert planned(eu(2, peers=())).target == 2
    assert planned(eu(2, peers=(msgspec.structs.replace(US, load_eps=0.0, load_bps=0.0),))).target == 2
    assert planned(eu(2, peers=(msgspec.structs.replace(US, load_eps=float("nan")),))).target == 2


def test_shares_are_equal_while_capacities_are_not_known():
    unknown = tuple(msgspec.structs.replace(each, capacity_eps=0.0) for each in (US, AP))
    assert planned(eu(2, peers=unknown)).target == 5  # 1,000 + 1/2 of 3,000


def test_the_shares_of_all_that_are_left_add_up_to_what_was_lost():
    regions = {"eu": 2, "ap": 1}
    taken = 0.0
    for name, count in regions.items():
        others = [
            PeerSummary(region=other, at_ns=NOW, load_eps=1000, capacity_eps=1000.0 * regions[other])
            for other in regions
            if other != name
        ]
        view = eu(count, peers=(US, *others), target_utilization=1.0, sizes=(InstanceSize("small", 1000.0),))
        demand = next(each for each in planned(view).directives if each.cause == "neighbour")
        taken += float(demand.reason.split("with ")[1].split("%")[0])
    assert taken == pytest.approx(100, abs=1)


def test_nothing_is_drained_that_the_reserve_needs():
    assert planned(eu(8)).directives == ()
    assert [each.action for each in planned(eu(8), neighbour_reserve=False).directives] == ["drain"]


def test_when_the_neighbour_is_lost_its_load_takes_the_place_of_the_reserve():
    before = planned(eu(8))
    gone = planned(eu(8, peers=(lost(US), AP), memory=before.memory))
    assert gone.target == before.target  # and no reserve for ap on top
    assert gone.directives == ()
    assert "us cannot be reached" in gone.explanation


def test_load_that_has_moved_already_is_not_counted_twice():
    before = planned(eu(8))
    for moved in (0.0, 1000.0, 2000.0):
        view = eu(8, load=1000.0 + moved, peers=(lost(US), AP), memory=before.memory)
        result = planned(view)
        assert result.target <= 8, moved
        assert result.memory.alone == ObservedLoad(NOW, 1000.0)


def test_after_a_while_the_observed_load_counts_alone_and_the_reserve_is_for_those_left():
    result = planned(eu(6, load=3000.0, peers=(lost(US, 1000), AP)))
    assert result.target == 7  # 3,000 + all of ap's 500, at 50 %
    assert result.memory.alone == ObservedLoad(NOW, 3000.0)


def test_a_neighbour_that_comes_back_is_a_neighbour_again():
    away = planned(eu(6, load=3000.0, peers=(lost(US), AP)))
    back = planned(eu(6, load=1000.0, memory=away.memory))
    assert back.memory.alone == ObservedLoad(NOW, 1000.0)
    assert "should that be lost" in back.explanation


@pytest.mark.parametrize("loads", [(1000.0, 1000.0, 1000.0), (4000.0, 1000.0, 300.0), (100.0, 100.0, 5000.0)])
def test_regions_that_reserve_for_one_another_settle(loads):
    """A share by capacity feeds back, as the reserve is capacity itself: it converges, because own load anchors it."""
    names = ("eu", "ap", "us")
    counts, history = dict.fromkeys(names, 1), []
    for _ in range(40):
        targets = {}
        for name, load in zip(names, loads, strict=True):
            peers = tuple(
                PeerSummary(region=other, at_ns=NOW, load_eps=theirs, capacity_eps=1000.0 * counts[other])
                for other, theirs in zip(names, loads, strict=True)
                if other != name
            )
            targets[name] = planned(eu(counts[name], load, peers, region=name, maximum=60)).target
        counts = targets
        history.append(tuple(counts.values()))
    assert history[-1] == history[-2], history
    for name in names:  # whoever is lost, those left hold everything at the planned utilisation
        left = sum(count for other, count in counts.items() if other != name)
        assert left * 1000 * 0.5 >= sum(loads) - 500, (name, counts)


def test_a_region_that_loses_most_neighbours_at_once_is_cut_off_and_expects_none_of_their_load():
    before = msgspec.structs.replace(planned(eu(8)).memory, needs=())
    result = planned(eu(8, peers=(lost(US), lost(AP)), memory=before))
    assert result.directives == ()
    assert result.target == 2
    assert "rather cut off" in result.explanation
    assert "no scale-in while a neighbour was lost" in result.explanation
    more = planned(eu(8, load=6000.0, peers=(lost(US), lost(AP)), memory=before))
    assert more.target == 12, "what does arrive counts all the same"
