"""Peering of regions over a network that does what networks do."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.control import peering_effects as e
from fedbus.control.membership import MOST_REGIONS, Membership
from fedbus.control.peer_calls import IncomingCalls
from fedbus.control.peer_messages import MOST_BYTES, VERSION, Envelope, Report, Request, decode, encode
from fedbus.control.summary import RegionAddress
from fedbus.errors import ConflictError, NotFoundError, OverloadedError, ProtocolError, TooLargeError, UnavailableError
from tests.control.peering_world import SETTINGS, S, World, turmoil

LOST_AFTER_S = SETTINGS.lost_after_ns / S
SEEDS = range(40)


def settled(*names: str, **network: Any) -> World:
    world = World(1, list(names), **network)
    world.run(3)
    return world


# -- finding one another -----------------------------------------------------------------------------------------------


def test_all_know_the_newest_word_of_all_and_how_far_away_they_are() -> None:
    world = settled("a", "b", "c", delay_ms=40)
    world.check_settled()
    peer = world["a"].running.peers["b"]
    assert peer.round_trip_ms is not None
    assert 2 <= peer.round_trip_ms <= 80
    assert peer.summary is not None
    assert peer.summary.round_trips.keys() == {"a", "c"}


def test_a_region_joins_through_one_member_and_is_heard_of_by_all() -> None:
    world = settled("a", "b", "c")
    world.join("d", seed="a", told="b")
    world.run(5)
    world.check_settled()
    assert set(world["d"].running.peers) == {"a", "b", "c"}


def test_a_region_that_was_removed_stays_so_however_late_others_hear_of_it() -> None:
    world = settled("a", "b", "c")
    for name in ("b", "c"):
        world.cut_off("a", name)
    world["b"].handle(e.RemoveRegion("c"))
    world.run(5)
    world.heal()
    world.run(10)
    world.check_settled()
    assert world["c"].running.members.own.left
    assert set(world["a"].running.peers) == {"b"}
    assert world["c"].running.peers == {}
    world["c"].stop()
    world["c"].start()
    world.run(5)
    assert set(world["a"].running.peers) == {"b"}


def test_a_region_can_be_removed_for_good_while_it_is_away_and_be_taken_back() -> None:
    world = settled("a", "b", "c")
    world["c"].stop()
    world["a"].handle(e.RemoveRegion("c"))
    world.run(2)
    world["c"].start()
    world.run(5)
    assert "c" not in world["a"].running.peers
    assert "c" not in world["b"].running.peers
    address = world["c"].address
    for name in ("a", "c"):
        world[name].handle(e.AddRegion("c", address.endpoint, address.public_key))
    world.run(8)
    world.check_settled()
    assert set(world["b"].running.peers) == {"a", "c"}


def test_a_region_that_leaves_by_its_own_word_is_let_go_by_all() -> None:
    world = settled("a", "b", "c")
    world["c"].handle(e.RemoveRegion("c"))
    world.run(2)
    assert "c" not in world["a"].running.peers
    assert world["c"].admitted == {}


def test_a_region_with_a_new_key_is_somebody_new() -> None:
    world = settled("a", "b")
    world["b"].stop()
    world.run(5)
    world["b"].key = "another key"
    world["b"].generation = 0  # its store is gone too
    world["b"].store.clear()
    world["b"].start()
    world.run(5)
    assert not world["a"].running.peers["b"].present
    world["a"].seen.clear()
    world["a"].handle(e.AddRegion("b", world["b"].address.endpoint, "another key"))
    world.run(8)
    world.check_settled()


def test_a_region_puts_a_wrong_word_about_itself_right() -> None:
    world = settled("a", "b", "c")
    world["a"].handle(e.AddRegion("b", "tcp://nowhere:1", world["b"].key))
    world.run(8)
    world.check_settled()
    assert world["c"].running.members.others()["b"].endpoint == world["b"].address.endpoint


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (e.RemoveRegion("x"), NotFoundError),
        (e.AddRegion("x", "tcp://x:1", "key of b"), ConflictError),
    ],
)
def test_an_operators_wrong_word_changes_nothing(change: e.Input, error: type[Exception]) -> None:
    world = settled("a", "b")
    before = world["a"].running.members.all()
    with pytest.raises(error):
        world["a"].handle(change)
    assert world["a"].running.members.all() == before


def test_members_are_bounded() -> None:
    members = Membership(RegionAddress("own", "", ""))
    for number in range(MOST_REGIONS + 10):
        members.learn(RegionAddress(f"r{number}", "", ""))
    assert len(members.all()) == MOST_REGIONS
    with pytest.raises(OverloadedError):
        members.add("another", "tcp://x:1", "k")


addresses = st.builds(
    RegionAddress, st.sampled_from(["own", "x", "y"]), st.sampled_from(["", "tcp://a:1", "tcp://b:1"]),
    st.sampled_from(["", "k", "l"]), st.integers(0, 3), st.booleans(),
)  # fmt: skip


@given(st.lists(addresses, max_size=12), st.randoms(use_true_random=False))
def test_whoever_hears_the_same_words_in_any_order_knows_the_same_of_others(
    words: list[RegionAddress], random: Any
) -> None:
    shuffled = random.sample(words, len(words))
    own = RegionAddress("own", "tcp://own:1", "own")
    one, other = Membership(own, words), Membership(own, shuffled + words)
    assert [each for each in one.all() if each.region != "own"] == [
        each for each in other.all() if each.region != "own"
    ]


# -- losing one another ------------------------------------------------------------------------------------------------


def test_a_region_that_falls_silent_is_lost_after_a_while_and_its_last_word_kept() -> None:
    world = settled("a", "b")
    word = world["a"].running.peers["b"].summary
    silent_ns = world["a"].now_ns
    world["b"].stop()
    world.run(LOST_AFTER_S + 1)
    peer = world["a"].running.peers["b"]
    assert peer.lost_since_ns is not None
    assert silent_ns - S <= peer.lost_since_ns <= silent_ns
    assert peer.summary is not None
    assert word is not None
    assert peer.summary.load_eps >= word.load_eps
    world["b"].start()
    world.run(5)
    world.check_settled()


def test_a_region_that_was_never_heard_is_lost_too() -> None:
    world = World(1, ["a", "b"])
    world["b"].stop()
    began_ns = world["a"].now_ns
    world.run(LOST_AFTER_S + 1)
    assert world["a"].running.peers["b"].lost_since_ns == began_ns


def test_a_one_way_cut_is_a_loss_for_both() -> None:
    world = settled("a", "b", "c")
    world.cut_off("a", "b", both=False)
    world.run(LOST_AFTER_S + 2)
    assert world["b"].running.peers["a"].lost_since_ns is not None, "b hears nothing"
    assert world["a"].running.peers["b"].lost_since_ns is not None, "a is not heard"
    assert world["a"].running.peers["c"].present
    world.heal()
    world.run(6)
    world.check_settled()


def test_a_region_that_stood_still_itself_accuses_nobody() -> None:
    world = settled("a", "b", "c")
    core, world["a"].core = world["a"].core, None  # as SIGSTOP
    world.run(20)
    world["a"].core = core
    world["a"].lost.clear()
    world.later(0, world["a"].tick, world["a"].generation)
    world.run(5)
    assert world["a"].lost == []
    world.check_settled()


def test_a_few_lost_and_late_reports_lose_nobody() -> None:
    world = World(3, ["a", "b", "c"], loss=0.05, doubles=0.1, delay_ms=150)
    world.run(60)
    assert [region.lost for region in world.regions.values()] == [[], [], []]


def test_the_word_of_a_manager_that_has_a_successor_counts_no_more() -> None:
    world = settled("a", "b")
    world.slow_ms["b", "a"] = 2000
    world.run(1)
    world["b"].stop()
    world.slow_ms.clear()
    world["b"].start()
    world.run(5)  # what the old one said arrives behind the new one's: checked by the world
    assert world["a"].running.dropped["superseded"] > 0
    world.check_settled()


# -- what arrives ------------------------------------------------------------------------------------------------------


def received(world: World, sender: str | None, data: bytes) -> str:
    core = world["a"].running
    before = core.dropped.copy()
    assert core.handle(e.Received(sender, data), world["a"].now_ns) == []
    return next(iter(core.dropped - before))


def test_garbage_forgeries_and_strangers_are_dropped_and_counted() -> None:
    world = settled("a", "b", "c")
    report = Report(10**6)
    assert received(world, "b", b"garbage") == "garbage"
    assert received(world, "b", b"") == "garbage"
    assert received(world, "b", encode("c", 9, report)) == "forged"
    assert received(world, None, encode("b", 9, report)) == "forged"
    assert received(world, "x", encode("x", 9, report)) == "unknown"
    assert received(world, "b", encode("b", 0, report)) == "superseded"
    assert world["a"].running.peers["c"].generation == 1


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode(data)


def test_messages_are_bounded_and_of_a_version_that_is_spoken() -> None:
    with pytest.raises(TooLargeError):
        encode("a", 1, Request(1, "read", [b"x" * MOST_BYTES]))
    with pytest.raises(ProtocolError, match="too many"):
        decode(b"x" * (MOST_BYTES + 1))
    with pytest.raises(ProtocolError, match="upgrade"):
        decode(msgspec.msgpack.encode(Envelope(VERSION + 1, "a", 1, Report(1))))


# -- groups and calls --------------------------------------------------------------------------------------------------


def test_definitions_reach_all_at_once_and_those_that_were_away_by_exchange() -> None:
    world = settled("a", "b", "c")
    world["c"].stop()
    world["a"].publish("billing")
    world.run(0.1)
    assert "billing" in world["b"].groups.known
    world["c"].start()
    world["b"].publish("billing", deleted=True)
    world.run(6)
    world.check_settled()
    assert world["c"].groups.known["billing"].deleted


def answer(world: World, name: str, call: int) -> e.Answered:
    (answered,) = world[name].answers[call]
    return answered


def test_a_call_is_answered_or_fails_with_what_is_known_of_it() -> None:
    world = settled("a", "b", "c")
    call = world["a"].ask("b")
    world.run(1)
    assert answer(world, "a", call).value == ["read", "b"]
    stranger = answer(world, "a", world["a"].ask("x"))
    assert isinstance(stranger.error, NotFoundError)
    world["b"].stop()
    call = world["a"].ask("b")
    world.run(5)
    unanswered = answer(world, "a", call)
    assert isinstance(unanswered.error, UnavailableError)
    assert "unknown" in unanswered.error.detail
    assert "nothing was asked" in str(answer(world, "a", world["a"].ask("b")).error)


def test_calls_under_way_are_bounded_on_both_sides() -> None:
    world = settled("a", "b")
    calls = [world["a"].ask("b") for _ in range(SETTINGS.calls + 1)]
    assert isinstance(answer(world, "a", calls[-1]).error, OverloadedError)
    world.run(2)
    assert all(answer(world, "a", call).error is None for call in calls[:-1])
    asked = IncomingCalls(2)
    assert [asked.begin(1, call) for call in (1, 2, 3)] == [True, True, None]
    assert asked.end(1, 1)
    assert asked.begin(1, 4)
    assert not asked.end(0, 2)


# -- everything together ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_all_know_the_same_in_the_end(seed: int) -> None:
    turmoil(seed)
