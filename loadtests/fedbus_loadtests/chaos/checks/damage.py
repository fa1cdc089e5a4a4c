"""V8: damage that was done is reported. That damaged bytes are never delivered is V2: their checksum differs."""

from __future__ import annotations

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.violation import Violations


class DamageReported:
    """By whom it was done to, for that ledger, after it was done."""

    def __init__(self) -> None:
        self.violations = Violations("V8")
        self._open: dict[tuple[str, str], Entry] = {}

    def see(self, entry: Entry) -> None:
        """Damage opens a case, its report closes it."""
        if entry.operation == "damage":
            self._open.setdefault((entry.target, entry.ledger), entry)
        elif entry.operation == "report":
            self._open.pop((entry.target, entry.position), None)

    def end(self) -> None:
        """Cases still open."""
        for (target, ledger), damage in self._open.items():
            self.violations.add(f"{target} never reported the damage in its copy of {ledger}", damage)
