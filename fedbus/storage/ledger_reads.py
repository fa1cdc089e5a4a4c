"""Reading the ledgers held in a directory, whoever wrote them; safe beside the threads that change files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedbus.broker.on_disk import OnDisk
from fedbus.broker.record import Record
from fedbus.errors import NotFoundError, StorageError
from fedbus.storage.held_ledger import HeldLedger
from fedbus.storage.ledger_info import on_disk
from fedbus.storage.ledger_reader import EventsRead, LedgerReader, RawRead
from fedbus.storage.state_records import state_records

_THROUGH_BYTES = 1 << 20
_LOOK_BACK = (1, 2, 8, 64, 512)  # records before the end: the very last ones may be damaged


class LedgerReads:
    """Reads by name; ``where`` is named in errors."""

    def __init__(self, where: str) -> None:
        self.reader = LedgerReader()
        self._where = where
        self._ledgers: dict[str, HeldLedger] = {}  # its own first, the oldest first; replaced when it changes

    def get(self, ledger: str) -> HeldLedger:
        """One of them; raises :class:`NotFoundError`."""
        found = self._ledgers.get(ledger)
        if found is None:
            raise NotFoundError(f"ledger {ledger} is not in {self._where}")
        return found

    def all(self) -> list[HeldLedger]:
        """Every one of them."""
        return list(self._ledgers.values())

    def read(self, ledger: str, offset: int, max_bytes: int) -> EventsRead:
        """Durable EVENTS records from the one that contains or follows ``offset``; see :class:`EventsRead`.

        About ``max_bytes``, but at least one record if there is any. Raises :class:`NotFoundError` for a ledger that is
        not here and :class:`StorageError` if its files cannot be opened. Damaged records are left out and counted.
        """
        try:
            return self.reader.read(ledger, self.get(ledger), offset, max_bytes)
        except OSError as error:
            raise StorageError(f"ledger {ledger} cannot be read: {error}") from error

    def read_raw(self, ledger: str, number: int, max_bytes: int) -> RawRead:
        """Durable records of all kinds from ``number`` on, up to the next hole; errors as :meth:`read`."""
        try:
            return self.reader.read_raw(ledger, self.get(ledger), number, max_bytes)
        except OSError as error:
            raise StorageError(f"ledger {ledger} cannot be read: {error}") from error

    def read_through(self, ledger: str) -> None:
        """Find out what of it cannot be read: it is in ``reader.new_damage`` then. Raises as :meth:`read`."""
        for run in self.get(ledger).runs:
            number = run.start.number
            while (found := self.read_raw(ledger, number, _THROUGH_BYTES)).next_number > number:
                number = found.next_number
        self.reader.new_damage.add(ledger)

    def fold(self, ledgers: Sequence[str], damaged: set[str] | None = None) -> Iterator[tuple[str, Record]]:
        """(ledger, record) from the newest SNAPSHOT on, over all later segments and ledgers; EVENTS without payload.

        ``ledgers``: the oldest first. Everything there is if there is no snapshot. What is damaged is left out, and the
        ledger added to ``damaged``. Raises :class:`StorageError` if the disk fails, :class:`NotFoundError` for a
        ledger that is not here.
        """
        held = [self.get(ledger) for ledger in ledgers]
        try:
            segments = [(one.id, segment) for one in held for segment in one.segments]
            yield from state_records(segments, set() if damaged is None else damaged)
        except OSError as error:
            raise StorageError(f"the state in {self._where} cannot be read: {error}") from error

    def on_disk(self) -> list[OnDisk]:
        """What a core is told that starts on this directory. Raises :class:`StorageError` if the disk fails."""
        return [on_disk(held, self._confirmed_in(held)) for held in self._ledgers.values()]

    def _confirmed_in(self, held: HeldLedger) -> int:
        """How many records are confirmed by what the last one that can be read says."""
        for back in _LOOK_BACK:
            found = self.read_raw(held.id, max(held.end.number - back, 0), 1).records
            if found:
                return found[-1].confirmed
        return 0
