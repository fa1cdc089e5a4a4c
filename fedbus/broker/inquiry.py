"""Inquiry: asks those who may have stored earlier tries of withheld batches, until all have answered.

The owner of the ledger is asked first; later every instance of its region, because whoever serves a ledger whose owner
is gone answers in its place. Questions are repeated, answers of any of them count: an answer is a promise for good.
Who gets none for ``max_ms`` is released as a possible duplicate: what it waits for may be lost.
"""

from __future__ import annotations

from collections import defaultdict

from fedbus.broker import protocol as p
from fedbus.broker.judge import MAX_TRIES, Judge
from fedbus.broker.ledger import Ledgers
from fedbus.broker.peers import Peers
from fedbus.broker.record import Kind, encode_body
from fedbus.broker.withheld import Copy
from fedbus.errors import FedbusError
from fedbus.routing.table import RoutingTable

BEAT_NS = 200_000_000
EVERYBODY_NS = 1_000_000_000  # after so long without an answer of its owner all of a region are asked
ANSWER_NS = 5_000_000_000  # later answers are not recognised; by then the question was repeated many times
USER = "inquiry"

Question = tuple[Copy, p.Tried]


class Inquiry:
    """One instance's questions about what it withholds."""

    def __init__(self, ledgers: Ledgers, judge: Judge, peers: Peers, max_ms: int) -> None:
        self._name = judge.writer
        self._ledgers = ledgers
        self._judge = judge
        self._peers = peers
        self._endpoints: dict[str, dict[str, str]] = {}  # region → instance → endpoint
        self._asked: dict[int, tuple[int, list[Question]]] = {}  # by request: since when, what
        self._first_ns: dict[str, int] = {}  # ledger → since when it is asked for
        self._max_ns = max_ms * 1_000_000
        self._since_ns: dict[tuple[str, int], int] = {}  # copy → since when it waits here
        self._numbers = 0
        self._next_ns = 0
        self._known = 0  # how many were withheld at the last look

    def adopt_table(self, table: RoutingTable) -> None:
        """Where instances are."""
        self._endpoints = {
            route.region: {instance.instance: instance.endpoint for instance in route.instances}
            for route in table.regions
        }

    def tick(self, now_ns: int) -> None:
        """Ask what is unanswered, and record what has been decided."""
        withheld = self._ledgers.withheld
        waiting = len(withheld)
        if not waiting:
            if self._known:
                self._end(now_ns)
            return
        if (now_ns < self._next_ns and waiting <= self._known) or not self._ledgers.writable:
            return
        self._known, self._next_ns = waiting, now_ns + BEAT_NS
        self._give_up(now_ns)
        questions: defaultdict[str, list[Question]] = defaultdict(list)
        for copy in withheld:
            for tried in copy.tried:
                questions[tried.ledger].append((copy, tried))
        self._first_ns = {ledger: self._first_ns.get(ledger, now_ns) for ledger in questions}
        self._asked = {number: asked for number, asked in self._asked.items() if now_ns - asked[0] < ANSWER_NS}
        wanted: set[str] = set()
        for ledger, about in questions.items():
            if self._judge.serves(ledger):
                self._ask_self(ledger, about, now_ns)
            else:
                endpoints = self._who(ledger, now_ns)
                wanted |= endpoints
                self._peers.keep(USER, wanted, now_ns)
                for endpoint in sorted(endpoints):
                    self._ask(endpoint, ledger, about, now_ns)
        self._peers.keep(USER, wanted, now_ns)
        self._record(now_ns)

    def _give_up(self, now_ns: int) -> None:
        """A ledger may be lost for ever, or have expired: who has waited for it too long waits no more."""
        self._since_ns = {key: self._since_ns.get(key, now_ns) for key in map(_key, self._ledgers.withheld)}
        for copy in self._ledgers.withheld:
            if now_ns - self._since_ns[_key(copy)] >= self._max_ns:
                for tried in list(copy.tried):
                    self._ledgers.withheld.judged(copy, tried, p.FORGOTTEN)

    def _end(self, now_ns: int) -> None:
        self._known = 0
        self._since_ns.clear()
        self._asked.clear()
        self._first_ns.clear()
        self._peers.keep(USER, (), now_ns)

    def _who(self, ledger: str, now_ns: int) -> set[str]:
        owner = ledger.rpartition("/")[0]
        known = self._endpoints.get(owner.partition("/")[0], {})
        everybody = owner not in known or now_ns - self._first_ns[ledger] >= EVERYBODY_NS
        return {known[name] for name in known if name != self._name} if everybody else {known[owner]}

    def _ask_self(self, ledger: str, about: list[Question], now_ns: int) -> None:
        for part in _parts(about):
            try:
                fates, _ = self._judge.judge(ledger, _tries(part), now_ns)  # the outcome's record comes behind it
            except FedbusError:  # the ledger takes no writes now
                return
            self._take(part, fates)

    def _ask(self, endpoint: str, ledger: str, about: list[Question], now_ns: int) -> None:
        if self._peers.ready(endpoint):
            for part in _parts(about):
                self._numbers += 1
                self._asked[self._numbers] = (now_ns, part)
                self._peers.send(endpoint, p.Reject(self._numbers, ledger, _tries(part)))

    def received(self, message: p.FromInstance, now_ns: int) -> None:
        """Something came from another instance."""
        if isinstance(message, p.Judged) and (asked := self._asked.pop(message.request, None)) is not None:
            self._take(asked[1], message.fates)
            self._record(now_ns)
        elif isinstance(message, p.Welcome) and self._known:
            self._next_ns = 0

    def _take(self, about: list[Question], fates: list[int]) -> None:
        for (copy, tried), fate in zip(about, fates, strict=False):
            self._ledgers.withheld.judged(copy, tried, fate)

    def _record(self, now_ns: int) -> None:
        if not self._ledgers.writable:
            return
        withheld = self._ledgers.withheld
        outcomes = withheld.take_decided()
        if outcomes:
            number = self._ledgers.append(Kind.RESOLVED, now_ns, payload=encode_body(outcomes)).number
            withheld.recorded(number, outcomes)


def _key(copy: Copy) -> tuple[str, int]:
    return copy.ledger, copy.first_offset


def _parts(about: list[Question]) -> list[list[Question]]:
    return [about[at : at + MAX_TRIES] for at in range(0, len(about), MAX_TRIES)]


def _tries(about: list[Question]) -> list[p.Try]:
    return [p.Try(copy.producer, tried.sequence, copy.attempt) for copy, tried in about]
