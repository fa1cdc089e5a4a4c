"""Bus instances for tests: real ones in threads of this process, restartable on their port."""

from contextlib import ExitStack
from pathlib import Path

from fedbus.limits import DEFAULT, Limits
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus_actors.bus_instance import BusInstance, InstanceConfig

REGION = "local.plain"


class Instances:
    """Real bus instances on one data folder; ``stop`` and ``start`` keep port and data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: dict[str, BusInstance] = {}
        self._ports: dict[str, int] = {}

    def start(self, name: str = "b1", limits: Limits = DEFAULT) -> str:
        """Start (again); returns the endpoint."""
        config = InstanceConfig(REGION, name, str(self._folder / name), port=self._ports.get(name, 0), limits=limits)
        instance = self.running[name] = BusInstance(config)
        self._ports[name] = instance.port
        return self.endpoint(name)

    def stop(self, name: str = "b1") -> None:
        self.running.pop(name).stop()

    def stop_all(self) -> None:
        with ExitStack() as stack:
            for name in list(self.running):
                stack.callback(self.stop, name)

    def endpoint(self, name: str = "b1") -> str:
        return f"tcp://127.0.0.1:{self._ports[name]}"

    def apply_table(self, version: int, **states: str) -> RoutingTable:
        """Push a table of these instances (name → state) to all running ones."""
        routes = [InstanceRoute(f"{REGION}/{name}", self.endpoint(name), state) for name, state in states.items()]
        table = RoutingTable("f", REGION, version, [region_route(REGION, routes)])
        for instance in self.running.values():
            instance.apply_table(version, table.encode())
        return table
