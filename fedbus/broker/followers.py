"""The other members of the open ledger: what each has, what is on its way to it, and who does not answer.

Records go to them as they are written, many in a message, and again when no answer comes; what follows from their
answers is decided in ``broker/ensemble.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from fedbus.broker import protocol as p
from fedbus.broker.ledger import Ledgers
from fedbus.broker.peers import Peers
from fedbus.broker.record import Record, ledger_seed
from fedbus.ledger_record import LedgerRecord, Member

APPEND_BYTES = 1024 * 1024  # about so many of records in one message
AGAIN_NS = 100_000_000  # an append without an answer is sent again
LATE_TICKS = 3  # looks in a row that find a member silent, before it counts as silent
NOWHERE = "missing:"  # begins the place of one that is not running: it answers nothing, and is replaced


class Follower:
    """Another member. It has every record below ``has``; those below ``next`` are on their way to it."""

    __slots__ = ("confirmed", "endpoint", "failed", "has", "late", "member", "next", "owed", "sent_ns", "since_ns")

    def __init__(self, member: Member, endpoint: str, number: int, now_ns: int) -> None:
        self.member = member
        self.endpoint = endpoint
        self.has = self.next = self.owed = number
        self.confirmed = 0  # what it was told
        self.since_ns = now_ns  # the last time it had nothing to answer, or answered something new
        self.sent_ns = now_ns
        self.late = 0  # how often in a row it was found silent
        self.failed = False

    @property
    def instance(self) -> str:
        """Its name, whatever directory it has."""
        return self.member.instance


class Followers:
    """All other members. ``shared``: records below may be on other disks; ``fenced``: why the writer has to stop."""

    def __init__(self, ledgers: Ledgers, peers: Peers) -> None:
        self.fenced = ""
        self.shared = 0
        self._ledgers = ledgers
        self._peers = peers
        self._record: LedgerRecord | None = None
        self._seed = 0
        self._all: dict[str, Follower] = {}

    def __iter__(self) -> Iterator[Follower]:
        return iter(self._all.values())

    def __bool__(self) -> bool:
        return bool(self._all)

    def begin(self) -> None:
        """Another ledger, or none: nobody has anything of it."""
        self._record = None
        self._all = {}
        self.shared = 0

    def gather(self, record: LedgerRecord, me: Member | None, endpoints: Mapping[str, str], now_ns: int) -> None:
        """The members of the last fragment, as far as they are others; who was one before keeps what it has."""
        former = {follower.member: follower for follower in self}  # with another directory it is another one
        self._record, self._seed, self._all = record, ledger_seed(record.id), {}
        first = self._ledgers.confirmed_number + 1
        for member in record.last.members:
            if member == me:
                continue
            endpoint = endpoints.get(member.instance, NOWHERE + member.instance)
            follower = former.get(member)
            if follower is None or follower.endpoint != endpoint or follower.failed:
                follower = Follower(member, endpoint, first, now_ns)
            follower.since_ns = now_ns
            self._all[endpoint] = follower

    def elsewhere(self, endpoints: Mapping[str, str]) -> bool:
        """Whether one of them is at another endpoint than before."""
        return any(endpoints.get(each.instance, each.endpoint) != each.endpoint for each in self)

    def endpoints(self) -> set[str]:
        """Where they are."""
        return {endpoint for endpoint in self._all if not endpoint.startswith(NOWHERE)}

    def flush(self, now_ns: int) -> None:
        """Send what is new to all of them."""
        end = self._ledgers.next_number()
        for follower in self:
            if follower.has >= follower.owed:  # until now it had answered everything
                follower.since_ns = now_ns
            follower.owed = end
            if follower.next < end and not follower.failed and self._peers.ready(follower.endpoint):
                self._send(follower, end, now_ns)

    def _send(self, follower: Follower, end: int, now_ns: int) -> None:
        pending = self._ledgers.pending
        if not pending or follower.next < pending[0].number:
            follower.failed = follower.next < end  # it lacks what is confirmed: as a member it began elsewhere
            return
        group: list[Record] = []
        size_bytes = 0
        for record in islice(pending, follower.next - pending[0].number, None):
            group.append(record)
            size_bytes += record.size_bytes
            if size_bytes >= APPEND_BYTES:
                self._append(follower, group, now_ns)
                group, size_bytes = [], 0
        if group:
            self._append(follower, group, now_ns)

    def _append(self, follower: Follower, group: list[Record], now_ns: int) -> None:
        assert self._record is not None, "followers come from a record"
        confirmed = self._ledgers.confirmed_number + 1
        append = p.Append(self._record.id, self._record.term, follower.next, confirmed)
        frames = tuple(frame for record in group for frame in record.buffers(self._seed))
        self._peers.send(follower.endpoint, append, frames)
        follower.next += len(group)
        follower.confirmed = confirmed
        follower.sent_ns = now_ns
        self.shared = max(self.shared, follower.next)

    def _of(self, endpoint: str, ledger: str) -> Follower | None:
        """Who answers, if it is about the ledger that is open."""
        return self._all.get(endpoint) if self._record is not None and ledger == self._record.id else None

    def appended(self, endpoint: str, answer: p.Appended, now_ns: int) -> None:
        """A member has more on its disk."""
        follower = self._of(endpoint, answer.ledger)
        if follower is not None and answer.number >= follower.has:
            follower.has = min(answer.number + 1, self._ledgers.next_number())
            follower.next = max(follower.next, follower.has)
            follower.since_ns = now_ns

    def refused(self, endpoint: str, answer: p.AppendRefused) -> None:
        """A member took nothing."""
        follower = self._of(endpoint, answer.ledger)
        if follower is None:
            return
        if answer.code == "fenced":
            self.fenced = f"ledger {answer.ledger} was taken over, says {follower.instance}"
        elif answer.code == "gap":
            follower.next = max(follower.has, min(answer.next_number, self._ledgers.next_number()))
        elif answer.code == "failed":
            follower.failed = True

    def welcomed(self, endpoint: str) -> None:
        """A session with a member stands: what was on its way in another may be lost."""
        if (follower := self._all.get(endpoint)) is not None:
            follower.next = follower.has

    def tick(self, now_ns: int, silence_ns: int) -> None:
        """Give up on who is silent, send again what was not answered, and tell what is confirmed."""
        confirmed, end = self._ledgers.confirmed_number + 1, self._ledgers.next_number()
        for follower in self:
            # Its answer may be here, unread, if it was this instance that stood still: look again before giving up.
            follower.late = follower.late + 1 if follower.has < end and now_ns - follower.since_ns > silence_ns else 0
            if follower.late >= LATE_TICKS:
                follower.failed = True
            if follower.has < follower.next and now_ns - follower.sent_ns > AGAIN_NS:
                follower.next = follower.has
            elif follower.has == end and follower.confirmed < confirmed and self._peers.ready(follower.endpoint):
                self._append(follower, [], now_ns)
