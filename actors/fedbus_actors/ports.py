"""Ports: whether those that a federation needs on this machine can be had, before anything is started."""

from __future__ import annotations

import socket

from fedbus.errors import EnvironmentUnusableError
from fedbus.options.federation import FederationOptions


def check_ports(options: FederationOptions) -> None:
    """Raise :class:`EnvironmentUnusableError` naming the first port that cannot be bound and how to choose another."""
    gateway = options.gateway
    wanted = [(gateway.host, gateway.port, "the gateway", "gateway.port (or FEDBUS_GATEWAY__PORT)")]
    for name, region in options.regions.items():
        ports = range(region.ports.first, region.ports.first + region.instances.max) if region.is_local else ()
        wanted += [(region.listen.host, port, f"instances of {name}", f"regions.{name}.listen.ports") for port in ports]
    for host, port, what, remedy in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise EnvironmentUnusableError(
                    f"port {port} on {host}, for {what}, cannot be used ({error.strerror}): "
                    f"stop what uses it, or choose another with {remedy}"
                ) from None
