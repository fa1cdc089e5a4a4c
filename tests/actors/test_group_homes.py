"""Groups of several regions: one definition, one home, who takes over, and what is seen of it (protocol rule 13)."""

from types import SimpleNamespace

import pytest

from fedbus.broker.group_spec import GroupHome, GroupSpec
from fedbus.broker.protocol import EARLIEST, LATEST, GroupOptions
from fedbus.control.group_homes import HomeSettings
from fedbus.control.summary import LinkLag
from fedbus.errors import ConflictError, NotFoundError, UnavailableError
from fedbus.storage.store import Store
from fedbus_actors import group_telling, instance_calls, region_homes
from tests.actors.grouped_regions import GroupedRegion, GroupedRegions

A, B, C = "aws.a", "gcp.b", "onprem.c"


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Remote calls, made at once."""
    ask = SimpleNamespace(ask=lambda calls, timeout_s: {key: call() for key, call in calls.items()})
    monkeypatch.setattr(instance_calls, "remote", ask)
    monkeypatch.setattr(group_telling, "remote", ask)


@pytest.fixture
def world(tmp_path):
    with GroupedRegions(tmp_path, A, B, C) as world:
        world.round_trips = {frozenset((A, B)): 80.0, frozenset((A, C)): 90.0, frozenset((B, C)): 9.0}
        yield world


def wanted(filters=("a",), start=None, **given):
    return {"filters": list(filters), "start": start, "options": GroupOptions(**given.pop("options", {})), **given}


def ask(world, region, name="g", filters=("a",)):
    """As an instance does for somebody who subscribes."""
    world[region].groups._create(GroupSpec(name, list(filters), EARLIEST))


def homes(world, name="g"):
    return {each.name: each.home(name).region for each in world.regions.values()}


def test_a_group_is_at_home_where_it_is_first_asked_for_and_known_everywhere_when_that_is_answered(world):
    ask(world, B)
    assert world[A].home("g") == world[B].home("g") == world[C].home("g")
    home = world[A].home("g")
    assert (home.region, home.standbys, home.preferred, home.term) == (B, (C,), B, 1)  # C is the nearest
    before = world[B].groups.registry.find("g")
    ask(world, A)
    world[C].groups.put("g", wanted())
    assert world[A].groups.registry.find("g") == before


def test_a_name_that_only_another_region_knows_is_found_there(world):
    world.cut = {A}
    ask(world, B)
    world.cut = set()
    with pytest.raises(ConflictError, match="exists with filter a"):
        ask(world, A, filters=["other"])
    ask(world, A)
    assert world[A].home("g").region == B


def test_changes_are_made_at_the_home_wherever_they_are_asked_for(world):
    answer = world[A].groups.put("g", wanted(home=C))
    assert answer == {"group": "g", "region": C}
    assert world[A].groups.put("g", wanted(options={"max_deliveries": 3}))["region"] == C
    world[B].groups.seek("g", LATEST)
    specs = [world[name].groups.registry.find("g") for name in (A, B, C)]
    assert specs[0] == specs[1] == specs[2]
    assert (specs[0].options.max_deliveries, specs[0].generation) == (3, 2)
    with pytest.raises(ConflictError, match="move it to"):
        world[A].groups.put("g", wanted(home=B))
    world[A].groups.delete("g")
    for each in world.regions.values():
        with pytest.raises(NotFoundError):
            each.groups.registry.find("g")


def test_while_the_home_is_lost_changes_are_refused_with_its_name(world):
    ask(world, A)
    world.cut = {A}
    with pytest.raises(UnavailableError, match=rf"at home in region {A}, which does not answer"):
        world[B].groups.seek("g", LATEST)


def test_groups_of_each_region_are_not_told_on(world):
    world[A].groups.put("g", wanted(scope="region"))
    world[B].groups.put("g", wanted(["b"], scope="region"))
    world.run(3)
    assert world[C].groups.registry.spec("g") is None
    assert [world[name].groups.registry.find("g").filters for name in (A, B)] == [["a"], ["b"]]
    with pytest.raises(ConflictError, match="scope"):
        world[A].groups.put("g", wanted(scope="federation"))


def test_a_standby_takes_over_and_the_group_goes_back_when_the_home_has_caught_up(world):
    ask(world, A)
    world[B].instance.shares("g")
    world.run(5)
    world.cut = {A}
    world.run(20)
    assert homes(world) == {A: A, B: B, C: B}
    assert any("takes over from aws.a, which is lost for 15" in note for note in world[B].notes)
    assert any(f"group g is at home in {B} (term 2), no longer in {A}" in note for note in world[C].notes)
    world.cut = set()
    world.run(2)
    assert set(homes(world).values()) == {B}
    assert A in world[B].home("g").standbys
    world[B].instance.shares("g", **{A: (700, 9000)})
    world.run(60)
    assert set(homes(world).values()) == {B}  # not yet: A does not know what was settled meanwhile
    world[B].instance.shares("g", **{A: (0, 0)})
    world[A].lags = {B: LinkLag(9_000, 60_000)}
    world.run(5)
    assert set(homes(world).values()) == {B}  # nor has it the events
    world[A].lags = {}
    world.run(5)
    assert set(homes(world).values()) == {A}
    assert world[A].home("g").term == 3
    assert any("gives it back to aws.a" in note for note in world[B].notes)


def test_both_sides_of_a_cut_may_change_a_group_and_one_definition_comes_of_it(world):
    ask(world, A)
    world.run(1)
    world.cut = {A}
    world.run(20)
    world[A].groups.seek("g", LATEST)
    world[B].groups.put("g", wanted(options={"max_deliveries": 7}))
    world.cut = set()
    world.run(3)
    specs = [world[name].groups.registry.find("g") for name in (A, B, C)]
    assert specs[0] == specs[1] == specs[2]
    assert (specs[0].generation, specs[0].home.region, specs[0].home.term) == (2, B, 2)


def test_a_group_made_on_both_sides_of_a_cut_is_one_afterwards(world):
    world.cut = {A}
    ask(world, A)
    ask(world, B)
    assert (world[A].home("g").region, world[B].home("g").region) == (A, B)
    world.cut = set()
    world.run(2)
    assert set(homes(world).values()) == {B}  # the one made later
    assert any("was made in gcp.b too, later" in note for note in world[A].notes)


def test_a_region_that_could_not_ask_does_not_take_a_groups_past_away(world, tmp_path):
    ask(world, A)
    before = world[A].groups.registry.find("g")
    world.cut = {C}
    world[C].store.close()
    (tmp_path / f"{C}.db").unlink()
    world[C].groups.requests.stop()
    world.regions[C] = GroupedRegion(world, C, tmp_path)  # its store is lost, and it hears nobody
    ask(world, C)
    assert world[C].groups.registry.find("g").created_ns < before.created_ns // 100
    assert world[C].groups.views()[0]["created"] > world[A].groups.views()[0]["created"]
    world.cut = set()
    world.run(2)
    assert {each.groups.registry.find("g").identity for each in world.regions.values()} == {before.identity}
    assert set(homes(world).values()) == {A}


def test_two_groups_of_one_name_with_other_filters_are_kept_apart_and_shown_until_one_is_deleted(world):
    world.cut = {A}
    ask(world, A)
    ask(world, B, filters=["b"])
    world.cut = set()
    world.run(3)
    assert world[A].groups.registry.find("g").filters == ["a"]
    assert world[C].groups.registry.find("g").filters == ["b"]
    [view] = world[A].groups.views()
    assert view["conflict"] == f"{B} has another group g, with filter b"
    assert any("each region keeps its own until one is deleted" in note for note in world[C].notes)
    world[A].groups.delete("g")
    world.run(3)
    assert {each.groups.registry.find("g").filters[0] for each in world.regions.values()} == {"b"}
    assert [view["conflict"] for each in world.regions.values() for view in each.groups.views()] == ["", "", ""]


def test_an_operator_moves_a_group_from_anywhere(world):
    ask(world, A)
    world[A].instance.shares("g", **{C: (0, 0)})
    answer = world[B].groups.move("g", C)
    assert (answer["region"], answer["detail"]) == (C, f"is at home in {C}")
    assert set(homes(world).values()) == {C}
    home = world[C].home("g")
    assert (home.standbys, home.preferred) == ((A,), C)
    assert home.since_ns > 0
    assert "already" in world[A].groups.move("g", C)["detail"]
    with pytest.raises(NotFoundError, match="none of this federation's"):
        world[A].groups.move("g", "elsewhere")


def test_a_group_whose_home_is_lost_can_be_moved_to_any_other_region(world):
    ask(world, A)
    world.cut = {A}
    world.run(1)
    answer = world[B].groups.move("g", C)
    assert answer["region"] == C
    assert (homes(world)[B], homes(world)[C]) == (C, C)
    world.cut = set()
    world.run(3)
    assert set(homes(world).values()) == {C}


def test_very_many_groups_are_taken_over_some_at_a_time(world, monkeypatch):
    monkeypatch.setattr(region_homes, "MOVES_AT_ONCE", 2)
    names = [f"g{number}" for number in range(5)]
    for name in names:
        ask(world, A, name)
    world.run(1)
    world.cut = {A}
    world.run(16)
    taken = [sum(world[B].home(name).region == B for name in names)]
    for _ in range(2):
        world.run(1)
        taken.append(sum(world[B].home(name).region == B for name in names))
    assert taken == [2, 4, 5]
    world.cut = set()
    world[B].groups.homes.leave()
    assert {world[C].home(name).region for name in names} == {C}


def test_a_region_that_leaves_gives_its_groups_away(world):
    ask(world, A)
    world[A].groups.homes.leave()
    assert set(homes(world).values()) == {B}
    world[A].left = True
    world.cut = {A}
    world.run(2)
    assert world[B].home("g").standbys == (C,)


def test_without_automatic_failback_an_operator_decides(tmp_path):
    with GroupedRegions(tmp_path, A, B, settings=HomeSettings(failback="manual")) as world:
        ask(world, A)
        world[B].instance.shares("g", **{A: (0, 0)})
        world.cut = {A}
        world.run(20)
        world.cut = set()
        world.run(120)
        assert set(homes(world).values()) == {B}
        world[A].groups.move("g", A)
        assert set(homes(world).values()) == {A}


def test_instances_of_home_and_standbys_follow_one_another(world):
    ask(world, A, "one")
    ask(world, C, "two")
    world.run(1)
    follows = {each.name: {f.endpoint: (f.key, f.groups) for f in each.instance.follows}
               for each in world.regions.values()}  # fmt: skip
    assert follows == {
        A: {f"tcp://{B}": (f"key of {B}", ("one",))},
        B: {f"tcp://{A}": (f"key of {A}", ("one",)), f"tcp://{C}": (f"key of {C}", ("two",))},
        C: {f"tcp://{B}": (f"key of {B}", ("two",))},
    }


def test_a_region_pulls_for_groups_that_it_dispatches_or_may_come_to_dispatch(world):
    ask(world, A, "one", ["x", "y"])
    world[C].groups.put("two", wanted(["z"], LATEST))
    world[B].instance.status.live.append("w")
    assert world[A].groups.interest().durable == {"x", "y"}
    assert world[B].groups.interest().durable == {"x", "y"}
    assert world[B].groups.interest().live == {"w"}
    tails = {f"{name}/b1/0": 5 for name in (A, B, C)}
    assert world[B].groups.interest().began == world[C].groups.interest().began == {"z": [tails]}
    assert world[C].groups.interest().durable == set()


def test_what_is_known_survives_a_manager(world, tmp_path):
    ask(world, A)
    world[B].groups.requests.stop()
    store = Store(tmp_path / f"{B}.db", 2)
    [group] = store.groups.all()
    store.close()
    assert isinstance(group.definition.spec.home, GroupHome)
    assert (group.home_region, group.definition.spec.home.region) == (A, A)


def test_what_is_seen_of_a_group_says_where_it_is_at_home_and_what_is_not_shared(world):
    ask(world, A)
    world[A].instance.shares("g", **{B: (7, 120)})
    [view] = world[A].groups.views()
    assert (view["region"], view["told_by"], view["scope"], view["standbys"]) == (A, A, "federation", (B,))
    assert view["unshared"] == [{"region": B, "events": 7, "lag_ms": 120}]
    assert view["home_since"].startswith("20")
    world[A].instance.shares("g", **{B: (-1, 3000)})
    assert world[A].groups.views()[0]["unshared"] == [{"region": B, "events": None, "lag_ms": 3000}]
    world[A].groups.move("g", C)
    history = [each["message"] for each in world[A].groups.detail("g")["history"]]
    assert "moves it to onprem.c, as an operator asked" in history[0]
    [elsewhere] = world[B].groups.views()
    assert (elsewhere["region"], elsewhere["told_by"]) == (C, B)
