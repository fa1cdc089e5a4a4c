"""Finding the federation: from several URLs, and from gateways that others told of."""

import contextlib

import pytest

from fedbus.broker.protocol import Hello
from fedbus.client.bootstrap import Bootstrap, from_urls
from fedbus.client.bus import connect
from fedbus.clock import SystemClock
from fedbus.errors import UnavailableError
from fedbus.routing.table import UNREACHABLE, InstanceRoute, RoutingTable, region_route
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from fedbus_serve.control import encode_bootstrap
from tests.client.waiting import until
from tests.serve.fakes import serving


class Lookup:
    """A gateway that answers bootstraps alone: its region's, and what it tells of other gateways."""

    def __init__(self, region):
        self.region = region
        self.table = RoutingTable("f", region, 1, [region_route(region, [InstanceRoute("b1", "tcp://h:1")])])
        self.others = []
        self.asked = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.asked += 1
        body = encode_bootstrap(Bootstrap(self.table, self.region, gateways=self.others))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def source_of(*urls):
    return from_urls(urls, Hello(1, 1, "client", "t", "", True), SystemClock(), None, None)


async def test_the_first_url_that_answers_counts():
    async with serving(Lookup("aa.one")) as url:
        assert (await source_of("http://127.0.0.1:9", url + "/")()).region == "aa.one"


async def test_a_gateway_that_another_told_of_stands_in_when_that_is_gone():
    one, two = Lookup("aa.one"), Lookup("bb.two")
    async with contextlib.AsyncExitStack() as both:
        second = await both.enter_async_context(serving(two))
        one.others = [second]
        async with serving(one) as first:
            find = source_of(first)
            assert (await find()).region == "aa.one"
        assert (await find()).region == "bb.two"
        assert two.asked == 1
    with pytest.raises(UnavailableError) as caught:
        await find()
    assert first in caught.value.detail
    assert second in caught.value.detail


async def test_who_answered_last_is_asked_first():
    one, two = Lookup("aa.one"), Lookup("bb.two")
    async with serving(two) as second:
        one.others = [second]
        async with serving(one) as first:
            find = source_of("http://127.0.0.1:9", first, second)
            await find()
            await find()
    assert (one.asked, two.asked) == (2, 0)


async def test_a_region_lost_with_its_gateway_and_publishing_goes_on_in_another(tmp_path):
    """The table that said where the other region is came at the start; nobody pushes any more."""
    near, far = (BusInstance(InstanceConfig(name, "b1", str(tmp_path / name))) for name in ("aa.one", "bb.two"))
    routes = {
        each: region_route(each, [InstanceRoute(f"{each}/b1", f"tcp://127.0.0.1:{instance.port}")])
        for each, instance in (("aa.one", near), ("bb.two", far))
    }
    try:
        one, two = Lookup("aa.one"), Lookup("bb.two")
        async with contextlib.AsyncExitStack() as both:
            second = await both.enter_async_context(serving(two))
            one.others = [second]
            one.table = RoutingTable("f", "aa.one", 1, list(routes.values()))
            moved = region_route("aa.one", [InstanceRoute("aa.one/b1", f"tcp://127.0.0.1:{near.port}", UNREACHABLE)])
            two.table = RoutingTable("f", "bb.two", 2, [routes["bb.two"], moved])
            async with contextlib.AsyncExitStack() as first:
                bus = await both.enter_async_context(connect(await first.enter_async_context(serving(one))))
                assert str((await bus.publish("a", 1)).position).startswith("aa.one/")
                near.stop()
            receipt = await bus.publish("a", 2)
            assert str(receipt.position).startswith("bb.two/")
            await until(lambda: two.asked and bus.router.table.version == 2)
    finally:
        near.stop()
        far.stop()
