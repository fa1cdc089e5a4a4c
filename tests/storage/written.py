"""Small ledgers on disk for the tests of this folder."""

from collections.abc import Iterable
from pathlib import Path

from fedbus.broker.record import HEADER_BYTES, Kind, Record
from fedbus.limits import Limits
from fedbus.storage.ledger_files import LedgerFiles

LEDGER = "here/b1/0"


def events(number: int, offset: int, count: int = 2, payload: bytes = b"two events", **fields) -> Record:
    fields = {"meta": b"meta", "index": b"index", **fields}
    return Record(Kind.EVENTS, number, offset, count, 1_000 + number, payload=payload, **fields)


def state(kind: Kind, number: int, offset: int, payload: bytes = b"state") -> Record:
    return Record(kind, number, offset, 0, 1_000 + number, payload=payload)


def run_of(count: int, payload: bytes = b"two events") -> list[Record]:
    """A snapshot and then batches of two events each."""
    return [state(Kind.SNAPSHOT, 0, 0), *(events(n, 2 * (n - 1), payload=payload) for n in range(1, count + 1))]


def ledger_files(directory: Path, **options) -> LedgerFiles:
    """Recovered ledger files; whoever wants to write creates a ledger."""
    files = LedgerFiles(directory, "here", "b1", Limits(), lambda: 1_700_000_000_001, **options)
    directory.mkdir(exist_ok=True)
    files.open()
    return files


def write(directory: Path, *segments: Iterable[Record], epoch: int = 0) -> Path:
    """A ledger as a crash leaves it: all segments sealed but the last. Returns the last segment's path."""
    files = ledger_files(directory)
    files.create(epoch)
    for place, records in enumerate(segments):
        if place:
            files.roll_segment()
        files.append(list(records))
        files.sync()
    files._writer.close()  # as it is: closing the files would seal
    return max((directory / "ledgers" / str(epoch)).glob("*.seg"))


def seen(record: Record) -> tuple[object, ...]:
    """All of a record, to compare."""
    return (
        record.kind, record.number, record.first_offset, record.count, record.time_ms, record.confirmed,
        bytes(record.meta), bytes(record.index), bytes(record.payload),
    )  # fmt: skip


def read_all(files: LedgerFiles, ledger: str = LEDGER, max_bytes: int = 1 << 20) -> tuple[list[Record], int]:
    """All EVENTS records of a ledger, read from its beginning, and how many offsets were damaged."""
    records: list[Record] = []
    offset = damaged = 0
    while (found := files.read(ledger, offset, max_bytes)).next_offset > offset:
        records += found.records
        damaged += found.damaged
        offset = found.next_offset
    return records, damaged


def bounds(path: Path, records: Iterable[Record]) -> list[int]:
    """Byte positions at which the records of an undamaged segment begin, and the end."""
    sizes = [record.size_bytes for record in records]
    position = path.stat().st_size - sum(sizes)
    found = [position]
    for size in sizes:
        position += size
        found.append(position)
    assert min(sizes) > HEADER_BYTES
    return found
