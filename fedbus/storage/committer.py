"""Group commit: a thread that writes all that has come meanwhile, syncs each file once, and says what is durable.

Results are given in order to ``on_result``, in this thread; it must not block (enqueue, wake up). The bytes waiting are
bounded by twice ``limits.uncommitted_bytes`` (the own ledger's, and as much for copies): the core stays below it by
refusing to publish; else ``submit`` waits.

A full disk is a *refusal*: the group is taken back to the last durable byte, ``WriteRefused`` names the number from
which nothing was stored, and what is still on its way belongs to a void past: commands of that generation are dropped
until the core, having gone back to the durable end, writes under the next generation. So numbers and offsets on disk
stay dense, whatever was under way. Any other error, and every error of a sync, is a *failure*: the kernel may have
dropped the pages, so nothing is tried again and every later write is answered ``WriteFailed``. Copies are refused, and
fail, each for itself (:mod:`fedbus.storage.copy_commit`). Whatever is no write waits until the writes before it are
durable; a note that cannot be stored is tried again until it can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from fedbus.broker.copy_effects import (
    BeginLedger,
    BeginRefused,
    CopyDurable,
    CopyFailed,
    CopyRefused,
    DropLedger,
    LedgerBegun,
    Note,
    Noted,
    Repair,
    WriteCopy,
)
from fedbus.broker.effects import Durable, RollSegment, Write, WriteFailed, WriteRefused
from fedbus.broker.record import Record
from fedbus.errors import NotFoundError, StorageError
from fedbus.limits import Limits
from fedbus.position import LedgerId
from fedbus.storage.copy_commit import CopyCommit
from fedbus.storage.ledger_files import LedgerFiles
from fedbus.storage.work_queue import WorkQueue
from fedbus.threads import spawn

NOTE_AGAIN_S = 1.0

Command = Write | RollSegment | WriteCopy | BeginLedger | Note | DropLedger | Repair
Result = (
    Durable | WriteRefused | WriteFailed | CopyDurable | CopyRefused | CopyFailed | LedgerBegun | BeginRefused | Noted
)

log = logging.getLogger(__name__)


class Committer:
    """Changes the ledgers of ``files``, which belong to this thread until :meth:`close`.

    ``hand_over`` takes what is not to keep writers waiting: repairs, whose segments are sealed by then, and directories
    to delete.
    """

    def __init__(
        self,
        files: LedgerFiles,
        on_result: Callable[[Result], None],
        *,
        limits: Limits,
        hand_over: Callable[[Repair | Path], None],
    ) -> None:
        self._files = files
        self._on_result = on_result
        self._hand_over = hand_over
        self._waiting: WorkQueue[Command] = WorkQueue(2 * limits.uncommitted_bytes)
        self._generation = 0
        self._failure = ""
        self._own: list[Record] = []
        self._others: dict[str, list[Record]] = {}
        self._copies = CopyCommit(files, on_result)
        self._unnoted: dict[str, Note] = {}
        self._thread = spawn("ledger-committer", self._run)

    def submit(self, command: Command) -> None:
        """Queue a command, in order. Waits while the bound is exceeded; raises :class:`ClosedError` after closing."""
        self._waiting.put(command, command.record.size_bytes if isinstance(command, Write | WriteCopy) else 0)

    @property
    def depth(self) -> int:
        """Commands waiting for the disk."""
        return self._waiting.depth

    @property
    def depth_bytes(self) -> int:
        """Bytes waiting for the disk."""
        return self._waiting.cost

    def close(self) -> None:
        """Write what is waiting, then end the thread. Returns when it has ended; the files stay open."""
        self._waiting.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            commands = self._waiting.take_all(NOTE_AGAIN_S if self._unnoted else None)
            if not commands and self._waiting.closed:
                return
            try:
                for note in list(self._unnoted.values()):
                    self._note(note)
                self._commit(commands)
            except Exception as error:  # noqa: BLE001 - a bug here must stop the ledger loudly, not hang its publishers
                self._fail(f"{type(error).__name__}: {error}")

    def _commit(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Write):
                if command.generation == self._generation:
                    self._own.append(command.record)
            elif isinstance(command, WriteCopy):
                self._others.setdefault(command.ledger, []).append(command.record)
            else:
                self._flush()
                self._carry_out(command)
        self._flush()

    def _flush(self) -> None:
        """Append everything collected, then sync each file once, then answer."""
        own, self._own = self._own, []
        others, self._others = self._others, {}
        appended = bool(own) and self._append(own)
        written = self._copies.append(others) if others else []
        if appended:
            self._sync(own)
        if written:
            self._copies.sync(written)

    def _append(self, group: list[Record]) -> bool:
        if self._failure:
            self._fail(self._failure)
            return False
        try:
            self._files.append(group)
        except StorageError as refused:
            generation, self._generation = self._generation, self._generation + 1
            self._on_result(WriteRefused(group[0].number, refused.detail, generation))
            return False
        except Exception as error:  # noqa: BLE001 - copies in the same group are none of its concern
            self._fail(f"the disk failed at record {group[0].number}: {error}")
            return False
        return True

    def _sync(self, group: list[Record]) -> None:
        try:
            self._files.sync()
        except OSError as error:
            self._fail(f"the disk failed at record {group[0].number}: {error}")
        else:
            self._on_result(Durable(group[-1].number, self._generation))

    def _fail(self, detail: str) -> None:
        self._failure = detail
        self._on_result(WriteFailed(detail))

    def _carry_out(self, command: RollSegment | BeginLedger | Note | DropLedger | Repair) -> None:
        match command:
            case RollSegment():
                if not self._failure:
                    self._files.roll_segment()
            case BeginLedger(ledger):
                self._begin(ledger)
            case Note():
                self._note(command)
            case DropLedger(ledger):
                self._drop(ledger)
            case Repair(ledger):
                try:
                    self._files.get(ledger).seal()
                except NotFoundError:
                    return
                self._hand_over(command)

    def _begin(self, ledger: str) -> None:
        if self._failure:
            self._fail(self._failure)
            return
        try:
            self._files.create(LedgerId.parse(ledger).epoch)
        except StorageError as refused:
            self._on_result(BeginRefused(ledger, refused.detail))
        except OSError as error:
            self._fail(f"the disk failed before ledger {ledger} could begin: {error}")
        else:
            self._on_result(LedgerBegun(ledger))

    def _note(self, note: Note) -> None:
        ledger = note.record.id
        try:
            newest = self._files.hold(ledger).note(note.record)
        except OSError as error:
            if ledger not in self._unnoted:
                log.warning("version %d of ledger %s cannot be noted yet: %s", note.record.version, ledger, error)
            self._unnoted[ledger] = note
            return
        self._unnoted.pop(ledger, None)
        self._copies.noted(ledger)
        self._on_result(Noted(ledger, newest.version))

    def _drop(self, ledger: str) -> None:
        self._unnoted.pop(ledger, None)
        self._copies.forget(ledger)
        try:
            dropped = self._files.drop(ledger)
        except OSError as error:
            log.warning("ledger %s cannot be dropped: %s", ledger, error)
            return
        if dropped is not None:
            self._hand_over(dropped)
