"""A small federation for tests of the client: a real instance per region, linked, and a manager that is the test."""

from pathlib import Path

from fedbus.broker import protocol as p
from fedbus.broker.effects import PeerFollow, PeerLink
from fedbus.broker.group_spec import GroupHome, GroupRecord, GroupSpec
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from fedbus_actors.region_keys import public_key

GROUP, FILTER = "g", "jobs"


class Regions:
    """Regions by name; each has one instance, whose ports stay when it is started again."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self._folder = folder
        self.names = names
        self.running: dict[str, BusInstance] = {}
        self._ports: dict[str, tuple[int, int]] = {}
        self.spec = GroupSpec(GROUP, [FILTER], p.EARLIEST, created_ns=1, home=GroupHome(names[0], tuple(names[1:]), 1))
        for name in names:
            self.start(name)
        self.introduce()

    def start(self, name: str) -> None:
        port, link_port = self._ports.get(name, (0, 0))
        directory = self._folder / name
        config = InstanceConfig(
            name, "b1", str(directory / "b1"), port=port, link_port=link_port, keys_directory=str(directory)
        )
        instance = self.running[name] = BusInstance(config)
        self._ports[name] = instance.port, instance.link_port

    def stop(self, name: str) -> None:
        self.running.pop(name).stop()

    def stop_all(self) -> None:
        for name in list(self.running):
            self.stop(name)

    def url(self, name: str) -> str:
        return f"tcp://127.0.0.1:{self._ports[name][0]}"

    def introduce(self) -> None:
        """What the managers say to all: who there is, what to pull, whom to follow, where the group is at home."""
        routes = [region_route(name, [InstanceRoute(f"{name}/b1", self.url(name))]) for name in self.names]
        keys = {name: public_key(self._folder / name) for name in self.names}
        ledgers = {name: instance.status().ledger for name, instance in self.running.items()}
        for name, instance in self.running.items():
            others = [each for each in self.names if each != name]
            links = {each: f"tcp://127.0.0.1:{self._ports[each][1]}" for each in others}
            instance.apply_peers({each: keys[each] for each in others})
            instance.apply_table(1, RoutingTable("f", name, 1, routes).encode())
            instance.apply_follows([PeerFollow(links[each], keys[each], (GROUP,)) for each in others])
            wants = [p.LinkFilter(FILTER, 0)]
            instance.apply_links(
                [PeerLink(ledgers[each], links[each], wants, keys[each]) for each in others if each in ledgers]
            )
            instance.apply_groups([GroupRecord(self.spec)])

    def move(self, home: str) -> None:
        """The group is at home there from now on."""
        standbys = tuple(name for name in self.names if name != home)
        term = self.spec.home.term + 1
        self.spec = GroupSpec(GROUP, [FILTER], p.EARLIEST, created_ns=1, home=GroupHome(home, standbys, term))
        for instance in self.running.values():
            instance.apply_groups([GroupRecord(self.spec)])

    def status(self, name: str):
        [status] = self.running[name].status().groups
        return status

    def shared(self, name: str) -> bool:
        """Whether everything settled there is durable everywhere."""
        return set(self.status(name).shared.values()) == {(0, 0)}
