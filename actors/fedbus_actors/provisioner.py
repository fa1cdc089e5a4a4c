"""Provisioning: starting and ending the actors of bus instances. Nodes come from Ray's autoscaler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from fedbus.limits import Limits
from fedbus.options.regions import RegionOptions
from fedbus.storage.store import Instance
from fedbus_actors import remote
from fedbus_actors.bus_instance import InstanceConfig
from fedbus_actors.region_keys import public_key


class Provisioner(Protocol):
    """What the fleet needs of whoever provides instances."""

    def place(self, taken: Iterable[str]) -> remote.Node | None:
        """The node for another instance, given the hosts of the present ones; ``None``: nowhere yet."""
        ...

    def start(self, instance: Instance) -> Any:
        """Start (or find) an instance on its node; the actor's handle at once, ``None`` while its node is away."""
        ...

    def end(self, instance: str) -> None:
        """End an instance's actor for good; its directory stays."""
        ...

    def kill(self, instance: Instance, pid: int) -> bool:
        """Kill a process of it that does not answer, if its node can be reached; it is started anew there."""
        ...


class RayProvisioner:
    """Instances as detached Ray actors, each pinned to a node that carries the region's labels."""

    def __init__(self, federation: str, region: str, options: RegionOptions, limits: Limits, directory: Path) -> None:
        self._federation = federation
        self._region = region
        self._options = options
        self._limits = limits
        self._directory = directory

    def place(self, taken: Iterable[str]) -> remote.Node | None:
        """The node of the region with the fewest instances."""
        counts = Counter(taken)
        nodes = remote.region_nodes(self._options.node_labels)
        return min(nodes, key=lambda node: (counts[node.host], node), default=None)

    def start(self, instance: Instance) -> Any:
        """Start (or find) its actor where its directory is, and nowhere else."""
        node = self._node(instance)
        if node is None:
            return None
        size = self._options.size_of(instance.size)
        config = InstanceConfig(
            region=self._region,
            instance=instance.id,
            directory=self._path(instance.id),
            host=self._options.listen.host,
            port=instance.port,
            limits=self._limits,
            managed=True,
            keys_directory=str(self._directory),
            link_key=public_key(self._directory),
            link_port=self._options.link_port(instance.port),
        )
        return remote.start_instance(
            self._federation, config, node=node.id, cpus=size.cpus, memory_bytes=size.memory_bytes
        )

    def end(self, instance: str) -> None:
        """Kill its actor."""
        remote.end(remote.instance_name(self._federation, self._region, instance))

    def kill(self, instance: Instance, pid: int) -> bool:
        """Have a process on its node kill it; whether there is such a node."""
        node = self._node(instance)
        if node is not None:
            remote.kill_process(node.id, self._path(instance.id), pid)
        return node is not None

    def _node(self, instance: Instance) -> remote.Node | None:
        nodes = remote.region_nodes(self._options.node_labels)
        return next((node for node in nodes if node.host == instance.node), None)

    def _path(self, instance: str) -> str:
        return str(self._directory / "instances" / instance)
