"""Hand-over of key slots, the old owner's side: say when all that was published here before is settled.

At each routing table an instance marks where its ledger ends. For a group it is done with a slot when all its ledgers
are scanned up to the mark, and nothing of that slot from before is in flight or waits for its turn. What waits to be
delivered *again* (after a nack or a deadline) is not waited for: it does not hold up its key at one instance either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from fedbus.broker import protocol as p
from fedbus.broker.effects import Send
from fedbus.broker.group import Group
from fedbus.broker.handover import Mark, Marks
from fedbus.broker.ledger import Ledgers
from fedbus.broker.slot_mask import ALL_SLOTS, from_bytes, to_bytes
from fedbus.errors import OverloadedError

MARKS = 64  # tables remembered: an instance that asks about an older one gets the oldest mark
ASKS_PER_SESSION = 64


class Ask:
    """A question that is not answered for good. ``told``: the newest answer."""

    def __init__(self, session: bytes, message: p.AskSlots) -> None:
        self.session = session
        self.request = message.request
        self.version = message.version
        self.slots = from_bytes(message.slots)
        self.told: dict[str, bytes] | None = None


class Releases:
    """Questions of new owners, and the answers."""

    def __init__(self, ledgers: Ledgers, marks: Marks) -> None:
        self._ledgers = ledgers
        self._at = marks
        self._marks: deque[tuple[int, Mark]] = deque(maxlen=MARKS)
        self._asks: dict[tuple[bytes, int], Ask] = {}

    def applied(self, version: int) -> None:
        """A routing table is in force here: what is published from now on follows it."""
        self._marks.append((version, self._at.now()))

    def ask(self, session: bytes, message: p.AskSlots, groups: Iterable[Group]) -> None:
        """A new owner asks; raises :class:`OverloadedError` if it asks too much."""
        key = (session, message.request)
        if key not in self._asks and sum(each.session == session for each in self._asks.values()) >= ASKS_PER_SESSION:
            raise OverloadedError(f"this session already has {ASKS_PER_SESSION} hand-overs under way")
        self._asks[key] = Ask(session, message)
        self.tell(groups)

    def session_ended(self, session: bytes) -> None:
        """Nobody waits for its answers."""
        self._asks = {key: ask for key, ask in self._asks.items() if ask.session != session}

    def tell(self, groups: Iterable[Group]) -> None:
        """Answer what can be answered, and what has changed."""
        every = list(groups) if self._asks else []
        for key, ask in list(self._asks.items()):
            mark = next((mark for version, mark in self._marks if version >= ask.version), None)
            if mark is None:
                continue
            answer = {
                group.spec.name: to_bytes(slots) for group in every if (slots := self._open(group, mark) & ask.slots)
            }
            if answer != ask.told:
                ask.told = answer
                self._ledgers.effects.append(Send(ask.session, p.SlotsOpen(ask.request, answer)))
            if not answer:
                del self._asks[key]

    def _open(self, group: Group, mark: Mark) -> int:
        """The slots for which this group is not done with what was published here before the mark."""
        for name, position in group.cursor.positions.items():
            if position < self._before(name, mark):
                return ALL_SLOTS
        found = 0
        for portion in group.first_tries():
            if portion.origin_ledger == portion.ledger and portion.first_offset < self._before(portion.ledger, mark):
                found |= portion.slots()
        return found

    def _before(self, ledger: str, mark: Mark) -> int:
        """The end of what a ledger holds from before the mark."""
        epoch = self._at.epoch(ledger)
        if epoch > mark[0]:
            return 0
        written = self._ledgers.next_offset() if ledger == self._ledgers.current else self._ledgers.end(ledger)
        return min(mark[1], written) if epoch == mark[0] else written
