"""The queue before a disk thread: bounded in cost, emptied in one go."""

from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

from fedbus.errors import ClosedError

Work = TypeVar("Work")


class WorkQueue(Generic[Work]):
    """Items in order, with a bound on the sum of their costs; any thread puts, one thread takes."""

    def __init__(self, max_cost: int) -> None:
        self._max_cost = max_cost
        self._changed = Condition()
        self._items: list[Work] = []
        self._closed = False
        self.cost = 0

    @property
    def depth(self) -> int:
        """Items waiting."""
        return len(self._items)

    def put(self, item: Work, cost: int) -> None:
        """Add an item; waits while the bound is reached. Raises :class:`ClosedError` after :meth:`close`."""
        with self._changed:
            while self.cost >= self._max_cost and not self._closed:
                self._changed.wait()
            if self._closed:
                raise ClosedError("the ledger files are being closed and take no more work")
            self._items.append(item)
            self.cost += cost
            if len(self._items) == 1:
                self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def take_all(self, timeout_s: float | None = None) -> list[Work]:
        """Everything that is waiting; waits for something, no longer than ``timeout_s``.

        Empty once the queue is closed and drained, or when the time has passed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            items, self._items = self._items, []
            self.cost = 0
            self._changed.notify_all()
            return items

    def idle(self, timeout_s: float) -> bool:
        """Wait that long, but no longer than until something is put or the queue is closed; whether nothing was."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._items or self._closed, timeout_s)

    def close(self) -> None:
        """Take no more; what is waiting is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
