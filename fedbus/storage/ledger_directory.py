"""Where an instance's ledgers lie: its own in ``ledgers/<epoch>``, others' in ``copies/<region>/<instance>/<epoch>``.

Each of these directories holds ``<number of the first record>.seg``, an ``.idx`` beside each sealed segment, the note
``record`` and ``quarantine/``. One that is being deleted is called ``….dropped`` and is no ledger any more.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from fedbus.position import LedgerId
from fedbus.storage.durable import fsync_directory, make_directory

LEDGERS, COPIES = "ledgers", "copies"
DROPPED_SUFFIX = ".dropped"


class LedgerDirectory:
    """The directory of ``region/instance``. Everything here raises :class:`OSError`."""

    def __init__(self, path: Path, region: str, instance: str) -> None:
        self.path = path
        self._region = region
        self._instance = instance

    def own(self, epoch: int) -> LedgerId:
        """The name of a ledger that this instance writes."""
        return LedgerId(self._region, self._instance, epoch)

    def is_own(self, id: LedgerId) -> bool:
        """Whether this instance writes, or once wrote, that ledger."""
        return (id.region, id.instance) == (self._region, self._instance)

    def place(self, id: LedgerId) -> Path:
        """Where that ledger lies."""
        if self.is_own(id):
            return self.path / LEDGERS / str(id.epoch)
        return self.path / COPIES / id.region / id.instance / str(id.epoch)

    def make(self, id: LedgerId) -> Path:
        """Make the place, durably, and return it."""
        place = self.place(id)
        for parent in reversed(place.relative_to(self.path).parents[:-1]):
            make_directory(self.path / parent)
        make_directory(place)
        return place

    def found(self) -> Iterator[LedgerId]:
        """What lies here: its own ledgers first, the oldest first. Finishes what was being dropped."""
        make_directory(self.path / LEDGERS)
        for epoch in _epochs(self.path / LEDGERS):
            yield self.own(epoch)
        for writer in sorted((self.path / COPIES).glob("*/*")):
            for epoch in _epochs(writer):
                yield LedgerId(writer.parent.name, writer.name, epoch)

    @staticmethod
    def drop(place: Path) -> Path:
        """Take a ledger's directory out of use, durably; returns its new name, under which it may be deleted."""
        dropped = place.with_name(place.name + DROPPED_SUFFIX)
        place.rename(dropped)
        fsync_directory(place.parent)
        return dropped


def delete(dropped: Path) -> None:
    """Delete a dropped directory; what cannot be deleted now is at the next start."""
    shutil.rmtree(dropped, ignore_errors=True)


def _epochs(directory: Path) -> list[int]:
    for dropped in directory.glob(f"*{DROPPED_SUFFIX}"):
        delete(dropped)
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
