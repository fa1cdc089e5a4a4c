"""The copies' part of a group commit: append all, then make each run durable, then answer, one answer per run.

A copy that the disk refuses is refused alone and can go on; one that fails, fails alone and for good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fedbus.broker.copy_effects import CopyDurable, CopyFailed, CopyRefused
from fedbus.broker.record import Record
from fedbus.errors import StorageError
from fedbus.storage.copy_appender import CopyAppender, Portion
from fedbus.storage.durable import REFUSALS
from fedbus.storage.ledger_files import LedgerFiles

Answer = CopyDurable | CopyRefused | CopyFailed


class CopyCommit:
    """Writes copies in ``files``; belongs to the committer's thread."""

    def __init__(self, files: LedgerFiles, on_result: Callable[[Answer], None]) -> None:
        self._files = files
        self._on_result = on_result
        self._appenders: dict[str, CopyAppender] = {}
        self._failed: dict[str, str] = {}

    def append(self, group: Mapping[str, Sequence[Record]]) -> list[tuple[str, Portion]]:
        """Write records by ledger; returns what is to be synced. What the disk refuses is answered at once."""
        written: list[tuple[str, Portion]] = []
        for ledger, records in group.items():
            if ledger in self._failed:
                self._on_result(CopyFailed(ledger, self._failed[ledger]))
                continue
            try:
                written += [(ledger, portion) for portion in self._append(ledger, records)]
            except Exception as error:  # noqa: BLE001 - a copy that contradicts itself must not stop the others
                self._refuse_or_fail(ledger, records[0].number, error)
        return written

    def _append(self, ledger: str, records: Sequence[Record]) -> list[Portion]:
        appender = self._appenders.get(ledger)
        if appender is None:
            appender = self._appenders[ledger] = CopyAppender(self._files.hold(ledger))
        written: list[Portion] = []
        for portion in appender.portions(records):
            try:
                appender.append(portion)
            except StorageError as refused:
                self._on_result(CopyRefused(ledger, portion.run.end.number, refused.detail))
            else:
                written.append(portion)
        return written

    def sync(self, written: Sequence[tuple[str, Portion]]) -> None:
        """Make durable what was appended, and say so."""
        for ledger, portion in written:
            if ledger in self._failed:
                continue
            try:
                number = self._appenders[ledger].sync(portion.run)
            except Exception as error:  # noqa: BLE001 - as above; an error of a sync is final
                self._fail(ledger, error)
            else:
                self._on_result(CopyDurable(ledger, number))

    def noted(self, ledger: str) -> None:
        """Another version of its record is on disk."""
        if ledger in self._appenders:
            self._appenders[ledger].noted()

    def forget(self, ledger: str) -> None:
        """It was dropped: should it come again, it is another one."""
        self._appenders.pop(ledger, None)
        self._failed.pop(ledger, None)

    def _refuse_or_fail(self, ledger: str, number: int, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in REFUSALS:  # no room even for its directory
            self._on_result(CopyRefused(ledger, number, f"the disk takes no copy of ledger {ledger}: {error}"))
        else:
            self._fail(ledger, error)

    def _fail(self, ledger: str, error: Exception) -> None:
        self._failed[ledger] = f"the disk failed with a copy of ledger {ledger}: {error}"
        self._on_result(CopyFailed(ledger, self._failed[ledger]))
