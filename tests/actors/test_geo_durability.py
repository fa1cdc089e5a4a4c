"""Topics of which a second region has to have the events, between real instances of two regions (rule 20)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedbus.broker import protocol as p
from fedbus.broker.policies import TopicRule
from tests.actors.peer import Peer
from tests.actors.test_region_link import OneRegion, until

RULES = [TopicRule(filter="safe.>", durability="federation")]


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[list[OneRegion]]:
    """Two, that know one another and the policy."""
    both = [OneRegion(tmp_path, "here.a"), OneRegion(tmp_path, "there.b")]
    _introduce(both)
    yield both
    for each in both:
        each.bus.stop()


def _introduce(regions: list[OneRegion]) -> None:
    for each in regions:
        each.bus.apply_peers({other.region: other.key for other in regions if other is not each})
        each.bus.apply_topics(1, RULES, True)


def _taken(peer: Peer, body: bytes, sequence: int) -> int:
    """Publish until it is not refused; the request's number."""
    while _is_refused(peer, request := peer.publish([body], producer="p", sequence=sequence, topic="safe.x")):
        pass
    return request


def _is_refused(peer: Peer, request: int) -> bool:
    """By the time that a later question is answered."""
    peer.say(p.Ping(request))
    peer.hear(p.Pong, lambda pong: pong.nonce == request)
    try:
        return bool(peer.hear(p.Refused, lambda refused: refused.request == request, deadline_ms=0))
    except TimeoutError:
        return False


def test_what_is_acknowledged_outlives_its_region(regions):
    here, there = regions
    acknowledged = []
    with Peer(here.bus.port) as producer:
        request = producer.publish([b"too early"], producer="p", sequence=1, topic="safe.x")
        refused, _ = producer.hear(p.Refused)
        assert (refused.request, refused.code, refused.retryable) == (request, "unavailable", True)
        there.pull(here)
        for sequence in range(1, 21):
            body = f"{sequence}".encode()
            request = _taken(producer, body, sequence)
            producer.hear(p.Published, lambda message, request=request: message.request == request)
            acknowledged.append(body)
    here.bus.stop()
    with Peer(there.bus.port) as consumer:
        consumer.subscribe([">"], "g")
        assert consumer.events(len(acknowledged)) == acknowledged


def test_who_waits_is_answered_when_the_other_region_is_back_and_later_ones_are_refused(regions, tmp_path):
    here, there = regions
    there.pull(here)
    ledger = here.bus.status().ledger
    with Peer(here.bus.port) as producer, Peer(here.bus.port, name="c") as consumer:
        consumer.subscribe([">"], "g")
        first = _taken(producer, b"first", 1)
        producer.hear(p.Published, lambda message: message.request == first)
        there.bus.stop()
        waiting = producer.publish([b"second"], producer="p", sequence=2, topic="safe.x")  # it was there a moment ago
        producer.say(p.Ping(1))
        producer.hear(p.Pong, lambda pong: pong.nonce == 1)
        until(lambda: here.bus.status().counters["geo_waiting_events"] == 1, "it is stored, and counts for nothing")
        producer.published([b"other topics go on"], producer="q", sequence=1)

        until(lambda: _is_refused(producer, producer.publish([b"later"], topic="safe.x")), "nobody is there any more")
        assert consumer.events(2) == [b"first", b"other topics go on"]
        regions[1] = again = OneRegion(tmp_path, "there.b")
        _introduce(regions)
        again.pull(here)
        producer.hear(p.Published, lambda message: message.request == waiting)
        assert consumer.events(1)[0] == b"second"
    assert again.bus.status().links[ledger]


def test_an_instance_that_restarts_goes_on_waiting(regions, tmp_path):
    here, there = regions
    there.pull(here)
    with Peer(here.bus.port) as producer:
        first = _taken(producer, b"first", 1)
        producer.hear(p.Published, lambda message: message.request == first)
        there.bus.stop()
        producer.publish([b"second"], producer="p", sequence=2, topic="safe.x")
        until(lambda: here.bus.status().counters["geo_waiting_events"] == 1, "it is stored")
        former = here.bus.status().ledger
    here.bus.stop()
    regions[0] = here = OneRegion(tmp_path, "here.a")
    regions[1] = there = OneRegion(tmp_path, "there.b")
    assert here.bus.status().counters["geo_waiting_events"] >= 1
    _introduce(regions)
    with Peer(here.bus.port) as producer, Peer(here.bus.port, name="c") as consumer:
        consumer.subscribe([">"], "g")
        again = producer.publish([b"second"], producer="p", sequence=2, topic="safe.x")
        there.pull(here, ledger=former)
        found, _ = producer.hear(p.Published, lambda message: message.request == again)
        assert (found.duplicate, found.ledger) == (True, former)
        assert consumer.events(2) == [b"first", b"second"]
