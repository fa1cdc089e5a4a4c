"""The gateway's section, and what exists so far of security: nothing leaves this machine unless somebody says so."""

from __future__ import annotations

from pydantic import Field, field_validator

from fedbus.options.quantity import DurationMs
from fedbus.options.regions import EVERYWHERE, LOOPBACK, check_gateway_host
from fedbus.options.section import Section

RAY_PORTS = {6379: "Ray's head", 8265: "Ray's dashboard", 10001: "Ray's client server"}


class GatewayOptions(Section):
    """Where HTTP is served."""

    host: str = Field("127.0.0.1", description="Address to bind: 127.0.0.1, or 0.0.0.0 for all.")
    port: int = Field(8000, ge=1, le=65_535, description="Port to bind; one in use is an error that says so.")
    advertise: str | None = Field(
        None,
        pattern="^https?://.",
        description="URL for clients elsewhere; default: `http://`, host and port. Clients learn those of all regions.",
    )
    route_prefix: str = Field(
        "/", description="Path under which it is mounted, for a Ray Serve that serves others too."
    )
    publish_timeout_ms: DurationMs = Field(
        10_000, gt=0, alias="publish_timeout", description="A publish that is not durable by then is answered 503."
    )
    request_timeout_ms: DurationMs = Field(
        30_000, gt=0, alias="request_timeout", description="Any other request is answered by then."
    )

    @field_validator("host")
    @classmethod
    def _is_offered(cls, host: str) -> str:
        return check_gateway_host(host)

    @field_validator("port")
    @classmethod
    def _not_rays(cls, port: int) -> int:
        if port in RAY_PORTS:
            raise ValueError(f"{port} is the port of {RAY_PORTS[port]}; take another, such as 8000")
        return port

    @field_validator("route_prefix")
    @classmethod
    def _is_path(cls, prefix: str) -> str:
        if not prefix.startswith("/") or (prefix != "/" and prefix.endswith("/")):
            raise ValueError(f"{prefix!r}: a prefix starts with / and does not end with it, such as /bus")
        return prefix

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        """Where it answers on this machine."""
        return self._url("127.0.0.1" if self.host in EVERYWHERE else self.host)

    def url_for(self, host: str) -> str:
        """Where clients elsewhere reach it, if it listens on all addresses of ``host``."""
        return self.advertise or self._url(host if self.host in EVERYWHERE else self.host)

    def _url(self, host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{self.route_prefix.rstrip('/')}"


class SecurityOptions(Section):
    """Who may talk to the federation. Regions prove by keys who they are; clients, so far, are let in unencrypted."""

    allow_plaintext: bool = Field(
        False,
        description="Let clients in from beyond this machine although anybody there may read and publish everything.",
    )
