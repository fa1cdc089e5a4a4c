"""Spawning threads."""

import threading

from fedbus.threads import spawn


def test_a_spawned_thread_runs_under_its_name_and_does_not_hold_up_the_process():
    seen: list[tuple[str, bool]] = []

    def look() -> None:
        seen.append((threading.current_thread().name, threading.current_thread().daemon))

    spawn("ledger-committer", look).join(timeout=30)
    assert seen == [("ledger-committer", True)]
