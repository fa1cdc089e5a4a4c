"""Server-Sent Events: a live subscription as a stream that resumes where it broke off.

Each message is one event: ``data`` is the CloudEvent in its JSON form on one line, with two extension attributes of
ours, ``fedbustopic`` (its topic, which need not be its type) and ``fedbusposition``; ``id`` is the cursor after it:
opaque, one offset per live ledger. No ``event`` field, so that a browser's ``onmessage`` gets them all; only an error
that ends a stream is ``event: error``. The stream opens with an ``id`` of its own, so that whoever loses the connection
before the first event misses nothing either. Back-pressure: one event is taken from the subscription when the one
before has been handed to the transport; the subscription's credit does the rest. Errors before the stream begins are
ordinary problems.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import msgspec

from fedbus.broker.protocol import Start
from fedbus.client.start import parse_start
from fedbus.errors import FedbusError, InvalidTopicError, TooLargeError
from fedbus.event import Event
from fedbus.limits import Limits
from fedbus.position import encode_cursor
from fedbus.topic import check_filter
from fedbus_serve.admission import Admission
from fedbus_serve.answer import Receive, Scope, Send
from fedbus_serve.buses import Buses, Stream
from fedbus_serve.metrics import GatewayMetrics
from fedbus_serve.problems import describe

KEEP_ALIVE_S = 15.0
RETRY_MS = 1000
TOPIC_ATTRIBUTE, POSITION_ATTRIBUTE = "fedbustopic", "fedbusposition"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # proxies in front of ours that would otherwise collect
]
_NOTHING = encode_cursor({})
_encode_json = msgspec.json.Encoder().encode


class EventStreams:
    """Answers ``GET /v1/events``."""

    def __init__(
        self, buses: Buses, admission: Admission, metrics: GatewayMetrics, *, limits: Limits,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:  # fmt: skip
        self._buses = buses
        self._admission = admission
        self._metrics = metrics
        self._limits = limits
        self._keep_alive_s = keep_alive_s

    async def serve(self, scope: Scope, receive: Receive, send: Send, region: str) -> None:
        """Serve one stream until the client goes; raises :class:`FedbusError` only before the first byte."""
        filters, start = self._asked(scope)
        with self._admission.stream():
            bus = await self._buses.get(region)
            async with bus.subscribe(filters, start=start) as stream:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                gone = asyncio.ensure_future(_disconnected(receive))
                try:
                    await self._pump(stream, send, gone)
                finally:
                    gone.cancel()

    def _asked(self, scope: Scope) -> tuple[list[str], Start]:
        """(filters, start) of the request; ``Last-Event-ID`` outweighs ``from``, because it is newer."""
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        filters = [check_filter(pattern) for pattern in query.get("filter", [])]
        if not filters:
            raise InvalidTopicError("no filter: ask for example for /v1/events?filter=orders.>")
        if len(filters) > self._limits.filters_per_group:
            raise TooLargeError(f"{len(filters)} filters, at most {self._limits.filters_per_group}")
        last = next((value for name, value in scope["headers"] if name == b"last-event-id" and value), None)
        # A plus sign that was not percent-encoded (in a time's zone) arrives as a space.
        text = last.decode("latin-1") if last is not None else query.get("from", ["latest"])[-1].replace(" ", "+")
        return filters, parse_start(text)

    async def _pump(self, stream: Stream, send: Send, gone: asyncio.Future[None]) -> None:
        """Send events, keep-alives while there are none, and at most one error, which is the end."""
        events = aiter(stream)
        opening = f"retry: {RETRY_MS}\n".encode() + self._cursor_line(stream.cursor()) + b"\n"
        await _write(send, opening)
        upcoming = asyncio.ensure_future(_next(events))
        try:
            while not gone.done():
                await asyncio.wait((upcoming, gone), timeout=self._keep_alive_s, return_when=asyncio.FIRST_COMPLETED)
                if not upcoming.done():
                    if not gone.done():
                        await _write(send, b":\n\n")
                    continue
                event = upcoming.result()
                if event is None:
                    break
                # The cursor is read before the next event is asked for: it covers this one and nothing after it.
                message = self._cursor_line(stream.cursor()) + b"data: " + event_json(event) + b"\n\n"
                await _write(send, message)
                self._metrics.streamed(1)
                upcoming = asyncio.ensure_future(_next(events))
        except FedbusError as error:
            await _write(send, b"event: error\ndata: " + _encode_json(describe(error)) + b"\n\n")
        except OSError:
            return  # the client went while we wrote
        finally:
            upcoming.cancel()
            with contextlib.suppress(asyncio.CancelledError, FedbusError):
                await upcoming
        if not gone.done():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _cursor_line(self, cursor: str) -> bytes:
        """The ``id`` field.

        None for a cursor over nothing (it would mean: from the beginning), nor for one too long to be sent back in a
        header line (the client then resumes at an older one).
        """
        return b"id: %b\n" % cursor.encode() if cursor != _NOTHING and len(cursor) <= self._limits.cursor_bytes else b""


def event_json(event: Event) -> bytes:
    """The event in the JSON format, on one line, with its topic and position."""
    structured = event.to_dict()
    structured[TOPIC_ATTRIBUTE] = event.topic
    if event.position is not None:
        structured[POSITION_ATTRIBUTE] = str(event.position)
    return _encode_json(structured)


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _write(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
