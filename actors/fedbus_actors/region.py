"""A region as its manager holds it: what it knows, and the parts it works with.

Shared by the tick, the watch, reports and changes; decides nothing itself.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from fedbus.clock import Clock, SystemClock
from fedbus.control.decision import Decision
from fedbus.control.expected import Expected
from fedbus.control.outlook import Outlook
from fedbus.control.sla import Sla
from fedbus.control.trigger import Trigger
from fedbus.options.federation import FederationOptions
from fedbus.options.regions import RegionOptions
from fedbus.routing.table import RoutingTable
from fedbus.storage.data_directory import RegionDirectory
from fedbus.storage.store import Store
from fedbus_actors import remote
from fedbus_actors.fleet import Fleet
from fedbus_actors.forecast_client import ForecastClient
from fedbus_actors.provisioner import RayProvisioner
from fedbus_actors.region_addresses import RegionAddresses
from fedbus_actors.region_capacity import RegionCapacity
from fedbus_actors.region_groups import RegionGroups
from fedbus_actors.region_keys import open_keys
from fedbus_actors.region_ledgers import LedgerKeeper
from fedbus_actors.region_links import RegionLinks
from fedbus_actors.region_load import RegionLoad
from fedbus_actors.region_peering import make_peering
from fedbus_actors.region_resources import RegionResources
from fedbus_actors.region_topics import RegionTopics

log = logging.getLogger(__name__)


class Region:
    """One region. Opening it takes the store's lease: an older manager of the same region can write no more."""

    def __init__(self, options: FederationOptions, name: str, clock: Clock) -> None:
        self.name = name
        self.options = options
        self.clock = clock
        self.real = SystemClock()
        directory = RegionDirectory(options.data.root / options.name / name)
        self.store = Store(directory.store_path, clock.now_ns(), options.limits)
        self.epoch = self.store.lease.take(name, f"pid {os.getpid()}", clock.now_ns())
        self._seed_store()
        provisioner = RayProvisioner(options.name, name, self.own_options, options.limits, Path(directory.path))
        self.ledgers = LedgerKeeper(self.store, self.own_options.replication(), self.real, self.note)
        self.fleet = Fleet(name, options, self.store, provisioner, clock, self.note, self.ledgers.unfinished_drain)
        node_address = remote.node_address()
        self.gateway_url = options.gateway_url(name, node_address)
        self.addresses = RegionAddresses(options, name, node_address)
        bind = self.own_options.listen.host, self.own_options.peering_port
        self.peering = make_peering(self.addresses, self.store, open_keys(directory.path), self.epoch, bind)
        self.links = RegionLinks(name, self.store, clock, self.real)
        self.topics = RegionTopics(self.store, self.fleet, options.topics, clock, self.note)
        self.groups = RegionGroups(
            name, self.store, self.fleet, options.limits, lambda: self.peering, options.groups.settings(), self.real,
            self.note,
        )  # fmt: skip
        self.load = RegionLoad(name, options.forecasting, self.store, clock)
        self.resources = RegionResources(name, options.forecasting.slot_s, self.store, clock)
        self.forecasts = ForecastClient(options.name, name, options.forecasting, self.store, clock)
        self.outlook = Outlook(name)
        self.table: RoutingTable | None = None
        self.capacity_eps = 0.0
        self.required_eps: float | None = None
        self.explanation = ""
        self.expected: tuple[Expected, ...] = ()
        """What triggers make one expect, as the last plan saw it."""
        self.decision: Decision | None = None  # the plan's last one, as data
        self.capacity = RegionCapacity(name, self.store, clock.now_ns())
        self.note("manager", f"manager of {name} acts under epoch {self.epoch}")

    @property
    def own_options(self) -> RegionOptions:
        """Its section of the federation file."""
        return self.options.regions[self.name]

    def _seed_store(self) -> None:
        now_ns = self.clock.now_ns()
        self.store.slas.add_missing({sla.filter: sla.sla() for sla in self.options.slas}, now_ns)
        self.store.triggers.add_missing({each.name: each.trigger() for each in self.options.triggers}, now_ns)

    def slas(self) -> tuple[Sla, ...]:
        """The SLAs in force."""
        return tuple(each.body for each in self.store.slas.all())

    def triggers(self) -> tuple[Trigger, ...]:
        """The triggers known."""
        return tuple(each.body for each in self.store.triggers.all())

    def note(self, kind: str, message: str) -> None:
        """Write a line to the region's status log."""
        log.info("%s: %s", self.name, message)
        self.store.status_log.append(self.name, kind, message, self.clock.now_ns())

    @property
    def superseded(self) -> bool:
        """Whether a newer manager has taken the lease."""
        current = self.store.lease.current(self.name)
        return current is not None and current.epoch != self.epoch
