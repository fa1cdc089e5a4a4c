"""Work that peering must not wait for: the store, and the answers to other regions' calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import Full, Queue
from threading import Thread

from fedbus.threads import spawn

log = logging.getLogger(__name__)

Work = Callable[[], None]


class Workers:
    """So many threads behind one bounded queue; a single one keeps the order."""

    def __init__(self, name: str, threads: int, most: int) -> None:
        self._name = name
        self._queue: Queue[Work | None] = Queue(most)
        self._threads: list[Thread] = [spawn(f"{name}-{number}", self._run) for number in range(threads)]

    def put(self, work: Work) -> bool:
        """Hand work over; False if there is too much already."""
        try:
            self._queue.put_nowait(work)
        except Full:
            log.warning("%s: %d things wait already, one more is left out", self._name, self._queue.maxsize)
            return False
        return True

    def stop(self) -> None:
        """Do what waits, then end."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:  # one failure must not end the thread
                log.exception("%s: work failed", self._name)
