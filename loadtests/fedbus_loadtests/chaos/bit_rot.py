"""Damage to ledger files, from outside and without a word: a torn write behind the end, a flipped bit in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec

from fedbus.broker.record import Kind, Record, ledger_seed
from fedbus.storage.segment import MAX_HEADER_BYTES, Whole, Window, decode_header, scan, segment_paths
from fedbus.storage.segment_index import index_path


class Damaged(msgspec.Struct, frozen=True):
    """The events ``[first_offset, end_offset)`` of ``ledger`` were in the record that was hit, byte ``position``."""

    ledger: str
    first_offset: int
    end_offset: int
    path: Path
    position: int


def own_ledgers(directory: Path) -> list[Path]:
    """Where the ledgers that an instance wrote itself lie in its directory, the oldest first."""
    found = (path for path in directory.glob("ledgers/*") if path.name.isdecimal())
    return sorted(found, key=lambda path: int(path.name))


def all_ledgers(directory: Path) -> list[Path]:
    """Those, and the copies of others' that lie there."""
    return own_ledgers(directory) + sorted(path for path in directory.glob("copies/*/*/*") if path.name.isdecimal())


def ledgers_in(directory: Path) -> list[str]:
    """The ids of all ledgers of which something lies in an instance's directory."""
    found = {records(path)[0] for place in all_ledgers(directory) for path in segment_paths(place)}
    return sorted(found - {""})


def records(path: Path) -> tuple[str, list[Whole]]:
    """The ledger of a segment, and its whole records."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        found = decode_header(os.pread(fd, MAX_HEADER_BYTES, 0), path)
        if found is None:
            return "", []
        header, start = found
        seed = ledger_seed(header.ledger)
        whole = [item for item in scan(Window(fd, size), start, seed=seed) if isinstance(item, Whole)]
        return header.ledger, whole
    finally:
        os.close(fd)


def tear(directory: Path, random: Random) -> int | None:
    """A write that a crash has cut short: some first bytes of a record behind the end of the newest ledger.

    Its process must not be running. Returns how many bytes, or ``None`` if there is no record to follow on.
    """
    for ledger_directory in reversed(own_ledgers(directory)):
        for path in reversed(segment_paths(ledger_directory)):
            ledger, whole = records(path)
            if not whole:
                continue
            last = whole[-1].record
            payload = random.randbytes(random.randint(1, 5000))
            torn = Record(
                Kind.EVENTS, last.number + 1, last.next_offset, 1, last.time_ms, confirmed=last.number, payload=payload
            )
            data = b"".join(torn.buffers(ledger_seed(ledger)))
            cut = random.randrange(1, len(data))
            with path.open("ab") as file:
                file.write(data[:cut])
            return cut
    return None


def cut(directory: Path, random: Random, most_bytes: int = 4096) -> int | None:
    """The end of the newest ledger is gone: up to ``most_bytes``, acknowledged or not. Returns how many."""
    for ledger_directory in reversed(own_ledgers(directory)):
        for path in reversed(segment_paths(ledger_directory)):
            _, whole = records(path)
            if whole:
                size = path.stat().st_size
                left = random.randrange(max(whole[0].position, size - most_bytes), size)
                os.truncate(path, left)
                return size - left
    return None


def flip(segments: Iterator[Path], random: Random) -> Damaged | None:
    """Flip one bit of an EVENTS record in one of these segments; ``None`` if there is no such record."""
    candidates = list(segments)
    random.shuffle(candidates)
    for path in candidates:
        ledger, whole = records(path)
        events = [item for item in whole if item.record.kind is Kind.EVENTS]
        if not events:
            continue
        hit = random.choice(events)
        position = random.randrange(hit.position, hit.end)
        with path.open("r+b", buffering=0) as file:
            byte = os.pread(file.fileno(), 1, position)[0] ^ 1 << random.randrange(8)
            os.pwrite(file.fileno(), bytes([byte]), position)
            os.fsync(file.fileno())
        return Damaged(ledger, hit.record.first_offset, hit.record.next_offset, path, position)
    return None


def sealed_segments(directory: Path) -> Iterator[Path]:
    """Segments of own ledgers and copies that are not being written any more: they have an index."""
    for place in all_ledgers(directory):
        yield from (path for path in segment_paths(place) if index_path(path).exists())
