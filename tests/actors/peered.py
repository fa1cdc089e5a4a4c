"""Regions that have nothing but their peering: over real sockets, without Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fedbus.broker.group_spec import GroupRecord
from fedbus.control.group_definitions import digest, merge
from fedbus.control.peer import PeeringSettings
from fedbus.control.summary import RegionAddress, RegionSummary
from fedbus.errors import NotFoundError
from fedbus_actors.peering import Peering
from fedbus_actors.peering_thread import PeeringConfig
from fedbus_actors.region_keys import KeyPair, new_key_pair
from tests.federation.waiting import until as wait_until

DEADLINE_S = 20.0
SETTINGS = PeeringSettings(
    interval_ns=50_000_000, lost_after_ns=2_000_000_000, suspicion_phi=1e9,  # a busy machine is no lost region
    redial_ns=600_000_000, exchange_ns=100_000_000,
)  # fmt: skip


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """What the condition says once it is true."""
    return wait_until(condition, DEADLINE_S, what, pause_s=0.01)


def summary(region: str, load_eps: float = 0.0) -> RegionSummary:
    """What a region says of itself."""
    return RegionSummary(region, 0, 1, 0.0, 0.0, load_eps, 0.0, 0.0, [], [])


class PeeredRegion:
    """A region and its peering (implements ``PeeringRegion``); ``kept``: what it has stored."""

    def __init__(self, name: str, port: int = 0, keys: KeyPair | None = None, generation: int = 1) -> None:
        self.name = name
        self.keys = keys or new_key_pair()
        self.port = port
        self.generation = generation
        self.load_eps = 0.0
        self.kept: dict[str, RegionAddress] = {}
        self.groups: dict[str, GroupRecord] = {}
        self.notes: list[str] = []
        self.asked: list[tuple[str, list[Any]]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.peering: Peering

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def address(self) -> RegionAddress:
        return RegionAddress(self.name, self.endpoint, self.keys.public, 0)

    def start(self, *known: RegionAddress) -> None:
        """A new incarnation; knows what it has stored, and these."""
        own = RegionAddress(self.name, self.endpoint, self.keys.public)
        config = PeeringConfig(
            own, "127.0.0.1", self.port, self.keys, [*self.kept.values(), *known], self.generation, SETTINGS
        )
        self.peering = Peering(config)
        self.peering.start(self, self)
        until(lambda: not self.peering.problem, self.peering.problem)

    def stop(self) -> None:
        self.peering.stop()
        self.generation += 1

    # -- what peering asks ---------------------------------------------------------------------------------------------

    def summary(self) -> RegionSummary | None:
        return summary(self.name, self.load_eps)

    def keep_member(self, address: RegionAddress) -> None:
        self.kept[address.region] = address

    def groups_heard(self, region: str, records: list[GroupRecord]) -> None:
        for record in records:
            known = self.groups.get(record.spec.name)
            self.groups[record.spec.name] = record if known is None else merge(known, record)

    def answer(self, method: str, arguments: list[Any]) -> Any:
        self.asked.append((method, arguments))
        self.hold.wait(DEADLINE_S)
        if method == "fail":
            raise NotFoundError(f"no {arguments[0]} here")
        if method == "break":
            raise RuntimeError("a bug")
        return {"region": self.name, "arguments": arguments}

    def note(self, kind: str, message: str) -> None:
        self.notes.append(message)

    # -- as the source of definitions ----------------------------------------------------------------------------------

    def records(self) -> list[GroupRecord]:
        return list(self.groups.values())

    def digest(self) -> str:
        return digest(self.records())
