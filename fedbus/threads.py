"""Threads: the only module that starts them.

One place, so that every thread has a name (it shows in ``py-spy dump`` and in stack traces of a hanging test) and so
that a look at who calls :func:`spawn` lists all the concurrency there is. Who spawns a thread also ends and joins it,
through the one queue or socket by which others speak to it; nothing here does that for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


def spawn(name: str, target: Callable[[], None], *, daemon: bool = True) -> threading.Thread:
    """Start ``target`` in a new thread called ``name`` and return the thread, already running.

    Threads are daemons by default: a process whose main thread has ended must end, and what must survive is on disk
    before it is acknowledged, so that no thread has to be waited for. An exception that leaves ``target`` ends the
    thread and goes to ``threading.excepthook``; a thread that must not die catches its own.
    """
    thread = threading.Thread(target=target, name=name, daemon=daemon)
    thread.start()
    return thread
