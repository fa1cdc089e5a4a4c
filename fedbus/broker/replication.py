"""Replication of one instance: as writer, member and dispatcher of ledgers, put together.

Takes the inputs and messages that concern copies, and says what the manager has to be asked and told.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedbus.batch import Buffer
from fedbus.broker import copy_effects as c
from fedbus.broker import protocol as p
from fedbus.broker.adoption import Adoption
from fedbus.broker.copies import Copies
from fedbus.broker.effects import Input
from fedbus.broker.ensemble import Ensemble
from fedbus.broker.fetch_source import FetchSource
from fedbus.broker.fetches import Fetches
from fedbus.broker.home import Home
from fedbus.broker.ledger import Ledgers
from fedbus.broker.lineage import Lineage
from fedbus.broker.peers import Peers
from fedbus.broker.recovery import FoldedState
from fedbus.broker.subscriptions import Subscriptions
from fedbus.errors import FedbusError, StorageError
from fedbus.ledger_record import Held, LedgerRecord
from fedbus.limits import Limits
from fedbus.position import LedgerId

ASK_AGAIN_NS = 300_000_000


class Replication:
    """One instance's. Not managed (``home`` is ``None``): the own disk is the only copy, and nobody is asked."""

    def __init__(
        self,
        name: LedgerId,
        home: Home | None,
        ledgers: Ledgers,
        peers: Peers,
        folded: FoldedState,
        subscriptions: Subscriptions,
        limits: Limits,
    ) -> None:
        self.managed = home is not None
        self.expired: list[str] = []  # ledgers whose retention has passed, since last asked
        self._ledgers = ledgers
        self._peers = peers
        self.copies = Copies(home, ledgers)
        self.ensemble = Ensemble(ledgers, peers, self.copies.me, limits.replica_silence_ms)
        self.fetches = Fetches(self.copies, ledgers, peers, limits.read_chunk_bytes)
        self.lineage = Lineage(name, ledgers, self.ensemble, self.copies, limits, managed=self.managed)
        self._source = FetchSource(self.copies, ledgers, limits.reads_waiting)
        self.adoption = Adoption(self.copies, ledgers, folded, subscriptions, self.fetches.repairable)
        self._asked_ns: dict[c.Request, int] = {}

    def start(self, now_ns: int, *, begun: bool) -> None:
        """The incarnation begins, with a ledger whose files are there (``begun``) or not, or with none."""
        if self._ledgers.current:
            self.lineage.open(self._ledgers.current, now_ns, begun=begun)

    # -- inputs --------------------------------------------------------------------------------------------------------

    def control(self, event: Input, now_ns: int) -> None:
        """What the manager or the disk says."""
        match event:
            case c.CopyDurable(ledger, number):
                self.copies.durable(ledger, number)
                self.fetches.advance(now_ns)
            case c.CopyRefused(ledger, _, detail):
                self.copies.refused(ledger, detail, now_ns)
            case c.CopyFailed(ledger, detail):
                self.copies.failed(ledger, detail)
            case c.ApplyLedgers(records, endpoints):
                self._apply(records, endpoints, now_ns)
            case c.ReviewEnsemble(ledger):
                if self.ensemble.record is not None and ledger == self._ledgers.current:
                    self.ensemble.frozen_ns = self.ensemble.frozen_ns or now_ns
            case c.LedgerBegun(ledger):
                self.lineage.begun(ledger)
            case c.BeginRefused(ledger, detail):
                self.lineage.refused(ledger, detail)
            case _:
                self._found(event, now_ns)
        self.adoption.advance(complete=self.lineage.assured(now_ns))

    def _found(self, event: Input, now_ns: int) -> None:
        match event:
            case c.Noted(ledger, version):
                self.copies.noted(ledger, version)
                self.ensemble.was_noted(ledger, version)
            case c.RawRecords():
                self._source.read(event)
            case c.Scrubbed(ledger, damaged):
                self.fetches.scrubbed(ledger, damaged, now_ns)
                self.fetches.advance(now_ns)
            case c.StateRead():
                self.adoption.read(event, now_ns)

    def _apply(self, records: list[LedgerRecord], endpoints: dict[str, str], now_ns: int) -> None:
        self.fetches.endpoints |= endpoints  # one that is not named may be back when it is needed
        for record in records:
            if record.id == self._ledgers.current:
                self.ensemble.apply(record, self.fetches.endpoints, now_ns)
            elif record.writer != self.copies.me or not self.lineage.grant(record, now_ns):
                self.copies.apply(record)
                self.lineage.closed(record)
                if str(record.state) == "EXPIRED":
                    self.expired.append(record.id)
        self.ensemble.moved(self.fetches.endpoints, now_ns)
        self.fetches.open_record = self.ensemble.record
        self.adoption.let_go(now_ns)
        self.fetches.advance(now_ns)
        self._keep_peers(now_ns)

    def message(self, session: bytes, message: p.Append | p.Fetch, frames: Sequence[Buffer], now_ns: int) -> None:
        """What another instance asks of this one; raises :class:`ProtocolError` on damaged records."""
        if isinstance(message, p.Append):
            self.copies.append(session, message, frames, now_ns)
        else:
            self._source.fetch(session, message)

    def peer(self, endpoint: str, message: p.FromInstance, frames: Sequence[Buffer], now_ns: int) -> None:
        """What an instance that was dialled answers; raises :class:`ProtocolError` on damaged records."""
        match message:
            case p.Appended():
                self.ensemble.followers.appended(endpoint, message, now_ns)
            case p.AppendRefused():
                self.ensemble.followers.refused(endpoint, message)
            case p.Fetched():
                self.fetches.fetched(endpoint, message, frames, now_ns)
            case p.Welcome():
                self.ensemble.followers.welcomed(endpoint)
                self.fetches.welcomed(endpoint)
            case p.Refused():
                self.fetches.refused(endpoint, message)

    # -- going on ------------------------------------------------------------------------------------------------------

    def advance(self, now_ns: int) -> bool:
        """After an input: go on to the next ledger if it is time, and send what is new; whether a ledger began."""
        ready = bool(self._ledgers.current) or self.adoption.settled(complete=self.lineage.assured(now_ns))
        switched = self.lineage.advance(self.fetches.endpoints, now_ns, ready=ready)
        if switched:
            self.fetches.open_record = self.ensemble.record
            self._keep_peers(now_ns)
        if self.ensemble.followers:
            self.ensemble.flush(now_ns)
        return switched

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        self.lineage.tick(now_ns)
        if not self.managed:
            self._ledgers.refusal = self._refusal(now_ns)
            return
        self.ensemble.tick(now_ns)
        self.fetches.tick(now_ns)
        self.adoption.tick(now_ns, complete=self.lineage.assured(now_ns))
        self._keep_peers(now_ns)
        self._ask(now_ns)
        self._ledgers.refusal = self._refusal(now_ns)

    def _refusal(self, now_ns: int) -> tuple[type[FedbusError], str] | None:
        if self.lineage.refusal:
            return StorageError, self.lineage.refusal
        return self.ensemble.refusal(now_ns)

    def _keep_peers(self, now_ns: int) -> None:
        self._peers.keep("copies", self.ensemble.followers.endpoints() | self.fetches.endpoints_in_use(), now_ns)

    def requests(self) -> list[c.Request]:
        """What is asked of the manager and not answered."""
        change = self.ensemble.request()
        return [*self.lineage.requests(), *([change] if change is not None else [])]

    def _ask(self, now_ns: int) -> None:
        asked, self._asked_ns = self._asked_ns, {}
        for request in self.requests():
            before_ns = asked.get(request, -ASK_AGAIN_NS)
            if now_ns - before_ns >= ASK_AGAIN_NS:
                self._ledgers.effects.append(request)
                before_ns = now_ns
            self._asked_ns[request] = before_ns

    def held(self) -> list[Held]:
        """What is durable here of each ledger."""
        held = self.copies.held()
        if (own := self.ensemble.held()) is not None:
            held.append(own)
        return held
