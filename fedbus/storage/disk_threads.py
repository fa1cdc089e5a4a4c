"""The disk threads of an instance, and which of them carries out which effect."""

from __future__ import annotations

from collections.abc import Callable

from fedbus.broker.copy_effects import ReadRaw, ReadState
from fedbus.broker.effects import Input, Read, Survey
from fedbus.limits import Limits
from fedbus.storage.committer import Command, Committer
from fedbus.storage.ledger_files import LedgerFiles
from fedbus.storage.read_worker import Reader, Wanted
from fedbus.storage.scrubber import Pass, Scrubber


class DiskThreads:
    """One thread writes, one reads, one looks after what is there; their answers go to ``post``, which must not block.

    The files belong to them until :meth:`close`.
    """

    def __init__(self, files: LedgerFiles, post: Callable[[Input], None], limits: Limits) -> None:
        self._scrubber = Scrubber(files, post, limits=limits)
        self._committer = Committer(files, post, limits=limits, hand_over=self._scrubber.submit)
        self._reader = Reader(files, post, limits=limits)

    def submit(self, effect: Command | Wanted) -> None:
        """Have it done; effects of one kind (writing, reading) in the order given."""
        if isinstance(effect, Read | ReadRaw | ReadState | Survey):
            self._reader.submit(effect)
        else:
            self._committer.submit(effect)

    def scrub(self) -> None:
        """Begin to read everything through; each ledger is answered by ``Scrubbed``."""
        self._scrubber.submit(Pass())

    def close(self) -> None:
        """Let them finish and end."""
        self._committer.close()
        self._reader.close()
        self._scrubber.close()
