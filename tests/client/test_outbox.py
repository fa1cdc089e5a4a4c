"""The outbox: nothing of one producer and key overtakes an older batch, whatever is refused, lost, split or moved."""

import asyncio
import random

import pytest

from fedbus.batch import BatchBuilder
from fedbus.broker import protocol as wire
from fedbus.client.outbox import GRACE_MS, Outbox
from fedbus.client.parcel import Parcel
from fedbus.client.window import Window
from fedbus.errors import DrainingError, OverloadedError, StorageError, UnderReplicatedError, WrongOwnerError
from fedbus.limits import DEFAULT
from fedbus.routing.router import Router
from fedbus.routing.table import DRAINING, HEALTHY, InstanceRoute, RoutingTable, region_route

SECOND_NS = 1_000_000_000
DEADLINE_NS = 10**12
GONE = "gone"  # not in the table


class Clock:
    """Stands still between the test's steps."""

    def __init__(self):
        self.ns = SECOND_NS

    def monotonic_ns(self):
        return self.ns


class Line:
    """A connection whose other end is the test."""

    def __init__(self, route):
        self.endpoint = route.endpoint
        self.ledger = f"{route.instance}/0"
        self.welcome = wire.Welcome(1, "r", route.instance, self.ledger, 1, 10_000, 10**6, DEFAULT)
        self.sent = []  # the order of every publish
        self.open = {}  # request → order
        self._answers = {}

    @property
    def ready(self):
        return self.welcome is not None

    def request(self, answer):
        number = len(self._answers) + 1
        self._answers[number] = answer
        return number

    def forget(self, request):
        self.open.pop(request, None)

    def close(self):
        self.welcome = None

    def send(self, message, *frames):
        self.sent.append(message.order)
        self.open[message.request] = message.order
        return True

    def answer(self, order, error=None, retry_after_ms=0):
        """Answer the batch of this place: stored, or refused."""
        request = next(number for number, each in self.open.items() if each == order)
        if error is None:
            self._answers[request](wire.Published(request, self.ledger, 0, 1))
        else:
            self._answers[request](wire.Refused(request, error.code, "no", error.retryable, retry_after_ms))


class Sending:
    """An outbox and its lines; ``keys`` by their owner in the first table, in different slots."""

    def __init__(self, *names):
        self.clock = Clock()
        self.lines = {}
        self.refreshed = 0
        self.names = names
        self.router = Router("r", random.Random(1))
        self.router.adopt(self.table(1))
        self.outbox = Outbox(self.router, self.clock, random.Random(2), self._connect, self._refresh)
        self.keys = {name: [k for k in range(1, 4000) if self.outbox.owner(k) == name][:3] for name in names}
        for name in names:
            self.outbox.ready(self.outbox.lane(name))
        self.producers = {}

    def table(self, version, **states):
        states = {name: states.get(name, HEALTHY) for name in self.names}
        routes = [InstanceRoute(name, f"tcp://{name}", state) for name, state in states.items() if state != GONE]
        return RoutingTable("f", "r", version, [region_route("r", routes)])

    def _connect(self, route):
        return self.lines.setdefault(route.instance, Line(route))

    def _refresh(self):
        self.refreshed += 1

    def move(self, version, **states):
        self.router.adopt(self.table(version, **states))
        self.outbox.adopted()

    def post(self, *keys, producer="p", owner=None):
        window = self.producers.setdefault(producer, Window(DEFAULT))
        builder = BatchBuilder()
        for key in keys:
            builder.add("a", key, b"x")
        parcel = Parcel(window, window.next_sequence(), builder.build(), None, DEADLINE_NS)
        window.add([parcel])
        self.outbox.post(parcel, owner)

    def lose(self, name):
        self.lines[name].welcome = None
        self.outbox.lost(self.outbox.lanes[name])

    def back(self, name):
        line = self.lines[name]
        line.welcome = wire.Welcome(1, "r", name, line.ledger, 1, 10_000, 10**6, DEFAULT)
        line.sent.clear()
        self.outbox.ready(self.outbox.lanes[name])

    def waiting(self, name, producer="p"):
        return [parcel.order for parcel in self.outbox.lanes[name].queue if parcel.sender is self.producers[producer]]


async def resumed(sending, name):
    async with asyncio.timeout(10):
        while sending.outbox.lanes[name].paused:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("error", [OverloadedError, StorageError, UnderReplicatedError, WrongOwnerError, DrainingError])
async def test_what_is_refused_for_a_moment_goes_again_before_what_came_later(error):
    out = Sending("a", "b")
    [key, *_] = out.keys["a"]
    for _ in range(3):
        out.post(key)
    line = out.lines["a"]
    line.answer(1, error)
    out.post(key)
    line.answer(2, error)
    line.answer(3, error)
    assert line.sent == [1, 2, 3], "the lane waits"
    await resumed(out, "a")
    assert line.sent == [1, 2, 3, 1, 2, 3, 4]


async def test_producers_that_share_a_lane_keep_their_order_each():
    out = Sending("a", "b")
    [key, *_] = out.keys["a"]
    out.post(key)
    out.post(key, producer="q")
    line = out.lines["a"]
    line.answer(1, OverloadedError)
    out.post(key)
    out.post(key, producer="q")
    line.answer(1, OverloadedError)  # that of q
    assert (out.waiting("a"), out.waiting("a", "q")) == ([1, 2], [1, 2])
    out = Sending("a", "b")
    for _ in range(2):
        out.post(key)
    line = out.lines["a"]
    line.answer(2, OverloadedError)
    out.post(key, producer="q")
    line.answer(1, OverloadedError)  # its place is before the second, though another producer's is last
    assert out.waiting("a") == [1, 2]


async def test_what_was_in_flight_when_the_session_ended_goes_again_in_its_place():
    out = Sending("a", "b")
    [key, *_] = out.keys["a"]
    for _ in range(3):
        out.post(key)
    out.lines["a"].answer(2, OverloadedError)
    out.lose("a")
    out.post(key)
    assert out.waiting("a") == [1, 2, 3, 4]
    await resumed(out, "a")
    out.back("a")
    assert out.lines["a"].sent == [1, 2, 3, 4]


async def test_parts_of_a_refused_batch_go_before_what_came_later_at_both_owners():
    """The table comes first, the refusal after it; what the new owner gets waits for that."""
    out = Sending("a", "b")
    stays, moves = out.keys["a"][0], out.keys["a"][1]
    out.post(stays, moves, owner="a")
    out.post(stays)
    out.outbox.owner = lambda key: "b" if key == moves else "a"
    out.outbox.adopted()
    out.post(moves)
    assert out.lines["b"].sent == []
    out.lines["a"].answer(1, WrongOwnerError)
    out.lines["a"].answer(2, OverloadedError)  # as the instance does with what is behind a refused one
    await resumed(out, "a")
    assert out.lines["b"].sent == [1, 3]
    assert out.lines["a"].sent[2:] in ([1, 2], [1, 1, 2])


async def test_recalled_batches_whose_owner_was_replaced_are_placed_anew_at_once():
    """They would wait for an owner that is not theirs any more, and what came later would not wait for them."""
    out = Sending("a", "b")
    [key, *_] = out.keys["a"]
    out.post(key)
    out.post(key)
    out.move(2, a=DRAINING)
    out.post(key)
    assert out.lines["b"].sent == [], "two are in flight at the owner before"
    out.lose("a")
    assert out.lines["b"].sent == [1, 2, 3]


async def test_an_owner_that_is_given_up_leaves_all_its_batches_to_the_next_in_their_order():
    out = Sending("a", "b", "c")
    by_heir = {}
    out.move(2)
    for key in range(1, 4000):
        if out.outbox.owner(key) == "a":
            by_heir.setdefault(out.router.owner(key, avoid={"a"}).instance, key)
    to_b, to_c = by_heir["b"], by_heir["c"]
    out.post(to_b, to_c)
    out.post(to_b)
    out.lose("a")
    out.post(to_c)
    out.clock.ns += (GRACE_MS + 1) * 1_000_000
    out.outbox.tick()
    assert out.lines["b"].sent == [1, 2]
    assert out.lines["c"].sent == [1, 3]


async def test_all_of_a_lost_owner_are_queued_before_anything_is_sent():
    """A lane in which later ones wait their turn sends nothing while older ones have only been taken out of another."""
    out = Sending("a", "b")
    [first, second, _] = out.keys["a"]
    for key in (first, second):
        out.post(key)
    out.move(2, a=DRAINING)
    out.post(second)  # waits in b's lane for the second
    out.post(first)
    assert out.lines["b"].sent == []
    out.lose("a")
    assert out.lines["b"].sent == [1, 2, 3, 4]
    out.lose("b")  # and back again, from two lanes at once
    out.post(first)
    out.move(3)
    assert out.waiting("a") + out.waiting("b") == [1, 2, 3, 4, 5]
    out.back("a")
    assert out.lines["a"].sent == [1, 2, 3, 4, 5]


async def test_what_was_with_an_owner_that_left_the_table_goes_before_what_waited_for_it():
    out = Sending("a", "b")
    [key, *_] = out.keys["a"]
    out.post(key)
    out.move(2, a=DRAINING)
    out.post(key)
    assert out.lines["b"].sent == []
    out.move(3, a=GONE)
    assert out.lines["b"].sent == [1, 2]


async def test_batches_without_answer_go_again_to_the_present_owner_before_later_ones():
    out = Sending("a", "b")
    [key, *_] = out.keys["a"]
    out.post(key)
    out.move(2, a=DRAINING)
    out.post(key)
    assert out.lines["b"].sent == []
    out.clock.ns += 4 * SECOND_NS
    out.outbox.tick()
    assert out.lines["b"].sent == [1, 2]
