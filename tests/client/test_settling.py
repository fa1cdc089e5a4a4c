"""Acknowledgements when the instances they are for go away."""

import asyncio
from pathlib import Path

import pytest

import fedbus
from fedbus.broker import protocol as wire
from fedbus.client.settling import Settling
from fedbus.errors import UnavailableError
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


async def test_what_was_acknowledged_when_it_came_again_is_not_handed_out(instances: Instances):
    async with fedbus.connect(instances.start()) as bus:
        await bus.publish("a.b", b"1")
        async with bus.subscribe("a.>", "g", ack_deadline_ms=200) as subscription:
            (event,) = await subscription.take(1, 10)
            await until(lambda: subscription.inflow.queue)  # its deadline has passed
            await event.ack(wait=True)
            await bus.publish("a.b", b"2")
            (event,) = await subscription.take(1, 10)
            assert event.data == b"2"


class Session:
    """A connection that stands: what is sent is kept, answers come when the test says."""

    endpoint = "tcp://127.0.0.1:1"

    def __init__(self):
        self.answers, self.sent = {}, []

    def request(self, answer):
        self.answers[len(self.answers) + 1] = answer
        return len(self.answers)

    def forget(self, request):
        self.answers.pop(request, None)

    def send(self, message):
        self.sent.append(message)
        return True

    def receive(self, message):
        """What a connection does with an answer: nothing, if nobody waits for it any more."""
        answer = self.answers.pop(message.request, None)
        if answer is not None:
            answer(message)


async def test_an_answer_that_comes_when_the_subscription_has_moved_on_is_ignored():
    session, elsewhere, following = Session(), [], []
    settling = Settling(1, session, lambda ledger, offsets: elsewhere.append((ledger, offsets)), following.append)
    settling.resumed()
    waiting = asyncio.create_task(settling.ack("r.a/b1/0", 7, wait=True))
    while not session.sent:
        await asyncio.sleep(0)
    settling.end()  # the group's home is elsewhere now; the session lives on
    session.receive(wire.Ok(session.sent[0].request))
    assert elsewhere == [("r.a/b1/0", [7])]
    [[waiters]] = following
    assert not waiting.done()
    waiters.settle(UnavailableError("nobody took it"))
    with pytest.raises(UnavailableError, match="nobody took it"):
        await waiting
