"""What there is to say of a ledger held here: to whoever looks at the files, and to the core that starts on them."""

from __future__ import annotations

import msgspec

from fedbus.broker.on_disk import HeldRun, OnDisk
from fedbus.ranges import Range, RangeSet
from fedbus.storage.held_ledger import HeldLedger
from fedbus.storage.ledger_note import known_confirmed
from fedbus.storage.ledger_run import LedgerRun
from fedbus.storage.segment_index import Damage
from fedbus.storage.topics_listed import merged


class LedgerInfo(msgspec.Struct, frozen=True):
    """One ledger: offsets ``[first_offset, end_offset)`` are durable here; ``next_number`` is past the last record.

    ``newest_ms``: time of the newest event, 0 if there is none. ``topics``: of all events, or filters that match them
    (see :mod:`fedbus.storage.topics_listed`); ``None`` if nothing can be said.
    """

    id: str
    first_offset: int
    end_offset: int
    next_number: int
    closed: bool
    damage: tuple[Damage, ...]
    size_bytes: int
    segments: int
    newest_ms: int = 0
    topics: tuple[str, ...] | None = ()


def info(held: HeldLedger, *, closed: bool) -> LedgerInfo:
    """What there is to know about it now."""
    segments, end = held.segments, held.end
    return LedgerInfo(
        id=held.id,
        first_offset=segments[0].index.first_offset if segments else 0,
        end_offset=end.offset,
        next_number=end.number,
        closed=closed,
        damage=tuple(damage for segment in segments for damage in sorted(segment.index.damage, key=_start)),
        size_bytes=sum(segment.index.end.position for segment in segments),
        segments=len(segments),
        newest_ms=max((segment.index.newest_ms for segment in segments), default=0),
        topics=merged(segment.index.topics for segment in segments),
    )


def on_disk(held: HeldLedger, confirmed: int) -> OnDisk:
    """What an instance that starts is told of it; ``confirmed``: by what was found in its records."""
    found = info(held, closed=True)
    return OnDisk(
        ledger=held.id,
        record=held.record,
        runs=tuple(_held(run) for run in held.runs if run.segments),
        confirmed=max(confirmed, known_confirmed(held.record)),
        damaged=tuple(damaged(held)),
        torn=held.torn,
        size_bytes=found.size_bytes,
        newest_ms=found.newest_ms,
        topics=found.topics,
    )


def damaged(held: HeldLedger) -> list[Range]:
    """Record numbers that cannot be read."""
    return list(RangeSet((d.first_number, d.end_number) for segment in held.segments for d in segment.index.damage))


def _held(run: LedgerRun) -> HeldRun:
    return HeldRun(run.start.number, run.start.offset, run.end.number, run.end.offset)


def _start(damage: Damage) -> int:
    return damage.start
