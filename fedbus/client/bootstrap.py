"""Bootstrap: how a client finds the federation from a URL.

``http(s)://`` asks a gateway (``GET /v1/bootstrap``), ``tcp://`` any bus instance directly. Several URLs are tried in
their order. Only this goes over HTTP: events go over ZeroMQ.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from fedbus.broker.policies import TopicRule
from fedbus.broker.protocol import Hello
from fedbus.client.connection import Connection
from fedbus.clock import Clock
from fedbus.errors import ConfigurationError, FedbusError, ProtocolError, UnavailableError
from fedbus.limits import DEFAULT, Limits
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route

TIMEOUT_S = 5.0
MOST_LEARNED = 64
TABLE_S = 1.0  # an instance that has a table sends it right after the welcome


class Bootstrap(msgspec.Struct, frozen=True):
    """What a client starts from; ``region`` is the one nearest to it, ``policies`` those of topics in that region.

    ``gateways``: URLs of those of other regions. ``complete``: from who knows schemas and policies, if there are any.
    """

    table: RoutingTable
    region: str
    limits: Limits = DEFAULT
    schemas: dict[str, Any] = {}
    policies: list[TopicRule] = []
    gateways: list[str] = []
    complete: bool = False


Source = Callable[[], Awaitable[Bootstrap]]


class _Answer(msgspec.Struct):
    """The body of ``GET /v1/bootstrap``; ``table``: base64 of its encoding."""

    region: str
    table: str
    limits: Limits = DEFAULT
    schemas: dict[str, Any] = {}
    policies: list[TopicRule] = []
    gateways: list[str] = []


def from_urls(urls: Sequence[str], hello: Hello, clock: Clock, token: str | None, tls_ca: str | None) -> Source:
    """A source that tries these URLs; raises :class:`ConfigurationError` if one of them is none."""
    if not urls:
        raise ConfigurationError("no URL to connect to: pass http://host:port of a gateway or tcp://host:port")
    for url in urls:
        if not url.startswith(("http://", "https://", "tcp://")):
            raise ConfigurationError(f"{url!r} is no URL of a bus: use http://host:port (a gateway) or tcp://host:port")

    known = _KnownUrls([url.rstrip("/") for url in urls])

    async def first_that_answers() -> Bootstrap:
        failures: list[FedbusError] = []
        for url in known.in_order():
            try:
                if url.startswith("tcp://"):
                    found = await _from_instance(url, hello, clock)
                else:
                    found = await _from_gateway(url, token, tls_ca)
            except FedbusError as error:
                failures.append(error)
                continue
            known.answered(url, found.gateways)
            return found
        if len(failures) == 1:
            raise failures[0]
        raise UnavailableError("; ".join(failure.detail for failure in failures))

    return first_that_answers


class _KnownUrls:
    """Where the federation can be looked up: the URLs given, then the gateways it told of itself, the newest word."""

    def __init__(self, given: Sequence[str]) -> None:
        self._given = list(dict.fromkeys(given))
        self._learned: list[str] = []
        self._last = ""

    def in_order(self) -> list[str]:
        """The one that answered last first: one that is gone for good costs a time-out each time."""
        return sorted(dict.fromkeys(self._given + self._learned), key=lambda url: url != self._last)

    def answered(self, url: str, gateways: Sequence[str]) -> None:
        """That one answered, and named these."""
        self._last = url
        told = [each.rstrip("/") for each in gateways if each.startswith(("http://", "https://"))]
        if told:
            self._learned = list(dict.fromkeys([*([url] if url in self._learned else []), *told]))[:MOST_LEARNED]


async def _from_gateway(url: str, token: str | None, tls_ca: str | None) -> Bootstrap:
    import ssl

    import httpx

    where = f"{url}/v1/bootstrap"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    verify: ssl.SSLContext | bool = True
    if url.startswith("https://") and tls_ca:
        try:
            verify = ssl.create_default_context(cafile=tls_ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"tls_ca {tls_ca!r} cannot be read: {error}") from None
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, verify=verify, trust_env=False) as http:
            response = await http.get(where, headers=headers)
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"no gateway answers at {url}: {str(error) or type(error).__name__}. Is it up?"
        ) from None
    if response.status_code in (401, 403):
        raise ConfigurationError(f"{where} refused the credentials ({response.status_code})")
    if response.status_code != 200:  # noqa: PLR2004
        raise UnavailableError(f"{where} answered {response.status_code}: {response.text[:200]}")
    try:
        return bootstrap_from(msgspec.json.decode(response.content))
    except (msgspec.MsgspecError, UnicodeDecodeError, ProtocolError) as error:
        raise ProtocolError(f"{where} answered what is no bootstrap ({error}): is this a fedbus gateway?") from None


def bootstrap_from(body: Any) -> Bootstrap:
    """Read the body of ``GET /v1/bootstrap`` (JSON decoded); raises :class:`ProtocolError`."""
    try:
        answer = msgspec.convert(body, _Answer)
        table = RoutingTable.decode(b64decode(answer.table, validate=True))
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProtocolError(f"a bootstrap that cannot be read: {error}") from None
    limits, schemas, policies, gateways = answer.limits, answer.schemas, answer.policies, answer.gateways
    return Bootstrap(table, answer.region, limits, schemas, policies, gateways, complete=True)


class _Introduction:
    """Waits for an instance's welcome and, if it has one, its routing table."""

    def __init__(self) -> None:
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.table: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_ready(self, connection: Connection) -> None:
        if not self.welcomed.done():
            self.welcomed.set_result(None)

    def connection_lost(self, connection: Connection, reason: str) -> None:
        if connection.refusal is not None and not self.welcomed.done():
            self.welcomed.set_exception(connection.refusal)

    def table_pushed(self, data: bytes) -> None:
        if not self.table.done():
            self.table.set_result(data)

    def round_trip(self, connection: Connection, rtt_ms: float) -> None:
        pass


async def _from_instance(endpoint: str, hello: Hello, clock: Clock) -> Bootstrap:
    introduction = _Introduction()
    connection = Connection(endpoint, hello, introduction, DEFAULT, clock)
    try:
        await asyncio.wait_for(introduction.welcomed, TIMEOUT_S)
        welcome = connection.welcome
        assert welcome is not None, "welcomed without a welcome"
        if welcome.table_version:
            table = RoutingTable.decode(await asyncio.wait_for(introduction.table, TABLE_S))
        else:
            alone = region_route(welcome.region, [InstanceRoute(welcome.instance, endpoint)])
            table = RoutingTable("", welcome.region, 0, [alone])
        return Bootstrap(table, welcome.region, welcome.limits)
    except TimeoutError:
        raise UnavailableError(
            f"no bus instance answers at {endpoint} within {TIMEOUT_S:.0f} s: is one running there, and is that "
            "its data port?"
        ) from None
    finally:
        connection.close()
