"""Who is ejected, how many at most, for how long, and how it comes back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.routing import decision
from fedbus.routing.ejection import BEATS, FAILURES, FIRST_NS, LONGEST_NS, PROBES, most_out
from fedbus.routing.router import AWAY_NS, Router
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route

BEAT_NS = 250_000_000


class Region:
    """A Router over a region of instances, and its time."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.names = [f"b{n}" for n in range(count)]
        routes = [InstanceRoute(name, f"tcp://h:{7000 + n}") for n, name in enumerate(self.names)]
        self.router = Router("r", random.Random(seed))
        self.router.adopt(RoutingTable("f", "r", 1, [region_route("r", routes)]))
        self.now_ns = 0

    def beats(self, count: int, **latencies: float) -> None:
        """So many beats; every instance answers a heartbeat and a batch each, in 2 ms or as it is said here."""
        for _ in range(count):
            self.now_ns += BEAT_NS
            for name in self.names:
                took_ms = latencies.get(name, 2.0)
                self.router.observe(name, took_ms, self.now_ns)
                if self.state(name) == "in":
                    self.router.stored(name, took_ms, self.now_ns)
            self.router.beat(self.now_ns)

    def state(self, name: str) -> str:
        return self.router.standing(name).ejection.state

    def out(self) -> list[str]:
        return [name for name in self.names if self.state(name) != "in"]

    def picked(self, count: int = 300) -> set[str]:
        return {self.router.pick().instance for _ in range(count)}

    def probes(self, took_ms: float) -> int:
        """Pick as long as probes are due; each is answered after so long. How many there were."""
        found = 0
        for _ in range(100):
            instance = self.router.pick().instance
            if self.state(instance) == "probing":
                found += 1
                self.router.stored(instance, took_ms, self.now_ns)
                self.router.beat(self.now_ns)
        return found


def test_an_outlier_is_ejected_after_some_beats_and_a_hiccup_is_none():
    region = Region(4)
    region.beats(5)
    region.beats(BEATS - 1, b0=400.0)
    assert region.out() == []
    region.beats(12)
    assert region.out() == []
    region.beats(12, b0=400.0)
    assert region.out() == ["b0"]
    assert "b0" not in region.picked()
    row = next(row for row in region.router.explain() if row["instance"] == "b0")
    assert row["ejected"].startswith("out: ")
    assert "the region's median is 2.0" in row["ejected"]


def test_one_that_is_slow_like_all_others_is_no_outlier():
    region = Region(4)
    region.beats(20, **dict.fromkeys(region.names, 400.0))
    assert region.out() == []


def test_failures_in_a_row_eject_and_one_success_forgives_them():
    region = Region(3)
    region.beats(3)
    for _ in range(FAILURES - 1):
        region.router.failed("b1", region.now_ns)
    region.router.stored("b1", 2.0, region.now_ns)
    region.router.failed("b1", region.now_ns)
    region.router.beat(region.now_ns)
    assert region.out() == []
    for _ in range(FAILURES):
        region.router.failed("b1", region.now_ns)
    region.router.beat(region.now_ns)
    assert region.out() == ["b1"]
    assert f"{FAILURES + 1} failures in a row" in region.router.standing("b1").ejection.reason


def test_its_way_back_is_a_few_quick_probes_one_at_a_time():
    region = Region(3)
    region.beats(12, b0=400.0)
    region.beats(1 + (FIRST_NS // BEAT_NS))
    while region.state("b0") == "out":
        region.beats(1)
    assert region.state("b0") == "probing"
    region.beats(1)
    first = [region.router.pick().instance for _ in range(200)]
    assert first.count("b0") == 1
    assert any("as a probe" in decision.reason(each) for each in region.router._decided)
    region.router.stored("b0", 2.0, region.now_ns)
    region.router.beat(region.now_ns)
    assert region.state("b0") == "probing"
    assert region.probes(2.0) == PROBES - 1
    assert region.state("b0") == "in"
    region.beats(1)
    assert region.picked() == {"b0", "b1", "b2"}


def test_who_is_slow_on_probation_is_out_for_longer_each_time_up_to_a_bound():
    region = Region(3)
    region.beats(5)
    for _ in range(FAILURES):
        region.router.failed("b0", region.now_ns)
    times = []
    for _ in range(6):
        region.router.beat(region.now_ns)
        began_ns = region.now_ns
        while region.state("b0") == "out":
            region.beats(1)
        times.append(region.now_ns - began_ns)
        region.probes(700.0)
        assert region.state("b0") == "out"
    assert times == sorted(times)
    assert times[0] < 2 * FIRST_NS
    assert times[-1] <= LONGEST_NS + BEAT_NS


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (5, 1), (6, 2), (30, 10)])
def test_never_more_than_a_share_of_a_region_is_out(count, most):
    assert most_out(count) == most
    region = Region(count)
    region.beats(3)
    slow = region.names[: (count - 1) // 2]
    region.beats(30, **dict.fromkeys(slow, 900.0))
    assert len(region.out()) == min(most, len(slow))
    for name in region.names:
        for _ in range(FAILURES):
            region.router.failed(name, region.now_ns)
    region.router.beat(region.now_ns)
    assert len(region.out()) == most
    region.router.pick()


def test_if_all_others_are_gone_an_ejected_one_takes_events_again():
    region = Region(3)
    region.beats(12, b0=400.0)
    region.router.suspect("b1")
    assert region.picked() == {"b2"}
    assert region.router.pick(avoid={"b2"}).instance == "b0"
    region.router.suspect("b2")
    assert region.picked() == {"b0"}


def test_keys_stay_with_an_ejected_owner():
    region = Region(3)
    key = next(key for key in range(1, 5000) if region.router.owner(key).instance == "b0")
    region.beats(12, b0=400.0)
    assert region.out() == ["b0"]
    assert region.router.owner(key).instance == "b0"
    instance, why = region.router.explain_key(key)
    assert instance == "b0"
    assert "rendezvous hashing of routing table 1" in why


def test_an_ejection_outlives_a_new_table():
    region = Region(3)
    region.beats(12, b0=400.0)
    table = region.router.table
    region.router.adopt(RoutingTable("f", "r", 2, table.regions))
    assert "b0" not in region.picked()


def test_a_client_that_was_held_up_itself_blames_nobody():
    region = Region(3)
    region.beats(8)
    for name in ("b0", "b1"):
        region.router.waiting(name, 30_000.0, region.now_ns)
    region.now_ns += AWAY_NS + BEAT_NS
    region.router.beat(region.now_ns)
    for _ in range(2 * BEATS):  # nobody publishes for a while
        region.now_ns += BEAT_NS
        for name in region.names:
            region.router.observe(name, 2.0, region.now_ns)
        region.router.beat(region.now_ns)
    assert region.out() == []
    region.beats(20)
    assert region.out() == []
    assert region.picked() == {"b0", "b1", "b2"}


def test_one_slow_answer_that_none_followed_is_asked_about_once_and_counts_once():
    region = Region(3)
    region.beats(5)
    region.router.stored("b0", 700.0, region.now_ns)
    for _ in range(BEATS):
        region.now_ns += BEAT_NS
        for name in region.names:
            region.router.observe(name, 2.0, region.now_ns)
        region.router.beat(region.now_ns)
    assert region.out() == ["b0"]
    assert region.state("b0") == "probing"
    assert region.probes(2.0) == 1
    assert region.state("b0") == "in"
    assert region.router.standing("b0").ejection.times == 0


def test_a_batch_that_waits_for_its_answer_is_evidence_before_the_answer():
    region = Region(3)
    region.beats(3)
    region.router.waiting("b0", 800.0, region.now_ns)
    assert "b0" not in region.picked()


def test_a_full_queue_counts_as_latency():
    region = Region(2)
    region.router.observe("b0", 2.0, 0, queue_share=0.9)
    region.router.observe("b1", 2.0, 0)
    assert region.picked() == {"b1"}


def test_who_is_not_published_to_any_more_is_tried_again_some_day():
    region = Region(2)
    region.beats(4, b0=20.0)
    assert region.picked() == {"b1"}
    for _ in range(200):
        region.now_ns += BEAT_NS
        for name in region.names:
            region.router.observe(name, 1.0, region.now_ns)
        region.router.stored("b1", 2.0, region.now_ns)
        region.router.beat(region.now_ns)
    assert region.picked() == {"b0", "b1"}


@given(st.lists(st.tuples(st.sampled_from("osfwbpam"), st.integers(0, 4), st.floats(0, 5000)), max_size=120))
def test_whatever_is_measured_somebody_is_picked_and_the_share_out_is_bounded(steps):
    region = Region(5)
    router = region.router
    for what, place, ms in steps:
        name = region.names[place]
        region.now_ns += int(ms * 1e5)
        if what == "o":
            router.observe(name, ms, region.now_ns, queue_share=ms / 4000)
        elif what == "s":
            router.stored(name, ms, region.now_ns)
        elif what == "f":
            router.failed(name, region.now_ns)
        elif what == "w":
            router.waiting(name, ms, region.now_ns)
        elif what == "p":
            router.sent(router.pick().instance)
        elif what == "a":
            router.answered(name)
        else:
            router.beat(region.now_ns)
        assert len(region.out()) <= most_out(5)
        assert router.pick().takes_events
        assert all(row["score_ms"] > 0 for row in router.explain())
