"""The whole federation file as one tree: what may stand in it, what it means, what it is by default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import platformdirs
from pydantic import Field, PlainSerializer, PlainValidator, field_validator, model_validator
from pydantic_core import PydanticCustomError

from fedbus.limits import Limits, broken_relations
from fedbus.options.control import ForecastingOptions, HealthOptions, ManagerOptions, SlaOptions
from fedbus.options.gateway import GatewayOptions, SecurityOptions
from fedbus.options.mesh import GroupsOptions, PeeringOptions, RegistryOptions
from fedbus.options.regions import REGION_ID, RegionOptions, with_ports
from fedbus.options.section import Section
from fedbus.options.topics import TopicsOptions
from fedbus.options.trigger import TriggerOptions, check_distinct
from fedbus.quantity import format_duration, format_size, parse_duration_ms, parse_size_bytes

FEDERATION_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
UNKNOWN_KEY = "extra_forbidden"  # pydantic's own type for it, so that all unknown keys are reported alike


def _limit(name: str, written: Any) -> int:
    """One limit as written; its unit is the last word of its name."""
    if name.endswith("_bytes") and isinstance(written, str):
        return parse_size_bytes(written)
    if name.endswith("_ms") and isinstance(written, str):
        return parse_duration_ms(written)
    if isinstance(written, str) and written.isdecimal():
        written = int(written)
    if not isinstance(written, int) or isinstance(written, bool) or written < 1:
        raise ValueError(f"{written!r} is no limit; write a whole number of at least 1")
    return written


def parse_limits(written: Any) -> Limits:
    """The table of limits with the overrides of the file."""
    if isinstance(written, Limits):
        return written
    if not isinstance(written, Mapping):
        raise PydanticCustomError("limit", "{reason}", {"reason": "is a mapping of names to values"})
    values: dict[str, int] = {}
    for name, value in written.items():
        if name not in Limits.__struct_fields__:
            raise PydanticCustomError(UNKNOWN_KEY, "unknown key", {"key": name})
        try:
            values[name] = _limit(name, value)
        except ValueError as error:
            raise PydanticCustomError("limit", "{reason}", {"key": name, "reason": str(error)}) from None
    limits = Limits(**values)
    if broken := broken_relations(limits):
        raise ValueError("; ".join(broken))
    return limits


def written_limits(limits: Limits) -> dict[str, int | str]:
    """The overrides as people write them."""
    default = Limits()
    changed = {name: value for name, value in msgspec.structs.asdict(limits).items() if value != getattr(default, name)}
    return {
        name: format_size(value)
        if name.endswith("_bytes")
        else format_duration(value)
        if name.endswith("_ms")
        else value
        for name, value in changed.items()
    }


class DataOptions(Section):
    """Where ledgers and stores live."""

    directory: Path | None = Field(None, description="Data directory; default: `fedbus` in the XDG data folder.")

    @property
    def root(self) -> Path:
        """The directory, absolute."""
        chosen = self.directory or Path(platformdirs.user_data_dir("fedbus", appauthor=False))
        return chosen.expanduser().absolute()


class FederationOptions(Section):
    """A federation: regions that know one another, and how it runs."""

    name: str = Field("local", description="Name of the federation: a-z, 0-9 and -, at most 63 characters.")
    regions: dict[str, RegionOptions] = Field(
        default_factory=lambda: {name: RegionOptions.model_validate(region) for name, region in LOCAL_REGIONS.items()},
        min_length=1,
        validate_default=True,
        description="Regions by id, such as aws.us-east-1.",
    )
    gateway: GatewayOptions = Field(default_factory=GatewayOptions, description="HTTP.")
    peering: PeeringOptions = Field(default_factory=PeeringOptions, description="How regions keep in touch.")
    groups: GroupsOptions = Field(default_factory=GroupsOptions, description="Homes of durable groups.")
    registry: RegistryOptions = Field(default_factory=RegistryOptions, description="The schema registry.")
    topics: TopicsOptions = Field(default_factory=TopicsOptions, description="Topics and their policies.")
    slas: tuple[SlaOptions, ...] = Field(
        (SlaOptions(filter=">"),), description="What is promised, by filter; added to the store when it is new."
    )
    triggers: tuple[TriggerOptions, ...] = Field((), description="Events known ahead: campaigns, scheduled tasks.")
    forecasting: ForecastingOptions = Field(default_factory=ForecastingOptions, description="Load prediction.")
    manager: ManagerOptions = Field(default_factory=ManagerOptions, description="The control loop of each region.")
    health: HealthOptions = Field(default_factory=HealthOptions, description="The health monitor.")
    security: SecurityOptions = Field(default_factory=SecurityOptions, description="Who may talk to the federation.")
    data: DataOptions = Field(default_factory=DataOptions, description="The data directory.")
    limits: Annotated[Limits, PlainValidator(parse_limits), PlainSerializer(written_limits)] = Field(
        default_factory=Limits, description="Limits and queue bounds that differ from their defaults."
    )

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if FEDERATION_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no federation name; use a-z, 0-9 and -, at most 63 characters")
        return name

    @field_validator("regions")
    @classmethod
    def _known_regions(cls, regions: dict[str, RegionOptions]) -> dict[str, RegionOptions]:
        for region in regions:
            if REGION_ID.fullmatch(region) is None or ".." in region:
                raise PydanticCustomError(
                    "region_id",
                    "{key} is no region id; use a-z, 0-9, - and single dots, 2 to 63 characters, such as aws.us-east-1",
                    {"key": region},
                )
        return with_ports(regions)

    @model_validator(mode="after")
    def _consistent(self) -> FederationOptions:
        for trigger in self.triggers:
            if trigger.region is not None and trigger.region not in self.regions:
                raise ValueError(f"trigger {trigger.name!r} names the unknown region {trigger.region}")
        check_distinct(self.triggers)
        filters = [sla.filter for sla in self.slas]
        if twice := {name for name in filters if filters.count(name) > 1}:
            raise ValueError(f"sla filter {min(twice)!r} is there twice")
        here = {name: region for name, region in self.regions.items() if not region.is_elsewhere}
        gateways = [self.gateway_of(name) for name in here] or [self.gateway]
        exposed = [name for name, region in here.items() if not region.is_loopback]
        exposed += ["gateway"] if not all(gateway.is_loopback for gateway in gateways) else []
        if exposed and not self.security.allow_plaintext:
            raise ValueError(
                f"{exposed[0]} listens beyond this machine; regions prove by keys who they are, but clients are let in "
                "unencrypted, whoever they are: listen on 127.0.0.1, or accept that with security.allow_plaintext: true"
            )
        for name, region in here.items():
            port = self.gateway_of(name).port
            if region.ports.first <= port <= region.ports.last:
                raise ValueError(f"gateway.port {port} is one of the ports of region {name}")
        return self

    @property
    def startable(self) -> tuple[str, ...]:
        """The regions that `fedbus up` starts if none is named."""
        return tuple(name for name, region in self.regions.items() if not region.is_elsewhere)

    @property
    def schema_home(self) -> str:
        """The region whose store holds the schemas."""
        return self.registry.home or next(iter(self.regions))

    def gateway_of(self, region: str) -> GatewayOptions:
        """The gateway of a region that runs on its own."""
        own = {name: value for name, value in self.regions[region].gateway if value is not None}
        return self.gateway.model_copy(update=own)

    def gateway_url(self, region: str, node_address: str) -> str:
        """Where clients reach that gateway; ``node_address``: of its node, if it listens on all addresses."""
        return self.gateway_of(region).url_for(self.regions[region].dial_host(node_address))


LOCAL_REGIONS: dict[str, dict[str, Any]] = {
    "aws.us-east-1": {
        "provider": "aws",
        "location": "Ashburn, Virginia",
        "latitude": 39.0438,
        "longitude": -77.4874,
    },
    "gcp.europe-west1": {
        "provider": "gcp",
        "location": "Saint-Ghislain, Belgium",
        "latitude": 50.4542,
        "longitude": 3.8187,
    },
    "onprem.berlin": {
        "provider": "onprem",
        "location": "Berlin",
        "latitude": 52.52,
        "longitude": 13.405,
    },
}
