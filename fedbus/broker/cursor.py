"""Cursors: from which local offset a subscription scans each ledger of an instance, and what it has had before.

A start names origin positions; scanning goes over this instance's own ledgers, which also hold linked events. So a
cursor is both: local positions to scan from, and per origin ledger the offset below which events were seen already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.ledger import Ledgers
from fedbus.broker.protocol import Start
from fedbus.broker.stored import Stored
from fedbus.errors import InvalidPositionError
from fedbus.position import LedgerId
from fedbus.topic import FilterSet


class Cursor:
    """Scan positions over the local ledgers. ``seen``: origin ledger → offset below which nothing is wanted."""

    __slots__ = ("not_before_ms", "positions", "seen")

    def __init__(self, positions: dict[str, int], seen: dict[str, int], not_before_ms: int = 0) -> None:
        self.positions = positions
        self.seen = seen
        self.not_before_ms = not_before_ms

    @classmethod
    def starting(cls, start: Start, ledgers: Ledgers) -> Cursor:
        """A cursor where ``start`` says; raises :class:`InvalidPositionError` on what is no start."""
        names = ledgers.names()
        if start.kind == "latest":
            return cls({name: ledgers.end(name) for name in names}, {})
        if start.kind in ("earliest", "time"):
            return cls(dict.fromkeys(names, 0), {}, start.time_ms)
        if start.kind == "cursor":
            return cls(_cursor_positions(start.cursor, ledgers), dict(start.cursor))
        raise InvalidPositionError(f"start {start.kind!r} is not one of earliest, latest, time, cursor")

    @classmethod
    def of_group(cls, spec: GroupSpec, ledgers: Ledgers) -> Cursor:
        """Where a group begins: ``latest`` is where it was made, and all of what is younger."""
        if spec.start.kind == "latest":
            return cls(_cursor_positions(spec.tails, ledgers), dict(spec.tails))
        return cls.starting(spec.start, ledgers)

    def behind(self, ledgers: Ledgers) -> Iterable[str]:
        """Ledgers with confirmed events beyond the scan position; finished closed ones are forgotten on the way.

        The ledgers of one instance come one after the other: a later one only once the one before is scanned to its
        end. Else a cursor that names the later one would pass for having finished the earlier.
        """
        unfinished: set[str] = set()
        for name in list(self.positions):
            instance = name.rpartition("/")[0]
            if instance in unfinished:
                continue
            if self.positions[name] < ledgers.end(name):
                yield name
            if self.positions[name] < ledgers.end(name):
                unfinished.add(instance)
            elif name != ledgers.current:
                del self.positions[name]

    def position(self, ledger: str, ledgers: Ledgers) -> int:
        """How far a ledger was scanned (a finished closed one: to its end)."""
        return self.positions.get(ledger, ledgers.end(ledger))

    def wanted(self, stored: Stored, filters: FilterSet) -> Sequence[int]:
        """The places of a batch that the filters take and that were not had before, from the scan position on."""
        if stored.time_ms < self.not_before_ms:
            return ()
        batch = stored.batch
        first = max(0, self.positions[stored.ledger] - stored.first_offset)
        takes = [filters.matches(topic) for topic in batch.topics]
        places: Sequence[int]
        if all(takes):
            places = range(first, batch.count)
        elif any(takes):
            topic_of = batch.topic_of
            places = [place for place in range(first, batch.count) if takes[topic_of[place]]]
        else:
            return ()
        had = self.seen.get(stored.origin_ledger, 0)
        if had > stored.scanned_from:
            offsets = stored.offsets
            places = [place for place in places if offsets[place] >= had]
        return places


def _cursor_positions(cursor: dict[str, int], ledgers: Ledgers) -> dict[str, int]:
    """An older incarnation of an instance whose newer ledger the cursor names was finished; an unknown one is younger.

    Raises :class:`InvalidPositionError` if the cursor names what is no position.
    """
    if any(offset < 0 for offset in cursor.values()):
        raise InvalidPositionError("a cursor holds a negative offset")
    newest: dict[tuple[str, str], int] = {}
    for named in map(LedgerId.parse, cursor):
        newest[named.region, named.instance] = max(named.epoch, newest.get((named.region, named.instance), 0))
    positions: dict[str, int] = {}
    for name in ledgers.names():
        own = LedgerId.parse(name)
        finished = newest.get((own.region, own.instance), -1) > own.epoch
        positions[name] = min(cursor.get(name, ledgers.end(name) if finished else 0), ledgers.end(name))
    return positions
