"""The inbox of a thread that waits on sockets: others put things in and wake it through a pipe that it polls."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from threading import Lock
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """Any thread puts, one thread takes.

    Bounded by who puts: the disk threads answer what the core asked (and the core bounds that), the rest is control.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._lock = Lock()
        self._closed = False
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """To be polled for reading."""
        return self._read

    def put(self, item: Item) -> bool:
        """Add an item and wake the thread up; False once the inbox is closed."""
        with self._lock:
            if self._closed:
                return False
            self._items.append(item)
            with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups already
                os.write(self._write, b"\0")
        return True

    def take_all(self) -> list[Item]:
        """Everything put so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass
        with self._lock:
            items = list(self._items)
            self._items.clear()
        return items

    def close(self) -> list[Item]:
        """Take nothing more; returns what was never taken. Closes the pipe, whose numbers others may get then."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._read)
                os.close(self._write)
            left = list(self._items)
            self._items.clear()
        return left
