"""State records: the newest snapshot and all that follows it, which a broker folds into its state when it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedbus.broker.record import Record, ledger_seed
from fedbus.storage.segment import Gap, Window, prove, scan
from fedbus.storage.segment_index import Segment


def state_records(segments: Sequence[tuple[str, Segment]], damaged: set[str]) -> Iterator[tuple[str, Record]]:
    """(ledger, record) in order from the newest proven SNAPSHOT on, else from the beginning; EVENTS without payload.

    ``segments``: (ledger, segment) of all ledgers, the oldest first. Since a snapshot begins each segment, this is
    about one segment's work, in memory that does not depend on its size. Ledgers in which something from there on
    cannot be read are added to ``damaged``. Raises :class:`OSError` if the disk fails.
    """
    first, position = _newest_snapshot(segments)
    for at in range(first, len(segments)):
        ledger, segment = segments[at]
        start = position if at == first else segment.index.first_position
        with segment.path.open("rb", buffering=0) as file:
            window = Window(file.fileno(), segment.index.end.position)
            for step in scan(window, start, seed=ledger_seed(ledger), payload=False):
                if isinstance(step, Gap):
                    damaged.add(ledger)
                else:
                    yield ledger, step.record


def _newest_snapshot(segments: Sequence[tuple[str, Segment]]) -> tuple[int, int]:
    """(place in ``segments``, byte position) of the newest snapshot whose checksum holds; else of the beginning."""
    for at in range(len(segments) - 1, -1, -1):
        ledger, segment = segments[at]
        with segment.path.open("rb", buffering=0) as file:
            window = Window(file.fileno(), segment.index.end.position)
            for position in reversed(segment.index.snapshots):
                if prove(window, position, seed=ledger_seed(ledger)) is not None:
                    return at, position
    return 0, segments[0][1].index.first_position if segments else 0
