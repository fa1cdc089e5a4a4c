"""What the gateway says of its own routing, with real instances behind it."""

from fedbus.broker.protocol import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Hello
from fedbus.client.bootstrap import Bootstrap
from fedbus.client.bus import Bus
from fedbus.event import Event
from fedbus.routing.table import DRAINING, HEALTHY
from fedbus_serve.region_bus import RegionBus
from fedbus_serve.views import KeyRouteView, RoutingView
from tests.client.instances import REGION, Instances
from tests.client.waiting import until


def published(event_id, **attributes):
    return Event.from_dict({"specversion": "1.0", "id": event_id, "source": "/t", "type": "a.b", **attributes})


async def test_it_says_what_every_decision_rests_on_and_why_the_last_events_went_where_they_went(tmp_path):
    instances = Instances(tmp_path)
    for name in ("b1", "b2", "b3"):
        instances.start(name)
    table = instances.apply_table(1, b1=HEALTHY, b2=HEALTHY, b3=DRAINING)

    async def find():
        return Bootstrap(table, REGION)

    bus = Bus(find, Hello(OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, "gateway", "g", REGION, True))
    try:
        async with bus:
            own = RegionBus(bus)
            for number in range(20):
                event = published(str(number))
                (receipt,) = await own.publish_events([("a.b", event)])
                assert receipt.instance != f"{REGION}/b3"
            await until(lambda: all(route["measured"] for route in own.routing()["routes"]))
            told = RoutingView.model_validate(own.routing())
            assert (told.told_by, told.region, told.version, told.failover) == ("gateway", REGION, 1, [REGION])
            assert round(sum(route.share for route in told.routes), 2) == 1.0
            assert {route.instance: route.state for route in told.routes}[f"{REGION}/b3"] == DRAINING
            assert sum(route.slots for route in told.routes) == 4096
            assert all(reason.startswith(f"{REGION}/b") for reason in told.reasons)
            key = KeyRouteView.model_validate(own.routing("customer-7"))
            event = published("k", partitionkey="customer-7")
            (receipt,) = await own.publish_events([("a.b", event)])
            assert key.instance == receipt.instance
            assert "key slot" in key.why
    finally:
        instances.stop_all()
