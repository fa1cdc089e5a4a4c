"""Server-Sent Events through a real server: live, resumable without loss, bounded, and gone when the client is."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from fedbus.event import Event
from fedbus.limits import Limits
from fedbus.position import decode_cursor
from fedbus_serve.sse import EventStreams
from tests.serve.fakes import LEDGER, FakeBus, make_gateway, serving


@pytest.fixture
def bus():
    return FakeBus()


@pytest.fixture
async def http(bus):
    async with serving(make_gateway(bus)) as base, httpx.AsyncClient(base_url=base, timeout=10) as client:
        yield client


async def publish(bus, *ids, topic="orders.new", **fields):
    await bus.publish_events(
        [
            (topic, Event.from_dict({"specversion": "1.0", "id": id_, "source": "/s", "type": "t", "data": 1} | fields))
            for id_ in ids
        ]
    )


class Messages:
    """The stream as a browser's EventSource reads it: fields up to an empty line."""

    def __init__(self, response: httpx.Response) -> None:
        self.lines = response.aiter_lines()
        self.last_id = ""
        self.comments = 0

    async def next(self) -> dict[str, str]:
        """The next message that has data; ids without data are remembered, as browsers do."""
        fields: dict[str, str] = {}
        async for line in self.lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "":
                if "data" in fields:
                    return fields
                fields = {}
            elif name == "":
                self.comments += 1
            elif name == "data":
                fields["data"] = fields["data"] + "\n" + value if "data" in fields else value
            else:
                fields[name] = value
                if name == "id":
                    self.last_id = value
        raise AssertionError("the stream ended")

    async def ids(self, count: int) -> list[str]:
        return [json.loads((await self.next())["data"])["id"] for _ in range(count)]


@contextlib.asynccontextmanager
async def stream(http, query="filter=orders.>", last_id="") -> AsyncIterator[Messages]:
    headers = {"last-event-id": last_id} if last_id else {}
    async with http.stream("GET", f"/v1/events?{query}", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Messages(response)


async def opened(bus, count=1):
    async with asyncio.timeout(10):
        while bus.streams != count:
            await asyncio.sleep(0.01)


async def test_an_event_arrives_as_it_was_with_topic_and_position(http, bus):
    async with stream(http) as messages:
        await opened(bus)
        await publish(bus, "other", topic="invoices.new")
        await publish(bus, "1", data={"text": "two\nlines"}, partitionkey="k", time="2026-01-31T12:00:00Z")
        message = await messages.next()
    assert json.loads(message["data"]) == {
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"text": "two\nlines"},
        "datacontenttype": "application/json", "partitionkey": "k", "time": "2026-01-31T12:00:00Z",
        "fedbustopic": "orders.new", "fedbusposition": f"{LEDGER}:1",
    }  # fmt: skip
    assert "event" not in message
    assert decode_cursor(message["id"]) == {LEDGER: 2}


async def test_a_stream_starts_at_latest_unless_told_otherwise(http, bus):
    await publish(bus, "1", "2")
    async with stream(http) as messages:
        await opened(bus)
        await publish(bus, "3")
        assert await messages.ids(1) == ["3"]
    async with stream(http, "filter=orders.>&from=earliest") as messages:
        assert await messages.ids(3) == ["1", "2", "3"]
    async with stream(http, f"filter=orders.>&from={LEDGER}:1") as messages:
        assert await messages.ids(2) == ["2", "3"]


async def test_last_event_id_goes_on_after_that_event_and_outweighs_from(http, bus):
    await publish(bus, *map(str, range(10)))
    async with stream(http, "filter=orders.>&from=earliest") as messages:
        assert await messages.ids(4) == ["0", "1", "2", "3"]
        last_id = messages.last_id
    await publish(bus, "10")
    async with stream(http, "filter=orders.>&from=earliest", last_id) as messages:
        assert await messages.ids(7) == [str(n) for n in range(4, 11)]


async def test_a_connection_lost_before_the_first_event_misses_nothing_either(http, bus):
    async with stream(http) as messages:
        await opened(bus)
        await publish(bus, "other", topic="invoices.new")
        lines = messages.lines
        async for line in lines:
            if line.startswith("id: "):
                last_id = line.removeprefix("id: ")
                break
    await opened(bus, 0)
    await publish(bus, "1")
    async with stream(http, last_id=last_id) as messages:
        assert await messages.ids(1) == ["1"]


async def test_several_filters_are_one_stream(http, bus):
    async with stream(http, "filter=a.*&filter=b.>") as messages:
        await opened(bus)
        for topic in ("a.x", "c.x", "b.x.y"):
            await publish(bus, topic, topic=topic)
        assert await messages.ids(2) == ["a.x", "b.x.y"]


async def test_a_stream_ends_with_its_client(http, bus):
    async with stream(http):
        await opened(bus)
    await opened(bus, 0)


async def test_a_quiet_stream_is_kept_alive(bus, monkeypatch):
    monkeypatch.setitem(EventStreams.__init__.__kwdefaults__, "keep_alive_s", 0.01)
    async with serving(make_gateway(bus)) as base, httpx.AsyncClient(base_url=base) as http, stream(http) as messages:
        async for line in messages.lines:
            if line == ":":
                break
        await publish(bus, "1")
        assert await messages.ids(1) == ["1"]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "no filter"),
        ("filter=a..b", 400, "not a filter"),
        ("filter=>.a", 400, "last token"),
        ("filter=a&from=yesterday", 400, "no start"),
        ("filter=a&region=nowhere", 404, "none of this federation"),
        ("filter=a&" * 65, 413, "at most 64"),
    ],
)
async def test_what_is_wrong_is_a_problem_before_the_stream_begins(http, query, status, words):
    answer = await http.get(f"/v1/events?{query}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


async def test_an_old_cursor_that_is_none_is_refused(http):
    answer = await http.get("/v1/events?filter=a", headers={"last-event-id": "!!!"})
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid_position")


async def test_streams_beyond_the_limit_are_refused(bus):
    gateway = make_gateway(bus, limits=Limits(gateway_streams=1))
    async with serving(gateway) as base, httpx.AsyncClient(base_url=base) as http:
        async with stream(http):
            assert (await http.get("/v1/events?filter=a")).status_code == 429
        await opened(bus, 0)
        async with stream(http):
            pass


async def test_a_reader_that_does_not_read_holds_back_its_subscription(bus):
    """Back-pressure: no event is taken while the transport has not taken the one before."""
    await publish(bus, *map(str, range(100)))
    room, sent, left = asyncio.Semaphore(3), [], asyncio.Event()

    async def send(message):
        await room.acquire()
        sent.append(message)

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http", "method": "GET", "path": "/v1/events", "headers": [],
        "query_string": b"filter=orders.>&from=earliest",
    }  # fmt: skip
    serving_it = asyncio.create_task(make_gateway(bus)(scope, receive, send))
    async with asyncio.timeout(10):
        while len(sent) < 3:  # the start, the opening, one event
            await asyncio.sleep(0)
    for _ in range(1000):  # every chance to go on
        await asyncio.sleep(0)
    assert bus.taken == 2
    left.set()
    for _ in range(100):
        room.release()
    await serving_it
    assert bus.streams == 0


async def test_an_error_that_ends_a_stream_is_its_last_message(bus, monkeypatch):
    from fedbus.errors import UnavailableError

    async def broken(self):
        raise UnavailableError("every instance is gone")
        yield

    monkeypatch.setattr("tests.serve.fakes.FakeStream.__aiter__", broken)
    async with serving(make_gateway(bus)) as base, httpx.AsyncClient(base_url=base) as http, stream(http) as messages:
        message = await messages.next()
        assert message["event"] == "error"
        assert json.loads(message["data"])["code"] == "unavailable"
        with pytest.raises(AssertionError, match="ended"):
            await messages.next()
