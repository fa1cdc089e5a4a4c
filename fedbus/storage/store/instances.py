"""The registry of bus instances: who exists, where, on which port, with which directory, in which incarnation."""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa

from fedbus.errors import EnvironmentUnusableError
from fedbus.storage.store.database import Database, metadata, next_number
from fedbus.storage.store.records import Records

# starting: ordered, its actor may not run yet · serving: takes events · draining: takes no new ones ·
# stopped: drained and gone, its directory stays · lost: gone with its machine, its ledgers live on in their copies
Lifecycle = Literal["starting", "serving", "draining", "stopped", "lost"]
LIVING: tuple[Lifecycle, ...] = ("starting", "serving", "draining")

_instances = sa.Table(
    "instances",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("region", sa.String(64), nullable=False),
    sa.Column("size", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("node", sa.String(128), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("directory_uuid", sa.String(32), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("updated_ns", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One bus instance. ``node``, ``host``, ``directory_uuid`` are empty until reported; ``epoch`` 0: it never ran."""

    id: str
    region: str
    size: str
    state: Lifecycle
    port: int
    node: str = ""
    host: str = ""
    directory_uuid: str = ""
    epoch: int = 0
    created_ns: int
    updated_ns: int
    version: int = 1

    @property
    def endpoint(self) -> str:
        """Its data socket."""
        return f"tcp://{self.host}:{self.port}"


class Instances(Records[Instance]):
    """The registry; changed by :meth:`Records.swap` with the record as it was read."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, _instances, Instance)

    def create(self, region: str, size: str, ports: tuple[int, int], now_ns: int, *, node: str = "") -> Instance:
        """Register a new instance, starting: an id never used before, the lowest port (first, last) no living one has.

        Raises EnvironmentUnusableError if no port is free.
        """
        with self._database.writing() as connection:
            used = sa.select(_instances.c.port).where(_instances.c.region == region, _instances.c.state.in_(LIVING))
            taken = set(connection.execute(used).scalars())
            port = next((port for port in range(ports[0], ports[1] + 1) if port not in taken), None)
            if port is None:
                raise EnvironmentUnusableError(
                    f"region {region}: all ports {ports[0]}-{ports[1]} are given out; widen its listen.ports"
                )
            instance = Instance(
                id=f"b{next_number(connection, 'instances')}",
                region=region,
                size=size,
                state="starting",
                port=port,
                node=node,
                created_ns=now_ns,
                updated_ns=now_ns,
            )
            self._add(connection, instance)
        return instance

    def living(self, region: str) -> list[Instance]:
        """Instances that run or should."""
        return [instance for instance in self.all(region=region) if instance.state in LIVING]
