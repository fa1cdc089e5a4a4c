"""Key slots between instances (protocol rule 11): what was published before, elsewhere, is settled first."""

import msgspec
import pytest

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.group import Group
from fedbus.broker.slot_mask import from_bytes, mask_of, mask_of_keys, slots_in, to_bytes
from fedbus.keys import key_hash, slot_of
from fedbus.routing.table import DRAINING, HEALTHY, InstanceRoute, RoutingTable, region_route
from tests.broker.simulation import World
from tests.broker.talk import ROOMY, Talk, settle

KEYS = [key_hash(f"key {n}") for n in range(60)]


class Region:
    """Instances of one region under routing tables, and one consumer of group ``g`` at each."""

    def __init__(self, *names: str, max_ms: int = 2000) -> None:
        self.world = World()
        limits = msgspec.structs.replace(ROOMY, key_handover_max_ms=max_ms)
        self.nodes = {name: self.world.node("here", name, limits) for name in names}
        self.version = 0
        self.publishers = {name: Talk(node, b"publisher") for name, node in self.nodes.items()}
        self.consumers = {name: Talk(node, b"consumer") for name, node in self.nodes.items()}
        for consumer in self.consumers.values():
            consumer.subscribe("g", credit=1000, options=p.GroupOptions(ack_deadline_ms=60_000))
        self.turn()

    def table(self, *names: str, only: str = "") -> list[str]:
        """Push a routing table in which these instances take events; the owner of each key of ``KEYS``."""
        self.version += 1
        routes = [
            InstanceRoute(name, node.endpoint, HEALTHY if name in names else DRAINING)
            for name, node in self.nodes.items()
        ]
        route = region_route("here", routes)
        data = RoutingTable("f", "here", self.version, [route]).encode()
        for name, node in self.nodes.items():
            if node.up and only in ("", name):
                node.handle(e.ApplyTable(self.version, data))
        self.turn()
        places = route.owner_places()
        return [routes[places[slot_of(key)]].instance for key in KEYS]

    def turn(self, milliseconds: int = 0) -> None:
        for _ in range(4):
            for node in self.nodes.values():
                settle(node)
            self.world.move_links()
            self.world.tick(milliseconds)

    def publish(self, name: str, body: bytes, *keys: int) -> None:
        self.publishers[name].publish(*[body] * len(keys), keys=keys, table_version=self.version)
        self.turn()

    def group(self, name: str) -> Group:
        found = self.nodes[name].core.subscriptions.groups.get("g")
        assert found is not None
        return found

    def ack(self, name: str) -> None:
        """Acknowledge all that has come there."""
        consumer = self.consumers[name]
        for message in consumer.heard(p.Deliver):
            assert isinstance(message, p.Deliver)
            consumer.say(p.Ack(1, [p.Settled(message.ledger, message.ranges)]))
        self.turn()


def test_masks_hold_what_was_put_in():
    slots = [0, 1, 7, 8, 4095]
    assert list(slots_in(mask_of(slots))) == slots
    assert from_bytes(to_bytes(mask_of(slots))) == mask_of(slots)
    assert mask_of_keys([4096 + 3, 0, 3]) == 1 << 3


def test_a_new_owner_waits_until_the_old_one_has_settled_what_came_before():
    region = Region("a", "b")
    region.table("a")
    region.publish("a", b"before", *KEYS)
    owners = region.table("a", "b")
    moved = [key for key, owner in zip(KEYS, owners, strict=True) if owner == "b"]
    assert 10 < len(moved) < 50
    region.publish("b", b"after", *moved)
    assert region.consumers["b"].bodies() == []
    assert region.group("b").deliveries.queued.barred_slots() == mask_of_keys(moved)
    region.ack("a")
    assert region.consumers["b"].bodies() == [b"after"] * len(moved)
    region.publish("b", b"later", *moved)
    assert region.consumers["b"].bodies() == [b"later"] * len(moved)
    assert region.group("b").order_breaks == 0


def test_slots_are_handed_over_one_by_one():
    region = Region("a", "b")
    region.table("a")
    region.publish("a", b"before", *KEYS)
    owners = region.table("a", "b")
    moved = [at for at, owner in enumerate(owners) if owner == "b"]
    region.publish("b", b"after", *[KEYS[at] for at in moved])
    region.consumers["a"].say(p.Ack(1, [p.Settled("here/a/0", [(moved[0], moved[0] + 1)])]))
    region.turn()
    same = sum(slot_of(KEYS[at]) == slot_of(KEYS[moved[0]]) for at in moved)
    assert region.consumers["b"].bodies() == [b"after"] * same


def test_events_without_a_key_and_of_slots_that_stay_do_not_wait():
    region = Region("a", "b")
    region.table("a", "b")
    region.turn(100)
    own = [key for key, owner in zip(KEYS, region.table("a", "b"), strict=True) if owner == "b"]
    region.publish("b", b"stays", *own)
    region.publish("b", b"none", 0)
    assert sorted(region.consumers["b"].bodies()) == [b"none"] + [b"stays"] * len(own)


def test_what_waits_to_be_delivered_again_does_not_hold_up_a_hand_over():
    region = Region("a", "b")
    region.table("a")
    region.publish("a", b"before", *KEYS)
    region.consumers["a"].say(p.Nack(1, [p.Settled("here/a/0", [(0, len(KEYS))])], delay_ms=60_000))
    moved = [key for key, owner in zip(KEYS, region.table("a", "b"), strict=True) if owner == "b"]
    region.publish("b", b"after", *moved)
    assert region.consumers["b"].bodies() == [b"after"] * len(moved)


@pytest.mark.parametrize("how", ["gone", "slow"])
def test_after_the_limit_it_goes_on_and_counts_the_break(how: str):
    region = Region("a", "b")
    region.table("a")
    region.publish("a", b"before", *KEYS)
    if how == "gone":
        region.nodes["a"].crash()
    moved = [key for key, owner in zip(KEYS, region.table("a", "b"), strict=True) if owner == "b"]
    region.publish("b", b"after", *moved)
    region.turn(400)
    assert region.consumers["b"].bodies() == []
    region.turn(400)
    assert region.consumers["b"].bodies() == [b"after"] * len(moved)
    assert region.group("b").order_breaks == len({slot_of(key) for key in moved})


def test_an_old_owner_that_comes_back_is_asked_again():
    region = Region("a", "b", max_ms=9000)  # it greets again after three seconds of silence
    region.table("a")
    region.publish("a", b"before", *KEYS)
    region.nodes["a"].crash()
    moved = [key for key, owner in zip(KEYS, region.table("a", "b"), strict=True) if owner == "b"]
    region.publish("b", b"after", *moved)
    region.nodes["a"].start()
    region.consumers["a"] = Talk(region.nodes["a"], b"back")
    region.consumers["a"].subscribe("g", credit=1000)
    region.table("a", "b")
    assert region.consumers["b"].bodies() == []
    for _ in range(12):
        region.ack("a")
        region.turn(100)
    assert region.consumers["b"].bodies() == [b"after"] * len(moved)
    assert region.group("b").order_breaks == 0


def test_an_instance_answers_only_when_it_has_the_table_too():
    region = Region("a", "b")
    region.table("a")
    region.publish("a", b"before", *KEYS)
    region.ack("a")
    owners = region.table("a", "b", only="b")
    moved = [key for key, owner in zip(KEYS, owners, strict=True) if owner == "b"]
    region.publish("b", b"after", *moved)
    assert region.consumers["b"].bodies() == []
    region.version -= 1
    region.table("a", "b", only="a")
    assert region.consumers["b"].bodies() == [b"after"] * len(moved)


def test_slots_that_go_back_and_forth_do_not_wait_for_one_another():
    region = Region("a", "b")
    region.table("b")
    region.publish("b", b"1", *KEYS)
    region.table("a")
    region.publish("a", b"2", *KEYS)
    region.table("b")
    region.publish("b", b"3", *KEYS)
    assert region.consumers["a"].bodies() == []
    held = region.consumers["b"].bodies()
    assert held == [b"1"] * 60
    region.consumers["b"].say(p.Ack(1, [p.Settled("here/b/0", [(0, 60)])]))
    region.turn(20)
    region.ack("a")
    region.turn(20)
    assert region.consumers["b"].bodies() == [b"3"] * 60
    assert region.group("a").order_breaks == region.group("b").order_breaks == 0


def test_too_many_hand_overs_of_one_session_are_refused():
    region = Region("a")
    talk = Talk(region.nodes["a"], b"peer")
    for request in range(70):
        talk.say(p.AskSlots(request, 99, b"\xff" * 512))
    assert {message.code for message in talk.heard(p.Refused)} == {"overloaded"}  # type: ignore[attr-defined]
