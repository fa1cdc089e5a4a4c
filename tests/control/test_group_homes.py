"""Homes of groups: who takes over when, who goes back when, and that all regions come to the same end (rule 13)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.broker.group_spec import GroupHome
from fedbus.control import group_homes
from fedbus.control.group_homes import NS_PER_S, GroupHomes, HomeSettings
from fedbus.control.regions_heard import RegionsHeard, RegionState
from fedbus.errors import ConflictError, NotFoundError
from tests.control.homes_world import HomesWorld, cut_off

NAMES = ("a", "b", "c", "d")
HEARD, LOST, LEFT = RegionState(), RegionState(lost_since_ns=0), RegionState(left=True)
HOME = GroupHome("a", ("b", "c"), 3, "a", 0)
TWO = HomeSettings(standbys=2)
S = NS_PER_S


def seen_by(region, states, *, at_s=0, keeper_settings=TWO):
    homes = GroupHomes(region, keeper_settings)
    homes.regions.observe(states, at_s * S)
    return homes


@pytest.mark.parametrize(
    ("region", "states", "second", "taken"),
    [
        ("b", {"a": HEARD, "c": HEARD}, 100, False),
        ("b", {"a": LOST, "c": HEARD}, 14, False),
        ("b", {"a": LOST, "c": HEARD}, 15, True),
        ("c", {"a": LOST, "b": HEARD, "d": HEARD}, 100, False),  # one before it is there
        ("c", {"a": LOST, "b": LOST, "d": HEARD}, 15, True),
        ("c", {"a": LOST, "b": RegionState(lost_since_ns=90 * S), "d": HEARD}, 100, False),  # … or may be still
        ("b", {"a": LEFT, "c": HEARD}, 0, True),
        ("b", {"a": LOST}, 15, True),  # two regions have no majority
        ("b", {"a": LOST, "c": LOST}, 59, False),  # hears nobody: it may be cut off itself
        ("b", {"a": LOST, "c": LOST}, 60, True),
        ("d", {"a": LOST, "b": LOST, "c": LOST}, 1000, False),  # no standby
    ],
)  # fmt: skip
def test_when_a_standby_takes_over(region, states, second, taken):
    move = seen_by(region, states, at_s=second).decide(HOME, (), second * S)
    assert (move is not None) is taken
    if move is not None:
        assert (move.home.region, move.home.term) == (region, 4)
        assert region not in move.home.standbys
        assert "takes over from a" in move.why


def test_a_home_that_no_longer_is_known_counts_as_lost_from_then_on():
    homes = seen_by("b", {"c": HEARD})
    assert homes.decide(HOME, (), 0) is None
    assert homes.decide(HOME, (), 15 * S).home.region == "b"


def test_who_took_over_keeps_the_former_home_as_the_last_standby():
    homes = seen_by("b", {"a": LOST, "c": HEARD, "d": HEARD}, at_s=15)
    assert homes.decide(HOME, (), 15 * S).home == GroupHome("b", ("c", "d", "a"), 4, "a")


def test_without_automatic_failback_it_stays_where_it_is():
    manual = HomeSettings(failback="manual", standbys=2)
    homes = seen_by("b", {"a": LOST, "c": HEARD}, at_s=15, keeper_settings=manual)
    home = homes.decide(HOME, (), 15 * S).home
    assert home.preferred == "b"
    homes.regions.observe({"a": HEARD, "c": HEARD}, 16 * S)
    homes.regions.observe({"a": HEARD, "c": HEARD}, 900 * S)
    assert homes.decide(home, ("a", "c"), 900 * S) is None


def test_it_goes_back_when_the_preferred_region_is_there_for_long_and_has_caught_up():
    homes, home = seen_by("b", {"a": HEARD, "c": HEARD}), GroupHome("b", ("c", "a"), 4, "a", 0)
    assert homes.decide(home, ("a",), 29 * S) is None
    assert homes.decide(home, (), 30 * S) is None
    back = homes.decide(home, ("a",), 30 * S)
    assert back.home == GroupHome("a", ("b", "c"), 5, "a")
    homes.regions.observe({"a": LOST, "c": HEARD}, 31 * S)
    homes.regions.observe({"a": HEARD, "c": HEARD}, 32 * S)
    assert homes.decide(home, ("a",), 61 * S) is None  # heard anew


def test_a_new_group_is_at_home_where_it_is_made_and_the_nearest_stand_by():
    homes = seen_by("a", {"b": RegionState(round_trip_ms=90), "c": RegionState(round_trip_ms=3), "d": LOST})
    assert homes.first(7) == GroupHome("a", ("c", "b"), 1, "a")
    alone = seen_by("a", {})
    assert alone.first(7) == GroupHome("a", (), 1, "a")


def test_the_home_replaces_standbys_that_left_or_are_lost_and_keeps_those_it_has():
    homes = seen_by("a", {"b": HEARD, "c": HEARD, "d": RegionState(round_trip_ms=-1)})
    assert homes.decide(HOME, (), 0) is None  # a nearer one is no reason
    homes.regions.observe({"b": LEFT, "c": HEARD, "d": HEARD}, 0)
    assert homes.decide(HOME, (), 0).home == GroupHome("a", ("c", "d"), 4, "a", 0)
    homes.regions.observe({"b": LOST, "c": HEARD, "d": HEARD}, 0)
    assert homes.decide(HOME, (), 14 * S) is None
    assert homes.decide(HOME, (), 15 * S).home.standbys == ("c", "d")
    homes.regions.observe({"b": LOST, "c": LOST}, 0)
    assert homes.decide(HOME, (), 15 * S) is None  # nobody is better


def test_a_region_that_leaves_gives_its_groups_away_and_takes_none():
    homes = seen_by("a", {"b": LOST, "c": HEARD, "d": HEARD})
    homes.leaving = True
    assert homes.decide(HOME, (), 0).home == GroupHome("c", ("b", "d"), 4, "c", 0)
    other = seen_by("b", {"a": LOST, "c": HEARD}, at_s=99)
    other.leaving = True
    assert other.decide(HOME, (), 99 * S) is None


def test_a_move_is_prepared_by_a_standby_where_the_group_is_to_be():
    homes = seen_by("a", {"b": HEARD, "c": HEARD, "d": HEARD, "e": LOST, "f": LEFT})
    ready = homes.prepared(HOME, "d")
    assert (ready.region, ready.standbys, ready.preferred, ready.term) == ("a", ("b", "c", "d"), "d", 4)
    assert homes.decide(ready, (), 0) is None  # it stays one
    assert homes.moved(ready, "d", 5) == GroupHome("d", ("a", "b"), 5, "d")
    assert homes.prepared(HOME, "a") == HOME
    with pytest.raises(ConflictError):
        homes.prepared(HOME, "e")
    for unknown in ("f", "g"):
        with pytest.raises(NotFoundError):
            homes.prepared(HOME, unknown)


# -- several regions together ------------------------------------------------------------------------------------------


def converged(world):
    """All regions agree, and the group is where it is preferred to be."""
    known = {name: world.home(name) for name in world.names}
    assert len(set(known.values())) == 1, f"regions disagree: {known}"
    home = world.home(world.names[0])
    assert home.region == home.preferred == world.names[0]


def settle(world):
    """Long enough for every wait there is."""
    world.run(4 * world.settings.failover_after_ns // S + world.settings.stable_ns // S + 10)


def test_a_home_cut_off_is_replaced_and_comes_back():
    names = NAMES[:3]
    world = HomesWorld(names)
    world.run(30, cut_off("a", names))
    assert [world.home(name).region for name in names] == ["a", "b", "b"]  # both may deliver meanwhile
    world.run(2)
    assert [world.home(name).region for name in names] == ["b", "b", "b"]
    settle(world)
    converged(world)
    assert [home.region for _, _, home in world.log] == ["b", "a"]


def test_a_short_cut_of_the_standby_moves_nothing():
    world = HomesWorld(NAMES[:3])
    world.run(14, cut_off("b", NAMES[:3]))
    world.run(60)
    assert world.log == []


def test_a_standby_cut_off_for_half_a_minute_does_not_take_the_group():
    world = HomesWorld(NAMES[:3])
    world.run(30, cut_off("b", NAMES[:3]))
    assert world.home("b").region == "a"
    settle(world)
    converged(world)


def test_nothing_ever_moves_without_a_fault():
    world = HomesWorld(NAMES, TWO)
    world.run(300)
    assert world.log == []


def test_a_preferred_home_that_comes_and_goes_does_not_pull_the_group_to_and_fro():
    world = HomesWorld(NAMES[:3])
    for _ in range(10):
        world.run(20, cut_off("a", NAMES[:3]))
        world.run(20)
    moves = [home.region for _, _, home in world.log if home.region != "a"]
    assert moves == ["b"] * len(moves)
    assert all(home.region == "b" for _, _, home in world.log)


def run_faults(world, faults):
    for seconds, cuts in faults:
        world.run(seconds, frozenset((world.names[a % len(world.names)], world.names[b % len(world.names)])
                                     for a, b in cuts if a % len(world.names) != b % len(world.names)))  # fmt: skip
    settle(world)
    converged(world)


PAIRS = st.tuples(st.integers(0, 3), st.integers(0, 3))
FAULTS = st.lists(st.tuples(st.integers(1, 80), st.frozensets(PAIRS, max_size=12)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(faults=FAULTS, count=st.integers(2, 4), standbys=st.integers(1, 3))
def test_whatever_is_cut_all_agree_in_the_end_and_the_group_is_at_home_again(faults, count, standbys):
    run_faults(HomesWorld(NAMES[:count], HomeSettings(standbys=standbys)), faults)


# -- the tests notice what they are there for --------------------------------------------------------------------------


def test_ablation_taking_over_at_once_is_noticed():
    class Suspicious(RegionsHeard):
        def lost_ns(self, region, now_ns):
            return 3600 * S if super().lost_ns(region, now_ns) else 0

    class Hasty(GroupHomes):
        def __init__(self, region, settings):
            super().__init__(region, settings)
            self.regions = Suspicious(region)

    with pytest.raises(AssertionError, match="too early"):
        HomesWorld(NAMES[:3], keeper=Hasty).run(20, cut_off("a", NAMES[:3]))


def test_ablation_not_waiting_for_standbys_before_it_is_noticed():
    class Impatient(GroupHomes):
        def _take_over(self, home, now_ns):
            first = GroupHome(home.region, (self._region,), home.term, home.preferred, home.since_ns)
            return super()._take_over(first, now_ns)

    world = HomesWorld(NAMES, TWO, keeper=Impatient)
    world.run(16, cut_off("a", NAMES))
    assert {name for _, name, home in world.log if home.region == name} == {"b", "c"}


def test_ablation_terms_without_a_tie_break_do_not_converge():
    def by_term(known, heard):
        return heard if heard.spec.home.term > known.spec.home.term else known

    apart = cut_off("a", NAMES[:3]) | cut_off("b", NAMES[:3])
    world = HomesWorld(NAMES[:3], TWO, merged=by_term)
    world.run(70, apart)
    with pytest.raises(AssertionError, match=r"though all hear one another|regions disagree"):
        settle_and_check(world)
    good = HomesWorld(NAMES[:3], TWO)
    good.run(70, apart)
    settle_and_check(good)


def settle_and_check(world):
    settle(world)
    converged(world)


def test_ablation_a_cut_off_standby_that_does_not_wait_is_noticed(monkeypatch):
    monkeypatch.setattr(group_homes, "ALONE_FACTOR", 1)
    with pytest.raises(AssertionError):
        test_a_standby_cut_off_for_half_a_minute_does_not_take_the_group()


def test_ablation_going_back_at_once_is_noticed(monkeypatch):
    monkeypatch.setattr(group_homes, "STABLE_FACTOR", 0)
    with pytest.raises(AssertionError):
        test_a_preferred_home_that_comes_and_goes_does_not_pull_the_group_to_and_fro()
