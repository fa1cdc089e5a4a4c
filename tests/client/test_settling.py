"""Acknowledgements when the instances they are for go away."""

from pathlib import Path

import fedbus
from tests.client.instances import Instances
from tests.client.waiting import until


async def test_closing_with_acknowledgements_for_an_instance_that_is_gone_ends(instances: Instances, tmp_path: Path):
    url = instances.start()
    async with fedbus.connect(url) as bus:
        await bus.publish("a.b", b"1")
        subscription = bus.subscribe("a.>", "g")
        async with subscription:
            (event,) = await subscription.take(1, 10)
            instances.stop()
            await until(lambda: not any(connection.ready for connection in bus.network.connections.values()))
            await event.ack()
