"""A region of the federation file: where it is, where its instances run and listen, how big and how many they are."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from fedbus.control.capacity import InstanceSize as Capacity
from fedbus.control.holders import AUTO, Settings
from fedbus.options.quantity import HIGHEST_PORT, DurationMs, PortRange, Ports, SizeBytes
from fedbus.options.section import Section

REGION_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,61}[a-z0-9]")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
ELSEWHERE = "elsewhere"
_Z85_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_ENDPOINT = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
# What others on the machine take: a stable port may not lie where Ray or the kernel hands out ports of their own.
TAKEN_PORTS: tuple[tuple[PortRange, str], ...] = (
    (PortRange(1, 1023), "privileged ports"),
    (PortRange(6379, 6379), "Ray's head"),
    (PortRange(8265, 8265), "Ray's dashboard"),
    (PortRange(10001, 19999), "Ray's client and workers"),
    (PortRange(30000, 31000), "Ray Serve's replicas"),
    (PortRange(32768, 60999), "the kernel's ephemeral ports"),
    (PortRange(32000, 32767), "the gateway's replicas"),
)
FIRST_PORT = 24_000
PORTS_PER_REGION = 500
LAST_PORT = 29_999


def _check_ports(ports: PortRange) -> PortRange:
    for taken, whose in TAKEN_PORTS:
        if ports.overlaps(taken):
            raise ValueError(f"{ports} meets {taken} ({whose}); take ports between 20000 and 29999")
    return ports


def _check_key(key: str) -> str:
    if _Z85_KEY.fullmatch(key) is None:
        raise ValueError(f"{key[:60]!r} is no public key: 40 characters of Z85, as `fedbus region key` prints them")
    return key


def _check_endpoint(endpoint: str) -> str:
    found = _ENDPOINT.fullmatch(endpoint)
    if found is None or not 1 <= int(found["port"]) <= HIGHEST_PORT:
        raise ValueError(f"{endpoint[:80]!r} is no address of a region: write tcp://host:port")
    return endpoint


def check_gateway_host(host: str) -> str:
    """The host if a gateway can listen there; ValueError says why not: Serve's proxy calls its replicas on loopback."""
    if host not in (*LOOPBACK, *EVERYWHERE):
        raise ValueError(
            f"{host!r}: a gateway listens on 127.0.0.1 or, behind a firewall if need be, on 0.0.0.0 (its proxy reaches "
            "it over loopback); what clients elsewhere are to call goes into `advertise`"
        )
    return host


FreePorts = Annotated[Ports, AfterValidator(_check_ports)]
PublicKey = Annotated[str, AfterValidator(_check_key)]
Endpoint = Annotated[str, AfterValidator(_check_endpoint)]


class InstanceSize(Section):
    """A size of bus instance and the capacity it is declared to have until it was measured."""

    events_per_s: float = Field(20_000.0, gt=0, description="Events per second it holds at the SLA's latency.")
    bytes_per_s: SizeBytes = Field(32 * 2**20, gt=0, description="Bytes per second it holds at the SLA's latency.")
    cost: float = Field(1.0, gt=0, description="Price per hour in any unit; only the ratio between sizes matters.")
    cpus: float = Field(0.1, ge=0, description="CPUs that Ray reserves for it.")
    memory_bytes: SizeBytes = Field(256 * 2**20, gt=0, alias="memory", description="Memory that Ray reserves for it.")


class InstanceBounds(Section):
    """How many instances a region may have."""

    min: int = Field(1, ge=1, le=500, description="Never fewer than this many.")
    max: int = Field(4, ge=1, le=500, description="Never more than this many.")
    initial: int = Field(1, ge=1, le=500, description="This many when the region starts for the first time.")
    size: str = Field(
        "small",
        description="Size of the first instances, a key of `sizes`; another is taken when it costs less in the long "
        "run (`manager.choose_size`).",
    )

    @model_validator(mode="after")
    def _ordered(self) -> InstanceBounds:
        if not self.min <= self.initial <= self.max:
            raise ValueError(f"min ({self.min}) ≤ initial ({self.initial}) ≤ max ({self.max}) does not hold")
        return self


class ListenOptions(Section):
    """Where the instances of a region bind their data sockets."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to bind; 0.0.0.0 for all.")
    ports: FreePorts | None = Field(
        None,
        description="One stable port per instance from the lower half of this range, one for its links in the upper "
        "half; outside Ray's and the ephemeral ports. Without it: 500 ports per region from 24000 on, in the order of "
        "the file.",
    )
    peering: int | None = Field(
        None, ge=1, le=HIGHEST_PORT, description="Where the manager hears other regions; default: the last of `ports`."
    )


class AdvertiseOptions(Section):
    """What clients and other regions are told to connect to."""

    internal: str | None = Field(None, description="Host for peers of the same network; default: the node's address.")
    external: str | None = Field(None, description="Host for everybody else; default: the internal one.")
    ports: FreePorts | None = Field(
        None, description="External ports, if a NAT maps `listen.ports` to others (as many)."
    )


class RegionGatewayOptions(Section):
    """What is different in the gateway of a region that runs in a cluster of its own."""

    host: Annotated[str, AfterValidator(check_gateway_host)] | None = Field(
        None, description="Address to bind; default: `gateway.host`."
    )
    port: int | None = Field(None, ge=1, le=HIGHEST_PORT, description="Port to bind; default: `gateway.port`.")
    advertise: str | None = Field(
        None, pattern="^https?://.", description="URL for clients elsewhere; default: `http://` host and port."
    )


class RegionOptions(Section):
    """One service provider's location."""

    provider: str = Field("onprem", min_length=1, description="Service provider: aws, gcp, azure, onprem, …")
    location: str = Field("", description="Name of the place, for people.")
    latitude: float = Field(0.0, ge=-90, le=90, description="Degrees north; distance stands in for unmeasured latency.")
    longitude: float = Field(0.0, ge=-180, le=180, description="Degrees east.")
    cluster: str = Field(
        "local",
        min_length=1,
        description="Address of its Ray cluster, or `local`: a cluster on this machine, shared; or `elsewhere`: never "
        "started from this file, only known.",
    )
    public_key: PublicKey | None = Field(
        None,
        description="By it other regions know that they speak to this one (`fedbus region key` prints it); of a region "
        "whose data directory is on this machine it is read there.",
    )
    peering: Endpoint | None = Field(
        None,
        description="Address at which other regions reach its manager: tcp://host:port; default: the advertised (else "
        "listening) host and `listen.peering`.",
    )
    gateway: RegionGatewayOptions = Field(
        default_factory=RegionGatewayOptions, description="Its own gateway, if it runs in a cluster of its own."
    )
    node_labels: dict[str, str] = Field(
        default_factory=dict, description="Ray node labels that its nodes carry; empty: any node."
    )
    listen: ListenOptions = Field(default_factory=ListenOptions, description="Where instances bind.")
    advertise: AdvertiseOptions = Field(default_factory=AdvertiseOptions, description="What others connect to.")
    sizes: dict[str, InstanceSize] = Field(
        default_factory=lambda: {"small": InstanceSize()}, min_length=1, description="Instance sizes by name."
    )
    instances: InstanceBounds = Field(default_factory=InstanceBounds, description="How many instances.")
    replicas: Literal["auto"] | Annotated[int, Field(ge=1, le=5)] = Field(
        "auto",
        description="Copies of each ledger (R), on as many instances; auto: 2 if the region has two instances, else 1.",
    )
    min_copies: int = Field(
        1, ge=1, le=5, description="With fewer copies than this publishing is refused (503, to be tried again)."
    )
    takeover_after_ms: DurationMs = Field(
        5000,
        ge=1000,
        alias="takeover_after",
        description="An instance silent for so long loses its ledgers to the others that hold them.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> RegionOptions:
        if self.instances.size not in self.sizes:
            raise ValueError(f"instances.size {self.instances.size!r} is none of the sizes {', '.join(self.sizes)}")
        ports, mapped = self.listen.ports, self.advertise.ports
        if ports is not None and ports.size < 2 * self.instances.max + 1:
            raise ValueError(
                f"listen.ports {ports} has too few ports for instances.max ({self.instances.max}): an instance takes "
                f"two (clients, links) and the manager one; give {2 * self.instances.max + 1}, or lower instances.max"
            )
        if ports is not None and (bound := self.listen.peering) is not None and ports.first <= bound < ports.last:
            raise ValueError(
                f"listen.peering {bound} is one of the instances' ports {ports}: take another, or leave it out"
            )
        if mapped is not None and (ports is None or mapped.last - mapped.first != ports.last - ports.first):
            raise ValueError(f"advertise.ports {mapped} needs listen.ports with as many ports")
        copies = 2 if self.replicas == "auto" else self.replicas
        if self.is_elsewhere and (self.peering is None or self.public_key is None):
            raise ValueError("a region elsewhere needs `peering` and `public_key`: ask its `fedbus region key`")
        if self.min_copies > copies:
            raise ValueError(f"min_copies ({self.min_copies}) is more than the {copies} copies there are at most")
        return self

    @property
    def ports(self) -> PortRange:
        """All its ports; a loaded federation has given every region its range."""
        assert self.listen.ports is not None, "regions get their ports when the federation is validated"
        return self.listen.ports

    @property
    def instance_ports(self) -> PortRange:
        """The instances' ports for clients: the lower half."""
        return PortRange(self.ports.first, self.ports.first + self.ports.size // 2 - 1)

    def link_port(self, port: int) -> int:
        """Where the instance that listens on ``port`` hears the links of other regions: as far up in the upper half."""
        return port + self.ports.size // 2

    @property
    def peering_port(self) -> int:
        """Where its manager listens to other managers."""
        return self.listen.peering or self.ports.last

    def dial_host(self, node_address: str) -> str:
        """The host under which the region is reached if it runs on the node of that address."""
        if self.advertise.internal is not None:
            return self.advertise.internal
        return node_address if self.listen.host in EVERYWHERE else self.listen.host

    def external_endpoint(self, endpoint: str) -> str:
        """The endpoint (``tcp://host:port``) of an instance or its links, as one beyond the own network dials it."""
        if self.advertise.external is None:
            return endpoint
        host, port = self.advertise.external, int(endpoint.rpartition(":")[2])
        if self.advertise.ports is not None and self.ports.first <= port <= self.ports.last:
            port += self.advertise.ports.first - self.ports.first
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    def peering_address(self, node_address: str) -> str:
        """What other regions dial; ``node_address``: of its manager's node, if it listens on all addresses."""
        if self.peering is not None:
            return self.peering
        host = self.dial_host(node_address)
        bracketed = f"[{host}]" if ":" in host else host
        return self.external_endpoint(f"tcp://{bracketed}:{self.peering_port}")

    def size_of(self, name: str) -> InstanceSize:
        """The size of that name; the region's present one if the file does not name it any more."""
        return self.sizes.get(name, self.sizes[self.instances.size])

    def capacities(self) -> tuple[Capacity, ...]:
        """The sizes as the control plane knows them."""
        return tuple(
            Capacity(name, size.events_per_s, float(size.bytes_per_s), size.cost) for name, size in self.sizes.items()
        )

    def replication(self) -> Settings:
        """As the control plane knows it."""
        return Settings(
            replicas=AUTO if self.replicas == "auto" else self.replicas,
            min_copies=self.min_copies,
            takeover_ns=self.takeover_after_ms * 1_000_000,
        )

    @property
    def is_local(self) -> bool:
        """Whether it runs on a Ray cluster that is started for it on this machine."""
        return self.cluster == "local"

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is never started from this file."""
        return self.cluster == ELSEWHERE

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the instances."""
        return self.listen.host in LOOPBACK


def _meet(one: RegionOptions, other: RegionOptions) -> bool:
    """Whether they may listen on one address: the same host, or one of them on all."""
    hosts = {one.listen.host, other.listen.host}
    same = len(hosts) == 1 or hosts <= set(LOOPBACK) or any(host in EVERYWHERE for host in hosts)
    return same and one.cluster == other.cluster != ELSEWHERE


def with_ports(regions: dict[str, RegionOptions]) -> dict[str, RegionOptions]:
    """Give each region without ports the next free default range; ValueError if ranges on one cluster overlap."""
    for name, region in regions.items():
        for other, neighbour in regions.items():
            mine, theirs = region.listen.ports, neighbour.listen.ports
            if name < other and _meet(region, neighbour) and mine and theirs and mine.overlaps(theirs):
                raise ValueError(
                    f"{name} and {other} share ports ({mine} and {theirs}); give each its own listen.ports"
                )
    taken = [region.listen.ports for region in regions.values() if region.listen.ports]
    given: dict[str, RegionOptions] = {}
    for name, region in regions.items():
        if region.listen.ports:
            given[name] = region
            continue
        spare = (PortRange(at, at + PORTS_PER_REGION - 1) for at in range(FIRST_PORT, LAST_PORT, PORTS_PER_REGION))
        ports = next((ports for ports in spare if not any(ports.overlaps(other) for other in taken)), None)
        if ports is None:
            raise ValueError(f"{name}: no ports are left between {FIRST_PORT} and {LAST_PORT}; set listen.ports")
        taken.append(ports)
        listen = region.listen.model_copy(update={"ports": ports})
        given[name] = region.model_copy(update={"listen": listen})
    return given
