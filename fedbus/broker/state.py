"""What an instance remembers beyond events, as record bodies: snapshots, acknowledgements, groups, link progress.

The state of an instance is the fold of these records from the newest snapshot on (see ``broker/recovery.py``).
"""

from __future__ import annotations

import msgspec

from fedbus.broker.dedup import DedupState
from fedbus.broker.geo_batches import GeoState
from fedbus.broker.group_spec import GroupRecord, GroupSpec
from fedbus.broker.protocol import Settled, Try
from fedbus.broker.seen_ids import SeenState
from fedbus.broker.settled import GroupSettled
from fedbus.broker.withheld import Resolved, WithheldState


class GroupState(msgspec.Struct, frozen=True, array_like=True):
    """A group in a snapshot. ``low``: per local ledger the offset below which everything is settled."""

    spec: GroupSpec
    settled: list[Settled]
    low: dict[str, int]


class LinkScanned(msgspec.Struct, frozen=True, array_like=True):
    """How far an origin ledger was forwarded, per filter (body of a SCANNED record: a list of these)."""

    ledger: str
    scanned_to: dict[str, int]


class GroupExpired(msgspec.Struct, frozen=True, array_like=True):
    """Events a group had not settled when their ledger was dropped (body of an EXPIRED record: a list of these).

    ``ranges``: offsets per origin ledger, in which there were at most ``events`` for this group; ``time_ms``: when.
    """

    group: str
    ledger: str
    events: int
    ranges: list[Settled]
    time_ms: int


class GroupLoss(msgspec.Struct, frozen=True, array_like=True):
    """All that one group has lost to retention; ``recent``: the newest of its expiries."""

    group: str
    events: int
    recent: list[GroupExpired]


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """Body of a SNAPSHOT record: everything that later records do not repeat."""

    producers: DedupState = DedupState()
    groups: list[GroupState] = []
    links: list[LinkScanned] = []
    expired: list[GroupLoss] = []
    deleted: dict[str, int] = {}  # groups, with the newest created_ns of that name that was deleted
    withheld: WithheldState = WithheldState()
    seen: SeenState = SeenState()
    without: list[str] = []  # ledgers of this dispatcher that could not be had yet: what they say is not in here
    geo: GeoState = GeoState()


snapshot_decoder = msgspec.msgpack.Decoder(Snapshot)
settled_decoder = msgspec.msgpack.Decoder(list[GroupSettled])
group_decoder = msgspec.msgpack.Decoder(GroupRecord)
scanned_decoder = msgspec.msgpack.Decoder(list[LinkScanned])
rejected_decoder = msgspec.msgpack.Decoder(list[Try])
released_decoder = msgspec.msgpack.Decoder(list[Settled])
resolved_decoder = msgspec.msgpack.Decoder(list[Resolved])
expired_decoder = msgspec.msgpack.Decoder(list[GroupExpired])
