"""Ports: whether those that a federation needs on this machine can be had, before anything is started."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from fedbus.errors import EnvironmentUnusableError
from fedbus.options.federation import FederationOptions


def wanted_ports(options: FederationOptions, regions: Sequence[str]) -> list[tuple[str, int, str, str]]:
    """What a start of these regions binds on this machine: host, port, for what, and the key that chooses another."""
    gateway = options.gateway_of(regions[0])
    own = options.regions[regions[0]].gateway.port is not None
    key = f"regions.{regions[0]}.gateway.port" if own else "gateway.port (or FEDBUS_GATEWAY__PORT)"
    wanted = [(gateway.host, gateway.port, "the gateway", key)]
    for name in regions:
        region = options.regions[name]
        if not region.is_local:
            continue
        first = region.instance_ports.first
        instances = range(first, first + region.instances.max)
        ports = f"regions.{name}.listen.ports"
        wanted += [(region.listen.host, port, f"instances of {name}", ports) for port in instances]
        wanted += [(region.listen.host, region.link_port(port), f"links of {name}", ports) for port in instances]
        wanted.append((region.listen.host, region.peering_port, f"peering of {name}", f"regions.{name}.listen.peering"))
    return wanted


def check_ports(options: FederationOptions, regions: Sequence[str]) -> None:
    """Raise :class:`EnvironmentUnusableError` naming the first port that cannot be bound and how to choose another."""
    for host, port, what, remedy in wanted_ports(options, regions):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise EnvironmentUnusableError(
                    f"port {port} on {host}, for {what}, cannot be used ({error.strerror}): "
                    f"stop what uses it, or choose another with {remedy}"
                ) from None
