"""The writer's side of the open ledger: which records every member has, and what happens when one is silent.

A record is confirmed when it is on the own disk and on that of every other member of the ledger's last fragment. A
member that is silent, or refuses, freezes the confirmations: others are asked of the manager from the first unconfirmed
record on, and until a newer version of the ledger's record comes nothing more is confirmed (protocol rule 4). So what
was confirmed before is on all former members, and what comes later on all new ones, whenever the request is granted.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedbus.broker.copy_effects import Note, Request
from fedbus.broker.followers import Followers
from fedbus.broker.ledger import Ledgers
from fedbus.broker.peers import Peers
from fedbus.errors import FedbusError, StorageError, UnderReplicatedError
from fedbus.ledger_record import Held, LedgerRecord, Member

WRITE_AGAIN_NS = 200_000_000  # a write that a full disk refused is tried again
PATIENCE = 3  # times the silence after which publishing is refused rather than kept waiting


class Ensemble:
    """All members of the open ledger; without ``record`` the own disk is the only one, for ever."""

    def __init__(self, ledgers: Ledgers, peers: Peers, me: Member | None, silence_ms: int) -> None:
        self.record: LedgerRecord | None = None
        self.followers = Followers(ledgers, peers)
        self.own_number = 0  # the own disk has every record below
        self.frozen_ns = 0  # since when; 0: not
        self._ledgers = ledgers
        self._me = me
        self._silence_ns = silence_ms * 1_000_000
        self._noted: LedgerRecord | None = None  # the record on disk
        self._full = ""  # what the own disk said
        self._write_again_ns = 0

    # -- the record ----------------------------------------------------------------------------------------------------

    @property
    def fenced(self) -> str:
        """Why this writer has to stop for good."""
        return self.followers.fenced

    def begin(self, record: LedgerRecord | None, endpoints: Mapping[str, str], now_ns: int) -> None:
        """A new ledger has begun: nothing of it is anywhere."""
        self.record, self._noted = record, None
        self.frozen_ns = self.own_number = 0
        self._full = ""
        self.followers.begin()
        if record is not None:
            self.followers.gather(record, self._me, endpoints, now_ns)

    def apply(self, record: LedgerRecord, endpoints: Mapping[str, str], now_ns: int) -> None:
        """A newer version of the open ledger's record."""
        if self.record is None or record.version <= self.record.version:
            return
        if record.state != "OPEN" or record.term != self.record.term or self._me not in record.last.members:
            self.followers.fenced = f"ledger {record.id} was taken over (term {record.term}, {record.state})"
            return
        self.record = record
        self.frozen_ns = 0
        self._ledgers.effects.append(Note(record))
        self.followers.gather(record, self._me, endpoints, now_ns)

    def moved(self, endpoints: Mapping[str, str], now_ns: int) -> None:
        """Instances may have other endpoints than before."""
        if self.record is not None and self.followers.elsewhere(endpoints):
            self.followers.gather(self.record, self._me, endpoints, now_ns)

    def was_noted(self, ledger: str, version: int) -> None:
        """The record is on disk in this version."""
        if self.record is not None and (ledger, version) == (self.record.id, self.record.version):
            self._noted = self.record

    # -- what is where -------------------------------------------------------------------------------------------------

    def durable(self, number: int) -> int:
        """The own disk has everything up to ``number``; returns up to where all members have it."""
        self.own_number = number + 1
        self._full = ""
        return self.confirmable() if self.followers or self.frozen_ns else number

    def confirmable(self) -> int:
        """The newest record that all members have (none beyond what is confirmed while frozen)."""
        if self.frozen_ns:
            return self._ledgers.confirmed_number
        return min([self.own_number, *(follower.has for follower in self.followers)]) - 1

    @property
    def silent(self) -> tuple[str, ...]:
        """The members because of which confirmations are frozen."""
        return tuple(sorted(follower.instance for follower in self.followers if follower.failed))

    def held(self) -> Held | None:
        """What is durable here of the open ledger."""
        if self._noted is None:
            return None
        pending = self._ledgers.pending
        offsets = (record.next_offset for record in pending if record.number == self.own_number - 1)
        return Held(
            ledger=self._noted.id, version=self._noted.version, term=self._noted.term, first_number=0,
            end_number=self.own_number, end_offset=next(offsets, self._ledgers.confirmed_offset),
            confirmed=self._ledgers.confirmed_number + 1, serving=True,
        )  # fmt: skip

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    def refused(self, detail: str, now_ns: int) -> bool:
        """The own disk is full; whether the writes are to be tried again (else they are void, their numbers free).

        A number that another disk, or this one, may know already is never used for something else.
        """
        if not self.followers and not self.frozen_ns and self.followers.shared <= self.own_number:
            self._full, self._ledgers.holding = "", False
            return False
        self._full = detail
        self._ledgers.generation += 1
        self._ledgers.holding = True
        self._write_again_ns = now_ns + WRITE_AGAIN_NS
        return True

    def refusal(self, now_ns: int) -> tuple[type[FedbusError], str] | None:
        """Why a batch would not be acknowledged soon."""
        if self._full:
            return StorageError, self._full
        if self.frozen_ns and now_ns - self.frozen_ns > PATIENCE * self._silence_ns:
            who = ", ".join(self.silent) or "its members"
            return UnderReplicatedError, f"ledger {self._ledgers.current} waits for others in the place of {who}"
        return None

    def flush(self, now_ns: int) -> None:
        """Send what is new to the others."""
        if self._ledgers.holding and not self._full:
            return  # a crash now must not leave records elsewhere of a ledger that this directory does not know
        self.followers.flush(now_ns)

    def tick(self, now_ns: int) -> None:
        """Try again what was refused or not answered; members that are silent freeze the confirmations."""
        if self._full and self._ledgers.holding and now_ns >= self._write_again_ns:
            self._write_again_ns = now_ns + WRITE_AGAIN_NS
            self._ledgers.release(self.own_number)
        if self._full or not self._ledgers.holding:  # else nothing was sent: the ledger has no files yet
            self.followers.tick(now_ns, self._silence_ns)
        if self.silent:
            self.frozen_ns = self.frozen_ns or now_ns
        self.flush(now_ns)

    def request(self) -> Request | None:
        """The change that is to be asked for."""
        if not self.frozen_ns or self.record is None:
            return None
        return Request(
            "ensemble", self.record.id, self.record.version, self._ledgers.confirmed_number + 1,
            self._ledgers.confirmed_offset, self.silent,
        )  # fmt: skip
