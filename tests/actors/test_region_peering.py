"""A manager's side of peering: calls it relays, what it tells people, and who an operator adds and removes."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedbus.clock import SystemClock
from fedbus.control.sla import Sla
from fedbus.errors import ConflictError, InvalidEventError, NotFoundError
from fedbus.options.federation import FederationOptions
from fedbus.storage.data_directory import RegionDirectory
from fedbus.storage.store import Store
from fedbus_actors.region_addresses import RegionAddresses
from fedbus_actors.region_keys import new_key_pair, open_keys
from fedbus_actors.region_peering import RegionPeering, make_peering, membership_changes
from tests.actors.peered import summary, until

NAMES = ("here.a", "here.b")


class NoGroups:
    def records(self) -> list[Any]:
        return []

    def digest(self) -> str:
        return ""


class ManagedPeering:
    """A region's store, peering and what its manager would answer."""

    def __init__(self, options: FederationOptions, name: str, port: int) -> None:
        self.name, self.options, self.real, self.clock = name, options, SystemClock(), SystemClock()
        directory = RegionDirectory(options.data.root / options.name / name)
        self.store = Store(directory.store_path, 1)
        self.epoch = self.store.lease.take(name, "test", 1)
        self.gateway_url = f"http://{name}"
        self.groups = SimpleNamespace(heard=lambda *_: None)
        self.addresses = RegionAddresses(options, name, "127.0.0.1")
        bind = "127.0.0.1", port
        self.peering = make_peering(self.addresses, self.store, open_keys(directory.path), self.epoch, bind)
        self.notes: list[str] = []
        self.slas: dict[str, Sla] = {}
        methods = {"read": self.read, "change": self.change}
        self.side = RegionPeering(self, lambda: summary(name), methods)  # type: ignore[arg-type]
        self.peering.start(self.side, NoGroups())

    def note(self, _: str, message: str) -> None:
        self.notes.append(message)

    def read(self, resource: str) -> list[dict[str, Any]]:
        if resource != "slas":
            raise NotFoundError(f"no {resource}")
        return [{"filter": each} for each in self.slas]

    def change(self, _: str, name: str, value: Sla) -> dict[str, Any]:
        self.slas[name] = value
        return {}

    def stop(self) -> None:
        self.peering.stop()
        self.store.close()


def free_ports() -> int:
    """The first of three that are free and no ephemeral ones."""
    for first in range(20_000, 29_000, 10):
        try:
            for port in range(first, first + 10):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no ports are free")


@pytest.fixture
def options(tmp_path: Path) -> FederationOptions:
    first = free_ports()
    ports = {name: f"{first + 5 * place}-{first + 5 * place + 4}" for place, name in enumerate(NAMES)}
    return FederationOptions.model_validate(
        {
            "name": "f",
            "data": {"directory": str(tmp_path)},
            "gateway": {"port": 31_500},
            "peering": {"interval": "50ms", "lost_after": "2s"},
            "regions": {
                name: {"listen": {"ports": given}, "instances": {"min": 1, "max": 2, "initial": 1}}
                for name, given in ports.items()
            },
        }
    )


@pytest.fixture
def regions(options: FederationOptions) -> Iterator[list[ManagedPeering]]:
    made = [ManagedPeering(options, name, options.regions[name].peering_port) for name in NAMES]
    yield made
    for region in made:
        region.stop()


def state(region: ManagedPeering, of: str) -> str:
    return next(str(each["state"]) for each in region.side.peers() if each["region"] == of)


def find_one_another(a: ManagedPeering, b: ManagedPeering) -> None:
    """The first started when the second had no key yet: it looks again."""

    def found() -> bool:
        for region in (a, b):
            region.side.step()
        return state(a, "here.b") == state(b, "here.a") == "healthy"

    until(found, f"{a.notes} {b.notes}")


def test_regions_of_one_machine_need_no_configuration_to_know_and_ask_one_another(
    regions: list[ManagedPeering],
) -> None:
    a, b = regions
    assert state(a, "here.b") == "waiting"
    find_one_another(a, b)
    assert a.side.relay("here.b", "change", "put_sla", "x.>", Sla(filter="x.>")) == {}
    assert b.slas == {"x.>": Sla(filter="x.>")}
    assert a.side.relay("here.b", "read", "slas") == [{"filter": "x.>"}]
    assert a.side.relay("here.a", "read", "slas") == []
    with pytest.raises(NotFoundError, match="no coffee"):
        a.side.relay("here.b", "read", "coffee")


def test_people_are_told_who_is_there_and_how_far_away(regions: list[ManagedPeering]) -> None:
    a, b = regions
    find_one_another(a, b)
    own, other = a.side.peers()
    assert (own["state"], own["generation"], own["gateway"]) == ("self", 1, "http://here.a")
    assert other["round_trip_ms"] is not None
    assert other["public_key"] == b.peering.own_keys.public
    assert other["lost_for_s"] is None
    until(lambda: "region here.b answers" in a.notes)


def test_who_was_removed_stays_so_for_the_next_manager(regions: list[ManagedPeering]) -> None:
    a, b = regions
    find_one_another(a, b)
    given_away: list[str] = []
    changes = membership_changes(a.peering, given_away.append)
    changes["remove_region"]("here.b", None)
    assert given_away == ["here.b"]
    assert state(a, "here.b") == "left"
    until(lambda: (found := a.store.members.find("here.b")) is not None and found.body.left)
    until(lambda: state(b, "here.b") == "left")
    again = make_peering(a.addresses, a.store, a.peering.own_keys, 2, ("127.0.0.1", 0))
    assert {each.region: each.left for each in again.members()} == {"here.a": False, "here.b": True}


def test_what_an_operator_adds_has_a_key_of_its_own(regions: list[ManagedPeering]) -> None:
    changes = membership_changes(regions[0].peering, lambda _: None)
    where = {"endpoint": "tcp://127.0.0.1:9", "public_key": new_key_pair().public}
    assert changes["add_region"]("far.c", where) == {"region": "far.c", "endpoint": "tcp://127.0.0.1:9"}
    until(lambda: state(regions[0], "far.c") == "waiting")
    with pytest.raises(ConflictError, match="is that of far"):
        changes["add_region"]("far.d", where)
    with pytest.raises(InvalidEventError, match="no public key"):
        changes["add_region"]("far.d", where | {"public_key": "short"})
