"""What an instance remembers beyond events, as record bodies: snapshots, acknowledgements, groups, link progress.

The state of an instance is the fold of these records from the newest snapshot on (see ``broker/recovery.py``).
"""

from __future__ import annotations

import msgspec

from fedbus.broker.dedup import DedupState
from fedbus.broker.protocol import Settled, Start


class GroupSpec(msgspec.Struct, frozen=True, array_like=True):
    """A subscription's definition, recorded when first seen. ``tails``: per origin ledger, where ``latest`` began."""

    name: str
    filters: list[str]
    start: Start
    ack_deadline_ms: int = 30_000
    max_deliveries: int = 0
    tails: dict[str, int] = {}


class GroupRecord(msgspec.Struct, frozen=True, array_like=True):
    """Body of a GROUP record."""

    spec: GroupSpec
    deleted: bool = False


class GroupSettled(msgspec.Struct, frozen=True, array_like=True):
    """Acknowledgements of one group (body of a SETTLED record: a list of these)."""

    group: str
    settled: list[Settled]


class GroupState(msgspec.Struct, frozen=True, array_like=True):
    """A group in a snapshot. ``low``: per local ledger the offset below which everything is settled."""

    spec: GroupSpec
    settled: list[Settled]
    low: dict[str, int]


class LinkScanned(msgspec.Struct, frozen=True, array_like=True):
    """How far an origin ledger was forwarded, per filter (body of a SCANNED record: a list of these)."""

    ledger: str
    scanned_to: dict[str, int]


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """Body of a SNAPSHOT record: everything that later records do not repeat."""

    producers: DedupState = DedupState()
    groups: list[GroupState] = []
    links: list[LinkScanned] = []


snapshot_decoder = msgspec.msgpack.Decoder(Snapshot)
settled_decoder = msgspec.msgpack.Decoder(list[GroupSettled])
group_decoder = msgspec.msgpack.Decoder(GroupRecord)
scanned_decoder = msgspec.msgpack.Decoder(list[LinkScanned])
