"""Small ledgers on disk for the tests of this folder."""

from collections.abc import Iterable
from pathlib import Path

from fedbus.broker.on_disk import OnDisk
from fedbus.broker.record import HEADER_BYTES, Kind, Record
from fedbus.ledger_record import Fragment, LedgerRecord, Member
from fedbus.limits import KIB, Limits
from fedbus.storage.copy_appender import CopyAppender
from fedbus.storage.held_ledger import HeldLedger
from fedbus.storage.ledger_files import LedgerFiles

LEDGER = "here/b1/0"
SMALL = Limits(segment_bytes=KIB * 4, batch_bytes=KIB, event_bytes=KIB, attributes_bytes=KIB, key_bytes=KIB)


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
    limits = options.pop("limits", Limits())
    files = LedgerFiles(directory, "here", "b1", limits, lambda: 1_700_000_000_001, **options)
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
    files.current.runs[-1]._writer.close()  # as it is: closing the files would seal
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


WRITER = Member("here/b2", "b2-uuid")
HERE = Member("here/b1", "b1-uuid")
COPY = "here/b2/7"


def record_of(ledger: str = COPY, *, version: int = 1, term: int = 0, end: int | None = None, first: int = 0):
    """A ledger's record, CLOSED if it has an end."""
    return LedgerRecord(
        id=ledger, writer=WRITER, fragments=(Fragment(first, (HERE, WRITER)),), dispatcher="here/b2",
        state="OPEN" if end is None else "CLOSED", term=term, version=version, end_number=end,
        end_offset=None if end is None else 2 * max(end - 1, 0),
    )  # fmt: skip


def copy_path(directory: Path, ledger: str = COPY) -> Path:
    return directory / "copies" / ledger


def append_copy(files: LedgerFiles, records: Iterable[Record], ledger: str = COPY) -> HeldLedger:
    """Append to a copy and make it durable, as one turn of the committer does."""
    held = files.hold(ledger)
    appender = CopyAppender(held)
    for portion in appender.portions(list(records)):
        appender.append(portion)
        appender.sync(portion.run)
    return held


def raw_of(files: LedgerFiles, ledger: str = COPY, number: int = 0) -> list[Record]:
    """All records from a number on to the next hole, read one by one."""
    found: list[Record] = []
    while (read := files.read_raw(ledger, number, 1)).next_number > number:
        assert not read.damaged
        found += read.records
        number = read.next_number
    return found


def crash(files: LedgerFiles) -> None:
    """As a kill leaves it: nothing is sealed."""
    for held in files.all():
        for run in held.runs:
            if run._writer is not None:
                run._writer.close()


def numbers(records: Iterable[Record]) -> list[int]:
    """Of records, in order."""
    return [record.number for record in records]


def on_disk(files: LedgerFiles, ledger: str = COPY) -> OnDisk:
    """What is said to be there of a ledger."""
    return next(found for found in files.on_disk() if found.ledger == ledger)


def runs_of(files: LedgerFiles, ledger: str = COPY) -> list[tuple[int, int]]:
    """Record numbers there are of a ledger: first and end of each run."""
    return [(run.first_number, run.end_number) for run in on_disk(files, ledger).runs]
