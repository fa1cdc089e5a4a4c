"""A client whose home region is lost: its keys go to one other region, in their order, and are taken there."""

import random

from fedbus.broker.slot_owners import SlotOwners
from fedbus.client.outbox import GRACE_MS, Outbox
from fedbus.errors import UnavailableError, WrongOwnerError
from fedbus.limits import DEFAULT
from fedbus.routing.key_region import HOME_BACK_NS
from fedbus.routing.router import Router
from fedbus.routing.table import HEALTHY, UNREACHABLE, InstanceRoute, RoutingTable, region_route
from tests.client.test_geo_parcels import post_geo
from tests.client.test_outbox import Clock, Line, Sending

HOME, NEAR, FAR = "a", "b", "c"
MS = 1_000_000


def table(home, version, lost=()):
    def route(region):
        state = UNREACHABLE if region in lost else HEALTHY
        instances = [InstanceRoute(f"{region}/{name}", f"tcp://{region}/{name}", state) for name in ("b1", "b2")]
        return region_route(region, instances, round_trip_ms=5.0 if region == NEAR else 9.0)

    return RoutingTable("f", home, version, [route(region) for region in (HOME, NEAR, FAR)])


class Told(Line):
    """A line whose instance judges keyed batches by its own region's table."""

    def __init__(self, route, tables):
        super().__init__(route)
        region = route.instance.split("/")[0]
        self.owners = SlotOwners(region, route.instance)
        self.owners.adopt_table(tables[region])
        self.refused = []
        self.taken = {}  # by order, the request's table version

    def send(self, message, *frames):
        batch = type("Keys", (), {"keyed": True, "keys": self.keys})
        try:
            self.owners.check(batch, message, self.owners.foreign(batch, message))
        except WrongOwnerError as error:
            self.refused.append(error.detail)
        self.taken[message.order] = message.table_version
        return super().send(message, *frames)


class Mesh(Sending):
    """Three regions of two instances each; ``key`` is the only one published."""

    def __init__(self, **versions):
        self.tables = {region: table(region, versions.get(region, 1)) for region in (HOME, NEAR, FAR)}
        self.clock, self.lines, self.refreshed, self.producers = Clock(), {}, 0, {}
        self.router = Router(HOME, random.Random(1))
        self.router.adopt(self.tables[HOME])
        self.key = 7
        self.outbox = Outbox(self.router, self.clock, random.Random(2), self._connect, self._refresh)
        for region in (HOME, NEAR, FAR):
            for name in ("b1", "b2"):
                self.outbox.ready(self.outbox.lane(f"{region}/{name}"))

    def _connect(self, route):
        line = self.lines[route.instance] = Told(route, self.tables)
        line.keys = [self.key]
        return line

    def region(self, name, *, lost):
        for instance in (f"{name}/b1", f"{name}/b2"):
            self.lose(instance) if lost else self.back(instance)

    def after(self, ms):
        self.clock.ns += ms * MS
        self.outbox.tick()

    def push(self, made_by, version, lost=()):
        assert self.router.adopt(table(made_by, version, lost))
        self.outbox.adopted()

    def sent(self):
        return {name: line.sent for name, line in self.lines.items() if line.sent}

    @property
    def owner(self):
        return self.lines[self.outbox.owner(self.key)]


def test_a_region_takes_keys_whatever_number_another_regions_table_has():
    """Regions count their tables each for itself: a number compared with another region's refuses keys for ever."""
    mesh = Mesh(a=50, b=3, c=80)
    mesh.region(HOME, lost=True)
    mesh.after(GRACE_MS + 1)
    mesh.post(mesh.key)
    assert mesh.owner.endpoint.startswith(f"tcp://{NEAR}/")
    assert (mesh.owner.sent, mesh.owner.refused, mesh.owner.taken) == ([1], [], {1: 0})
    mesh.push(FAR, 80, [HOME])
    mesh.owner.answer(1)
    mesh.post(mesh.key)
    assert (mesh.owner.refused, mesh.owner.taken[2]) == ([], 0)
    mesh.owner.answer(2)
    mesh.push(NEAR, 3, [HOME])
    mesh.post(mesh.key)
    assert (mesh.owner.refused, mesh.owner.taken[3]) == ([], 3)


def test_keys_stay_where_they_went_while_the_other_regions_change_places():
    mesh = Mesh()
    mesh.region(HOME, lost=True)
    mesh.after(GRACE_MS + 1)
    mesh.post(mesh.key)
    first = mesh.owner
    for beat in range(40):
        for name in ("b/b1", "b/b2"):
            mesh.router.observe(name, 300.0 if beat % 8 < 4 else 1.0, mesh.clock.ns)
        for name in ("c/b1", "c/b2"):
            mesh.router.observe(name, 4.0, mesh.clock.ns)
        mesh.router.beat(mesh.clock.ns)
        mesh.push((NEAR, FAR)[beat % 2], 10 + beat, [HOME])
        mesh.post(mesh.key)
        assert mesh.owner is first
        for order in list(first.open.values()):
            first.answer(order)
        mesh.after(250)
    assert first.sent == list(range(1, 42))


def test_keys_go_home_when_that_has_been_back_for_a_while_and_wait_for_what_is_under_way():
    mesh = Mesh()
    mesh.region(HOME, lost=True)
    mesh.after(GRACE_MS + 1)
    mesh.post(mesh.key)
    stand_in = mesh.owner
    mesh.region(HOME, lost=False)
    mesh.after(1)
    assert mesh.owner is stand_in
    generation = mesh.outbox.turns.generation
    for _ in range(HOME_BACK_NS // MS // 2000):
        mesh.after(2000)  # shorter than an answer is waited for
        for order in list(stand_in.open.values()):
            stand_in.answer(order)
        mesh.post(mesh.key)
    mesh.after(HOME_BACK_NS // MS % 2000 + 1)
    assert mesh.outbox.turns.generation == generation + 1, "a change of owners is one of the generation"
    mesh.post(mesh.key)
    assert mesh.owner.endpoint.startswith(f"tcp://{HOME}/")
    assert mesh.owner.sent == [], "the last one has no answer yet"
    last, *_ = stand_in.open.values()
    stand_in.answer(last)
    assert mesh.owner.sent == [last + 1]


def test_what_is_parked_for_a_second_region_is_not_overtaken_on_a_reroute():
    mesh = Mesh()
    mesh.region(HOME, lost=True)
    mesh.after(GRACE_MS + 1)
    post_geo(mesh, mesh.key)
    near = mesh.owner
    near.answer(1, UnavailableError, retry_after_ms=900)
    mesh.region(NEAR, lost=True)
    mesh.after(GRACE_MS + 1)
    far = mesh.owner
    assert far.endpoint.startswith(f"tcp://{FAR}/")
    post_geo(mesh, mesh.key)
    mesh.post(mesh.key)
    assert far.sent == [1], "another producer's goes; the second waits for the first"
    mesh.after(400)
    assert far.sent == [1, 1, 2]


async def test_later_ones_with_other_keys_do_not_wait_for_what_is_parked():
    out = Sending("a", "b")
    (held, *_), (other, *_) = out.keys["a"], out.keys["b"]
    post_geo(out, held)
    out.lines["a"].answer(1, UnavailableError, retry_after_ms=500)
    post_geo(out, held)
    post_geo(out, other)
    assert (out.lines["a"].sent, out.lines["b"].sent) == ([1], [3])
    assert DEFAULT.publish_window_batches > len(out.waiting("a", "geo"))
    out.clock.ns += 501 * MS
    out.outbox.tick()
    assert out.lines["a"].sent == [1, 1, 2]
