"""Waiting for conditions, with a deadline and a word of what was waited for."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from time import monotonic
from typing import TypeVar

Found = TypeVar("Found")


def until(
    holds: Callable[[], Found],
    timeout_s: float,
    what: str,
    explain: Callable[[], object] = lambda: "",
    pause_s: float = 0.1,
) -> Found:
    """What ``holds()`` gives as soon as that is true, looked at every ``pause_s``; fail after ``timeout_s``."""
    deadline, pause = monotonic() + timeout_s, Event()
    while not (found := holds()):
        assert monotonic() < deadline, f"not within {timeout_s:g} s: {what}. {explain()}"
        pause.wait(pause_s)
    return found
