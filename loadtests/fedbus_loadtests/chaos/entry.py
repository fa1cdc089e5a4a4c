"""One line of a history: what a process did, saw or was told, and when.

Times are of the machine's monotonic clock, which all processes of a run share, so that histories merge by time. An
operation is *invoked* before anything of it leaves the process, and ends as ``ok`` (done), ``fail`` (certainly not
done) or ``info`` (unknown; also what happened without being asked for). One that never ends is unknown too.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["invoke", "ok", "fail", "info"]
REGION_FAULTS = frozenset({"region", "cut", "one way"})  # faults that strike whole regions, their targets


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was done, to what, and how it ended.

    Operations of clients:

    - ``publish``: ``topic``, ``key``, ``producer`` (one name through all incarnations of its process), ``sequence``,
      ``id``, ``crc`` (CRC-32C of the data); ok with ``position`` and ``duplicate``. ``idempotent``: by a
      producer whose events count once in the region.
    - ``subscribe``: ``subscription`` (a group's name, or the stream's), ``topic`` (filters, joined by spaces),
      ``start``, ``live``; of a group in a mesh also ``target``, its home region.
    - ``deliver`` (ok): what a subscription was handed, with ``position`` and ``delivery``; ``dead`` (ok): a dead letter
      of ``subscription``, by ``id``.
    - ``ack``: ``subscription``, ``id``, ``position``; ok when it is durable (begun: only for what was
      given back before). ``nack`` (info): it was given back.

    And of the run itself, ``info`` all of them:

    - ``promise``: what it holds the bus to (``detail``, see ``promise.py``).
    - ``fault``, ``heal``: the nemesis did (``detail``) or ended something; ``fault`` is its kind, ``target`` whom.
    - ``damage``: the events ``[position, end)`` were damaged at ``target``; ``lose``: the copy of the ledger
      ``position`` at ``target`` is gone; ``report``: ``target`` reports damage in the ledger ``position``;
      ``expire``: the events ``[position, end)`` passed their retention.
    - ``close``: the ledger ``position`` was closed at offset ``end``.
    - ``gone``: the region ``target`` is lost, ``lag_ms`` is the recovery point it had published; ``back``: it is there
      again, with its disks. ``move``: the group ``subscription`` is moved to the home ``target`` (begun and ok).
    - ``forward`` (ok): in the end the place ``into`` of another region's ledger holds this event of ``position``.
    - ``store`` (ok): in the end the disk of ``target`` holds this event; ``copies``: the ledger ``position`` is to be
      whole at each of ``target`` (joined by spaces).
    """

    time_ns: int
    process: str
    kind: Kind
    operation: str
    topic: str = ""
    key: str = ""
    producer: str = ""
    sequence: int = 0
    id: str = ""
    crc: int = 0
    position: str = ""
    end: int = 0
    duplicate: bool = False
    idempotent: bool = False
    subscription: str = ""
    start: str = ""
    live: bool = False
    delivery: int = 0
    target: str = ""
    fault: str = ""
    into: str = ""
    lag_ms: int = 0
    detail: str = ""

    @property
    def ledger(self) -> str:
        """The ledger of its position."""
        return self.position.rpartition(":")[0]

    @property
    def offset(self) -> int:
        """The offset of its position."""
        return int(self.position.rpartition(":")[2])


_encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Entry).decode


def encode(entry: Entry) -> bytes:
    """Its line, with the line end."""
    return _encode(entry) + b"\n"


def writer_of(ledger: str) -> str:
    """``region/instance`` of a ledger's id."""
    return ledger.rpartition("/")[0]


def region_of(position: str) -> str:
    """The region in which a position or ledger was born."""
    return position.partition("/")[0]


def epoch_of(ledger: str) -> int:
    """The incarnation that a ledger's id names."""
    return int(ledger.rpartition("/")[2])
