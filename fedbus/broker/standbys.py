"""Standbys: groups that are at home in another region, kept ready to be taken over (protocol rule 13).

Their cursors follow the settlement that their home shares, so that little is left to scan when they come here.
"""

from __future__ import annotations

from fedbus.broker.groups import Groups
from fedbus.broker.ledger import Ledgers

STEP_NS = 100_000_000
STEP_BATCHES = 1000  # in one step, of all groups together


class Standbys:
    """Those of one instance; they take turns."""

    def __init__(self, groups: Groups, ledgers: Ledgers) -> None:
        self._groups = groups
        self._ledgers = ledgers
        self._next_ns = 0
        self._turn = 0

    def tick(self, now_ns: int) -> None:
        """Time has passed: scan on."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + STEP_NS
        waiting = [group for group in self._groups if not group.here]
        if not waiting:
            return
        self._turn += 1
        left = STEP_BATCHES
        for at in range(len(waiting)):
            group = waiting[(self._turn + at) % len(waiting)]
            if group.deliveries.condemned:  # letters that the disk refused after it had gone: its home sees to them
                self._groups.homes.withdraw(group)
            left -= group.dispatcher.pass_settled(self._ledgers, left)
            if left <= 0:
                return
