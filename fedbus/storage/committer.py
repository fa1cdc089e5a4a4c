"""Group commit: a thread that writes all that has come meanwhile, syncs once, and says how far the ledger is durable.

Results are given in order to ``on_result``, in this thread; it must not block (enqueue, wake up). The bytes waiting are
bounded by ``limits.uncommitted_bytes``: the core stays below it by refusing to publish; else ``submit`` waits.

A full disk is a *refusal*: the group is taken back to the last durable byte, ``WriteRefused`` names the number from
which nothing was stored, and what is still on its way belongs to a void past: commands of that generation are dropped
until the core, having gone back to the durable end, writes under the next generation. So numbers and offsets on disk
stay dense, whatever was under way. Any other error, and every error of a sync, is a *failure*: the kernel may have
dropped the pages, so nothing is tried again and every later write is answered ``WriteFailed``.
"""

from __future__ import annotations

from collections.abc import Callable

from fedbus.broker.effects import Durable, RollSegment, Write, WriteFailed, WriteRefused
from fedbus.broker.record import Record
from fedbus.errors import StorageError
from fedbus.limits import Limits
from fedbus.storage.ledger_files import LedgerFiles
from fedbus.storage.work_queue import WorkQueue
from fedbus.threads import spawn

Result = Durable | WriteRefused | WriteFailed


class Committer:
    """Writes to the open ledger of ``files``, which belongs to this thread until :meth:`close`."""

    def __init__(self, files: LedgerFiles, on_result: Callable[[Result], None], *, limits: Limits) -> None:
        self._files = files
        self._on_result = on_result
        self._waiting: WorkQueue[Write | RollSegment] = WorkQueue(limits.uncommitted_bytes)
        self._generation = 0
        self._failure = ""
        self._thread = spawn("ledger-committer", self._run)

    def submit(self, command: Write | RollSegment) -> None:
        """Queue a command, in order. Waits while the bound is exceeded; raises :class:`ClosedError` after closing."""
        self._waiting.put(command, command.record.size_bytes if isinstance(command, Write) else 0)

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
        while commands := self._waiting.take_all():
            try:
                self._commit(commands)
            except Exception as error:  # noqa: BLE001 - a bug here must stop the ledger loudly, not hang its publishers
                self._fail(f"{type(error).__name__}: {error}")

    def _commit(self, commands: list[Write | RollSegment]) -> None:
        group: list[Record] = []
        for command in commands:
            if isinstance(command, RollSegment):
                self._write(group)
                group = []
                if not self._failure:
                    self._files.roll_segment()
            elif command.generation == self._generation:
                group.append(command.record)
        self._write(group)

    def _write(self, group: list[Record]) -> None:
        if not group:
            return
        if self._failure:
            self._fail(self._failure)
            return
        try:
            self._files.append(group)
            self._files.sync()
        except StorageError as refused:
            generation, self._generation = self._generation, self._generation + 1
            self._on_result(WriteRefused(group[0].number, refused.detail, generation))
        except OSError as error:
            self._fail(f"the disk failed at record {group[0].number}: {error}")
        else:
            self._on_result(Durable(group[-1].number, self._generation))

    def _fail(self, detail: str) -> None:
        self._failure = detail
        self._on_result(WriteFailed(detail))
