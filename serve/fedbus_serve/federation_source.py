"""The control plane of the whole federation as one gateway sees it, through the managers it can reach.

Regions join and leave while it runs: which there are, and which of them are lost, the home region's manager knows from
peering (:class:`Members`). Of a lost region is told what was heard of it last; nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import msgspec

from fedbus.client.bootstrap import Bootstrap, bootstrap_from
from fedbus.clock import Clock
from fedbus.errors import FedbusError, UnavailableError
from fedbus.event import format_time_ns
from fedbus.options.federation import FederationOptions
from fedbus.routing.table import RegionRoute, RoutingTable
from fedbus_serve.control_cache import Network, Resource

NS_PER_S = 1_000_000_000


class Peer(msgspec.Struct, frozen=True):
    """Another region as peering sees it; as ``FederationManager.peers`` says it."""

    region: str
    state: str = "waiting"
    round_trip_ms: float | None = None
    lost_for_s: float | None = None
    gateway: str = ""
    endpoint: str = ""
    public_key: str = ""

    @property
    def reachable(self) -> bool:
        """Whether it is worth asking."""
        return self.state not in ("lost", "left", "waiting")


class Members:
    """The regions there are: the gateway's own first, then those of the file, then who joined since; not who left."""

    def __init__(self, own: Sequence[str], configured: Sequence[str]) -> None:
        self.own = tuple(own)
        self._configured = tuple(configured)
        self._peers: dict[str, Peer] = {}

    def learn(self, peers: Sequence[dict[str, Any]]) -> None:
        """Take over what a manager's peering says now."""
        self._peers = {peer.region: peer for peer in msgspec.convert(peers, list[Peer])}

    def regions(self) -> tuple[str, ...]:
        """In that order."""
        order = dict.fromkeys((*self.own, *self._configured, *sorted(self._peers)))
        return tuple(region for region in order if region in self.own or self.peer(region).state != "left")

    def peer(self, region: str) -> Peer:
        """A region as peering sees it."""
        return self._peers.get(region, Peer(region))

    def check_reachable(self, region: str) -> None:
        """Raise :class:`UnavailableError` at once if asking that region would be in vain."""
        peer = self.peer(region)
        if region in self.own or not self._peers or peer.reachable:
            return
        since = "" if peer.lost_for_s is None else f" for {peer.lost_for_s:.0f} s"
        said = f"is lost{since}" if peer.state == "lost" else "was never heard"
        raise UnavailableError(f"region {region} {said}: ask again when it is back", retry_after_ms=5000)

    def gateways(self) -> list[str]:
        """URLs of the other regions' gateways, those of living ones first."""
        known = [self.peer(region) for region in self.regions() if region not in self.own]
        ordered = sorted(known, key=lambda peer: (not peer.reachable, peer.round_trip_ms or 0.0))
        return [peer.gateway for peer in ordered if peer.gateway]


class Asked(Protocol):
    """What is needed of :class:`fedbus_serve.control_calls.ControlCalls`."""

    async def ask(self, region: str, method: str, *arguments: Any) -> Any:
        """A manager's answer, or its error."""
        ...


class FederationSource:
    """Implements ``control_cache.ControlSource``. ``schemas``: what clients are pushed of them."""

    def __init__(
        self, options: FederationOptions, managers: Asked, members: Members, schemas: Callable[[], dict[str, Any]],
        clock: Clock,
    ) -> None:  # fmt: skip
        self._options = options
        self._managers = managers
        self._members = members
        self._schemas = schemas
        self._clock = clock
        self._heard: dict[str, dict[str, Any]] = {}  # each region's own word, the last one

    def regions(self) -> Sequence[str]:
        """The gateway's own ones first."""
        return self._members.regions()

    async def bootstrap(self, network: Network) -> Bootstrap:
        """From the first of the own regions whose manager answers."""
        failure: FedbusError = UnavailableError("no manager answers", retry_after_ms=1000)
        for region in self._members.own:
            try:
                said = await self._managers.ask(region, "bootstrap")
            except FedbusError as error:
                failure = error
                continue
            found = bootstrap_from(said | {"schemas": self._schemas(), "gateways": self._members.gateways()})
            return msgspec.structs.replace(found, table=self._reachable(found.table, network))
        raise failure

    async def read(self, resource: Resource, region: str) -> Sequence[Any]:
        """One region's part of a resource; of a lost region only itself can be read, as it was."""
        if resource == "regions":
            return [await self._region(region)]
        self._members.check_reachable(region)
        return cast("Sequence[Any]", await self._managers.ask(region, "read", resource))

    async def change(self, region: str, change: str, name: str, value: Any = None) -> dict[str, Any]:
        """An operator's change, at one region's manager."""
        self._members.check_reachable(region)
        return cast("dict[str, Any]", await self._managers.ask(region, "change", change, name, value))

    async def query(self, region: str, query: str, asked: Any = None) -> Any:
        """A question that needs an answer of the moment."""
        self._members.check_reachable(region)
        return await self._managers.ask(region, "query", query, asked)

    async def _region(self, region: str) -> dict[str, Any]:
        """What a region says of itself, and what the home region's peering says of it."""
        peer = self._members.peer(region)
        measured: dict[str, Any] = {
            "round_trip_ms": peer.round_trip_ms, "gateway": peer.gateway, "peering": peer.endpoint,
            "public_key": peer.public_key,
        }  # fmt: skip
        try:
            self._members.check_reachable(region)
        except UnavailableError as error:
            now_ns = self._clock.now_ns()
            before = self._heard.get(region, {"region": region, "as_of": format_time_ns(now_ns)})
            lost_ns = None if peer.lost_for_s is None else now_ns - round(peer.lost_for_s * NS_PER_S)
            since = None if lost_ns is None or peer.state != "lost" else format_time_ns(lost_ns)
            gone = {"state": peer.state, "lost_since": since, "explanation": error.detail, "round_trip_ms": None}
            return before | measured | gone
        [said] = cast("list[dict[str, Any]]", await self._managers.ask(region, "read", "regions"))
        self._heard[region] = said
        return said | measured

    def _reachable(self, table: RoutingTable, network: Network) -> RoutingTable:
        """The table with endpoints that callers of that network can reach: own regions' external ones for strangers."""
        if network == "internal":
            return table
        return msgspec.structs.replace(table, regions=[self._external(each) for each in table.regions])

    def _external(self, route: RegionRoute) -> RegionRoute:
        options = self._options.regions.get(route.region)
        if options is None or route.region not in self._members.own:
            return route  # what another region tells of itself is for everybody
        instances = [
            msgspec.structs.replace(each, endpoint=options.external_endpoint(each.endpoint)) for each in route.instances
        ]
        return msgspec.structs.replace(route, instances=instances)
