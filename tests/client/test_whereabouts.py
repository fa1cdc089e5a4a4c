"""In which region the members of a group attach."""

from types import SimpleNamespace

from fedbus.client.whereabouts import (
    LIVE_PATIENCE_BEATS,
    MOVES_A_BEAT,
    OVERLAP_MS,
    PATIENCE_BEATS,
    Whereabouts,
)


def whereabouts(regions: list[str]) -> Whereabouts:
    return Whereabouts(lambda: regions, lambda region: {region: None}, lambda: 100_000)


def wait(where: Whereabouts, beats: int, *, reachable: bool = False) -> list[bool]:
    return [where.beat(reachable=reachable) for _ in range(beats)]


def test_it_begins_in_the_own_region_and_goes_where_it_is_told():
    where = whereabouts(["own", "home"])
    assert (list(where.connections()), where.moved) == (["own"], False)
    assert where.told("home")
    assert (list(where.connections()), where.moved) == (["home"], True)
    assert not where.told("home"), "it is there"
    assert not where.told("nowhere"), "no such region"


def test_when_nobody_answers_the_others_are_asked_in_turn():
    where = whereabouts(["own", "near", "far"])
    asked = []
    for _ in range(4):
        assert wait(where, PATIENCE_BEATS)[-1]
        asked += where.connections()
        where.told("own")  # which is lost, but they do not know of another yet
    assert asked == ["near", "far", "near", "far"]


def test_a_connection_anywhere_is_waited_for():
    where = whereabouts(["own", "near"])
    assert not any(wait(where, 10 * PATIENCE_BEATS, reachable=True))
    assert not any(wait(whereabouts(["own"]), 10 * PATIENCE_BEATS)), "there is nobody else to ask"


def test_regions_that_disagree_do_not_send_it_back_and_forth_without_a_pause():
    where = whereabouts(["a", "b"])
    moves = sum(where.told(region) for region in ["b", "a"] * 50)
    assert moves == MOVES_A_BEAT
    where.beat(reachable=True)
    assert where.told("b")


def test_a_live_subscription_is_patient_and_goes_back_once_its_region_is_there_for_long():
    now = iter([100_000, 200_000, 300_000])
    ready = {"own": False, "near": True}
    where = Whereabouts(
        lambda: ["own", "near"], lambda region: {region: SimpleNamespace(ready=ready[region])}, lambda: next(now)
    )
    waited = [where.beat_live(reachable=False) for _ in range(LIVE_PATIENCE_BEATS)]
    assert (waited.index(True), list(where.connections())) == (LIVE_PATIENCE_BEATS - 1, ["near"])
    assert where.since_ms == 200_000 - OVERLAP_MS
    assert not any(where.beat_live(reachable=True) for _ in range(2 * LIVE_PATIENCE_BEATS))
    ready["own"] = True
    assert not any(where.beat_live(reachable=True) for _ in range(LIVE_PATIENCE_BEATS - 1))
    ready["own"] = False
    assert not where.beat_live(reachable=True)
    ready["own"] = True
    back = [where.beat_live(reachable=True) for _ in range(LIVE_PATIENCE_BEATS)]
    assert (back.index(True), list(where.connections())) == (LIVE_PATIENCE_BEATS - 1, ["own"])
