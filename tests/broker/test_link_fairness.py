"""Links share what an instance may have unconfirmed: publishers always have room, and links take turns."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fedbus.batch import BatchBuilder
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.link_progress import LinkProgress
from fedbus.broker.link_share import SHARE
from fedbus.limits import Limits
from tests.broker.promises import stored
from tests.broker.simulation import SMALL, Node, World

LIMITS = replace(SMALL, uncommitted_bytes=8000, batch_bytes=500, link_window_bytes=4000, ledger_roll_bytes=10**6)
BODY = bytes(100)


def publish(world: World, node: Node, batches: int, topic: str = "a.x") -> list[p.Message]:
    """Batches of one event; what was answered."""
    session = f"p{len(world.connections)}-{world.now_ns}".encode()
    inbox = world.connect(node, session)
    node.receive(session, p.Hello(1, 1, "client", "p"))
    for number in range(batches):
        builder = BatchBuilder()
        builder.add(topic, 0, BODY)
        batch = builder.build()
        node.receive(session, p.Publish(number + 1, "", 0), bytes(batch.index_bytes), bytes(batch.payload))
        if not node.region.startswith("here"):
            node.commit()
    return [message for message, _ in inbox]


def pull(receiver: Node, *origins: Node) -> None:
    wants = [p.LinkFilter(">", 0)]
    receiver.hold_links([e.PeerLink(f"{o.region}/{o.name}/0", o.endpoint, wants) for o in origins])


def linked(node: Node) -> dict[str, int]:
    counts: dict[str, int] = {}
    for batch, _ in stored(node):
        counts[batch.origin_ledger] = counts.get(batch.origin_ledger, 0) + batch.batch.count
    return counts


def world_of(limits: Limits = LIMITS) -> tuple[World, Node, Node, Node]:
    world = World()
    return world, world.node("here", "h", limits), world.node("there", "t", limits), world.node("else", "x", limits)


def step(world: World, *nodes: Node) -> None:
    for node in nodes:
        while node.reads:
            node.read()
    world.move_links()
    world.tick(20)


def test_links_leave_publishers_most_of_the_room_though_the_disk_does_nothing():
    world, here, there, other = world_of()
    for origin in (there, other):
        publish(world, origin, 100)
    pull(here, there, other)
    for _ in range(100):
        step(world, there, other)
        assert here.core.links.share.pending_bytes <= LIMITS.uncommitted_bytes // SHARE + LIMITS.batch_bytes
    assert here.core.links.share.pending_bytes > 0
    answers = publish(world, here, 20)
    assert not [each for each in answers if isinstance(each, p.Refused)]


def test_a_long_catch_up_of_one_link_does_not_hold_up_what_is_fresh_at_another():
    world, here, there, other = world_of()
    publish(world, there, 400)
    pull(here, there, other)
    for _ in range(10):
        step(world, there, other)
        here.commit(2)
    for number in range(1, 6):
        publish(world, other, 1)
        before = linked(here).get("there/t/0", 0)
        for _ in range(40):
            step(world, there, other)
            here.commit(2)
            if linked(here).get("else/x/0", 0) == number:
                break
        counts = linked(here)
        assert counts["else/x/0"] == number, "the fresh event is there"
        assert before < 400, "while the other link is still catching up"
    while linked(here)["there/t/0"] < 400:
        step(world, there, other)
        here.commit()


def test_many_links_take_turns():
    world = World()
    here = world.node("here", "h", LIMITS)
    origins = [world.node("there", f"t{at}", LIMITS) for at in range(12)]
    for origin in origins:
        publish(world, origin, 30)
    pull(here, *origins)
    least = 0
    for _ in range(600):
        step(world, *origins)
        here.commit(1)
        counts = linked(here)
        least = min(counts.get(f"there/{origin.name}/0", 0) for origin in origins)
        if least:
            break
    assert least, "nobody starves"
    assert max(counts.values()) < 30, "nor is anybody through before all had a turn"


def report_what_is_durable() -> None:
    """A manager passes on what an instance reports: it must outlive the instance."""
    world, here, there, _ = world_of()
    publish(world, there, 5)
    pull(here, there)
    for _ in range(10):
        step(world, there)
    ledger = "there/t/0"
    assert max(here.core.links.progress.scanned[ledger].values()) == 5, "all has arrived"
    assert max(here.core.status().links.get(ledger, {}).values(), default=0) == 0, "and nothing is durable"
    here.disk.full = True
    here.commit()
    assert max(here.core.status().links.get(ledger, {}).values(), default=0) == 0, "nor was it stored"
    here.disk.full = False
    while linked(here).get(ledger, 0) < 5:
        step(world, there)
        here.commit(1)
        assert max(here.core.status().links[ledger].values(), default=0) <= linked(here).get(ledger, 0)
    assert max(here.core.status().links[ledger].values()) == 5


def test_a_link_reports_only_progress_that_is_durable():
    report_what_is_durable()


def test_a_link_that_reports_progress_before_it_is_durable_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LinkProgress, "durable", lambda self: {each: dict(to) for each, to in self.scanned.items()})
    with pytest.raises(AssertionError, match="nothing is durable"):
        report_what_is_durable()
