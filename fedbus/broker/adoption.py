"""Which closed ledgers this instance hands out (protocol rule 14): taken over whole, all at once, with what is known.

The record of a ledger names its dispatcher. A new one holds all of the ledger, reads what its writers and former
dispatchers remembered from the newest ledger of each, and serves it from then on; its own ledger begins with (or
gets) a snapshot of that. An instance that comes back takes its own former ledgers over in the same way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from fedbus.broker.copies import Copies
from fedbus.broker.copy import Copy
from fedbus.broker.copy_effects import ReadState, StateRead
from fedbus.broker.ledger import Ledgers
from fedbus.broker.record import Kind, Record
from fedbus.broker.recovery import FoldedState, States
from fedbus.broker.state import snapshot_decoder
from fedbus.broker.subscriptions import Subscriptions
from fedbus.ledger_record import Member
from fedbus.position import LedgerId

AGAIN_NS = 500_000_000
REPAIR_NS = 10_000_000_000  # a repair is waited for no longer


class Adoption:
    """What is to be served, and what is being read for it."""

    def __init__(
        self,
        copies: Copies,
        ledgers: Ledgers,
        folded: FoldedState,
        subscriptions: Subscriptions,
        repairable: Callable[[str], bool],
    ) -> None:
        self._copies = copies
        self._ledgers = ledgers
        self._folded = folded
        self._subscriptions = subscriptions
        self._to_read: deque[list[str]] = deque()
        self._repairable = repairable
        self._taking: dict[str, int] = {}  # ledger → end offset
        self._again_ns = 0
        self._since_ns = 0  # since when a repair is waited for
        self._state: list[tuple[str, Record]] = []
        self._known: set[str] = set()  # ledgers read for the sake of snapshots that had to be made without them
        folded.lacks(lambda: [copy.ledger for copy in self._wanted()])

    def _wanted(self) -> list[Copy]:
        served = self._ledgers.closed
        return [copy for copy in self._copies if copy.ledger not in served and self._is_mine(copy.ledger)]

    def settled(self, *, complete: bool) -> bool:
        """Whether all ledgers that this instance has to hand out are being handed out (``complete``: see below).

        What others alone hold of them may stay away: then it goes on without.
        """
        return not self._taking and (complete or not self._wanted())

    def advance(self, *, complete: bool) -> None:
        """Begin to take over if everything that is wanted is here.

        ``complete``: ledgers of former incarnations that are not closed yet are not to be waited for. Else they are:
        what is known of the others may be written in them.
        """
        mine = self._wanted()
        wanted = [copy for copy in mine if not _is_open(copy)]
        if self._taking or not wanted or not all(copy.whole for copy in wanted):
            return
        if len(wanted) < len(mine) and not complete:
            return
        by_writer: dict[Member, list[Copy]] = {}  # another directory knows nothing of the one before
        for copy in wanted:
            assert copy.record is not None
            by_writer.setdefault(copy.record.writer, []).append(copy)
            self._taking[copy.ledger] = copy.record.end_offset or 0
        for copies in by_writer.values():
            copies.sort(key=lambda copy: LedgerId.parse(copy.ledger).epoch)
        # Who ended later may have dispatched the ledgers of who ended before: it knows more of them.
        order = sorted(by_writer.values(), key=lambda copies: (_closed_ns(copies[-1]), copies[-1].ledger))
        self._to_read = deque([copy.ledger for copy in copies] for copies in order)
        self._read_on()

    def tick(self, now_ns: int, *, complete: bool) -> None:
        """Begin to take over, or look again whether what could not be read has been repaired."""
        self.advance(complete=complete)
        if self._again_ns and now_ns >= self._again_ns:
            self._again_ns = 0
            self._read_on()

    def _read_on(self) -> None:
        if self._to_read:
            self._ledgers.effects.append(ReadState(self._to_read[0]))

    def read(self, answer: StateRead, now_ns: int) -> bool:
        """A part of what is remembered; whether that was all, and the ledgers are served now."""
        if not self._to_read:
            return False
        self._since_ns = self._since_ns or now_ns
        if answer.damaged and now_ns - self._since_ns < REPAIR_NS and any(map(self._repairable, self._to_read[0])):
            self._again_ns = now_ns + AGAIN_NS  # what is missing may be what had been acknowledged
            return False
        self._again_ns = self._since_ns = 0
        if answer.damaged:
            self._folded.damaged(self._to_read[0])
        if lacking := self._lacking(answer.state):
            self._known.update(lacking)
            self._to_read.appendleft(lacking)  # what it says is older than what was just read: that comes again
            self._read_on()
            return False
        self._to_read.popleft()
        self._state += answer.state
        if self._to_read:
            self._read_on()
            return False
        self._known = set()
        state, self._state = self._state, []
        taken, self._taking = self._taking, {}
        still = {name: end for name, end in taken.items() if self._is_mine(name)}
        self.adopt(still, state, now_ns)
        return True

    def _lacking(self, state: States) -> list[str]:
        """What the snapshot had to be made without and is here by now: of one writer, the oldest first."""
        snapshots = [snapshot_decoder.decode(record.payload) for _, record in state if record.kind is Kind.SNAPSHOT]
        names = {name for snapshot in snapshots[:1] for name in snapshot.without} & self._taking.keys() - self._known
        ledgers = sorted(map(LedgerId.parse, names))
        return [str(each) for each in ledgers if each[:2] == ledgers[0][:2]]

    def adopt(self, closed: Mapping[str, int], state: States, now_ns: int) -> None:
        """Serve closed ledgers from now on; ``state`` is what is remembered of them."""
        self._ledgers.adopt(closed)
        self._folded.recover(state, closed, now_ns)
        self._subscriptions.ledgers_changed()
        self._subscriptions.pump(now_ns)

    def _is_mine(self, ledger: str) -> bool:
        copy, me = self._copies.get(ledger), self._copies.me
        record = copy.record if copy is not None else None
        if me is None or copy is None:
            return False
        if record is None:  # its note is lost: the manager will say, and what it wrote itself it may have to hand out
            return ledger.rpartition("/")[0] == me.instance
        if record.dispatcher != me.instance:
            return False
        return record.dispatcher_uuid in ("", me.directory_uuid)

    def let_go(self, now_ns: int) -> bool:
        """Serve no longer what another instance dispatches; whether there was such a ledger."""
        gone = [name for name in self._ledgers.closed if not self._is_mine(name)]
        for name in gone:
            del self._ledgers.closed[name]
        if gone:
            self._subscriptions.let_go(gone, "its ledgers are dispatched by another instance: subscribe again")
        return bool(gone)


def _is_open(copy: Copy) -> bool:
    return copy.record is None or copy.record.state != "CLOSED"


def _closed_ns(copy: Copy) -> int:
    return (copy.record.closed_ns or 0) if copy.record is not None else 0
