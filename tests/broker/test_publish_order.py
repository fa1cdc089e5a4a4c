"""What a producer sent behind a refused batch waits until that came again, parts of batches included."""

import msgspec
import pytest

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.publish_order import ALL_SLOTS, HOLD_NS, MAX_HELD, PublishOrder, slots_of
from fedbus.errors import OverloadedError, StorageError, UnderReplicatedError
from fedbus.keys import slot_of
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from tests.broker.simulation import Node
from tests.broker.talk import ROOMY, Talk, settle, start

NAMES = ("n0", "n1")


def table(version: int, *names: str) -> e.ApplyTable:
    routes = [InstanceRoute(name, f"tcp://{name}") for name in names]
    return e.ApplyTable(version, RoutingTable("f", "here", version, [region_route("here", routes)]).encode())


def keys_of(owner: int, count: int) -> list[int]:
    """Of this one of two owners, all in different slots."""
    places = region_route("here", [InstanceRoute(name, "") for name in NAMES]).owner_places()
    return [key for key in range(1, 4096) if places[slot_of(key)] == owner][:count]


MINE, OTHER = keys_of(0, 3), keys_of(1, 2)


class Publishing:
    """A producer's session with one instance."""

    def __init__(self, node: Node | None = None) -> None:
        self.node = node or start(msgspec.structs.replace(ROOMY, publish_window_bytes=400))
        self.node.handle(table(2, *NAMES))
        self.talk = Talk(self.node)

    def send(self, order: int, *keys: int, version: int = 2, sequence: int = 0) -> None:
        sequence = sequence or order
        bodies = (str(order).encode(),) * len(keys)
        self.talk.publish(
            *bodies, keys=keys, producer="p", sequence=sequence, order=order, request=order, table_version=version
        )

    def refused(self) -> list[tuple[int, str]]:
        """(order, code) of what was refused so far."""
        return [(refused.request, refused.code) for refused in self.talk.heard(p.Refused)]

    def stored(self) -> list[int]:
        """The orders of what was stored, in the order of their offsets."""
        settle(self.node)
        published = self.talk.heard(p.Published)
        return [each.request for each in sorted(published, key=lambda each: each.first_offset)]


def test_later_batches_wait_for_the_refused_one_and_not_for_ever():
    order = PublishOrder(10)
    order.hold("p", 5, slots_of([1, 2]), now_ns=0)
    order.hold("p", 7, slots_of([1]), now_ns=1)
    for later in (6, 7):
        with pytest.raises(OverloadedError, match="batch 5"):
            order.check("p", later, [1], now_ns=HOLD_NS - 1)
    order.check("q", 9, [1], now_ns=1)
    order.check("p", 6, [3], now_ns=1)
    order.check("p", 5, [1], now_ns=1)
    with pytest.raises(OverloadedError, match="batch 5"):
        order.check("p", 8, [2], now_ns=1)  # the other part of it has not come
    with pytest.raises(OverloadedError, match="batch 7"):
        order.check("p", 8, [1], now_ns=1)
    order.check("p", 4, [1], now_ns=1)  # came before all of them, and ends nothing
    with pytest.raises(OverloadedError, match="batch 7"):
        order.check("p", 8, [1], now_ns=1)
    order.check("p", 8, [2], now_ns=HOLD_NS)
    order.check("p", 7, [1], now_ns=HOLD_NS)


def test_what_is_remembered_is_bounded_and_then_waits_for_the_first():
    order = PublishOrder(2)
    for place in range(MAX_HELD + 1):
        order.hold("p", place + 1, slots_of([place + 1]), now_ns=0)
    with pytest.raises(OverloadedError, match="batch 1 "):
        order.check("p", MAX_HELD + 5, [4000], now_ns=1)
    order.check("p", 1, [1], now_ns=1)
    order.check("p", MAX_HELD + 5, [4000], now_ns=1)
    for name in ("q", "r", "s"):
        order.hold(name, 1, ALL_SLOTS, now_ns=HOLD_NS)
    order.check("p", 9, [1], now_ns=HOLD_NS)


def draining(node: Node, *, on: bool) -> None:
    node.core.intake.draining = on


def overloaded(node: Node, *, on: bool) -> None:
    node.core.ledgers.pending_bytes += 10**9 if on else -(10**9)


def under_replicated(node: Node, *, on: bool) -> None:
    node.core.ledgers.refusal = (UnderReplicatedError, "one copy") if on else None


def without_storage(node: Node, *, on: bool) -> None:
    node.core.ledgers.refusal = (StorageError, "disk full") if on else None


def ending_its_ledger(node: Node, *, on: bool) -> None:
    """Nothing is put off (any longer): what comes is refused."""
    node.core.ledgers.pausing = on


@pytest.mark.parametrize("refusing", [draining, overloaded, under_replicated, without_storage, ending_its_ledger])
def test_nothing_overtakes_a_batch_that_was_refused_for_a_moment(refusing):
    out = Publishing()
    refusing(out.node, on=True)
    out.send(1, MINE[0], MINE[1])
    refusing(out.node, on=False)
    out.send(2, MINE[0])
    out.send(3, MINE[2])
    out.send(4, MINE[0], MINE[2])
    assert [order for order, _ in out.refused()] == [1, 2, 4], "the third has no key in common with what waits"
    for order, keys in ((1, MINE[:2]), (2, MINE[:1]), (4, (MINE[0], MINE[2]))):
        out.send(order, *keys)
    assert out.stored()[-3:] == [1, 2, 4]


def test_nothing_overtakes_a_batch_that_was_placed_by_a_table_not_known_here_yet():
    out = Publishing()
    out.send(1, *MINE, *OTHER, version=3)
    out.send(2, OTHER[0], version=3)
    out.node.handle(table(3, "n0"))
    out.send(3, OTHER[0], version=3)
    assert out.refused() == [(1, "wrong_owner"), (2, "wrong_owner"), (3, "overloaded")]
    out.send(1, *MINE, *OTHER, version=3)
    out.send(2, OTHER[0], version=3)
    out.send(3, OTHER[0], version=3)
    assert out.stored() == [1, 2, 3]


def test_nothing_overtakes_the_part_that_stays_of_a_batch_whose_other_keys_have_moved():
    """The whole never comes again: its part for this instance ends the waiting, and keys that moved hold up nobody."""
    out = Publishing()
    out.send(1, MINE[0], OTHER[0], version=1)
    out.send(2, MINE[0], version=1)
    out.send(3, MINE[1], version=1)
    assert out.refused() == [(1, "wrong_owner"), (2, "overloaded")]
    for order, sequence in ((1, 9), (2, 2), (4, 4)):
        out.send(order, MINE[0], sequence=sequence)
    assert out.stored() == [3, 1, 2, 4]


def test_a_batch_that_goes_elsewhere_as_a_whole_holds_up_nothing():
    out = Publishing()
    out.send(1, *OTHER, version=1)
    out.send(2, MINE[0], version=1)
    assert out.refused() == [(1, "wrong_owner")]


def test_what_is_put_off_until_the_next_ledger_ends_no_waiting_for_what_was_refused_meanwhile():
    out = Publishing()
    out.node.core.ledgers.pausing = True
    lineage = out.node.core.replication.lineage
    lineage._pausing_ns = out.node.world.now_ns
    out.send(1, MINE[0])
    out.send(2, *MINE * 20)  # there is no room for it
    assert out.refused() == [(2, "overloaded")]
    out.node.core.ledgers.pausing = False
    out.send(3, MINE[0])
    assert out.refused() == [(3, "overloaded")]


def test_a_part_cut_off_later_has_the_place_of_the_whole():
    node = start()
    talk = Talk(node)
    node.core.intake.draining = True
    talk.publish(b"old", keys=(1,), producer="p", sequence=9, order=2)
    node.core.intake.draining = False
    talk.publish(b"new", keys=(1,), producer="p", sequence=5, order=5)
    assert [refused.code for refused in talk.heard(p.Refused)] == ["draining", "overloaded"]
    talk.publish(b"old", keys=(1,), producer="p", sequence=9, order=2)
    talk.publish(b"new", keys=(1,), producer="p", sequence=5, order=5)
    settle(node)
    assert [published.first_offset for published in talk.heard(p.Published)] == [0, 1]


def test_parts_that_a_full_disk_took_back_come_first_again():
    node = start()
    talk = Talk(node)
    node.disk.full = True
    talk.publish(b"old", keys=(1,), producer="p", sequence=9, order=2)
    talk.publish(b"next", keys=(2,), producer="p", sequence=3, order=3)
    node.commit()
    node.disk.full = False
    talk.publish(b"new", keys=(1,), producer="p", sequence=5, order=5)
    assert [refused.code for refused in talk.heard(p.Refused)] == ["storage", "storage", "overloaded"]
    talk.publish(b"old", keys=(1,), producer="p", sequence=9, order=2)
    talk.publish(b"new", keys=(2,), producer="p", sequence=6, order=6)
    assert [refused.code for refused in talk.heard(p.Refused)] == ["overloaded"]
