"""The keeper of a region's ledgers: carries out the replication plan over the store and the instances.

Two doors. ``step`` in the manager's watch: what the instances report, the plan, compare-and-swaps, and records pushed
to whoever has not noted them. ``request``, at any time and from any thread: what an instance asks for, answered at
once. Decides nothing (``fedbus/control/replication.py`` does) and remembers nothing that the store or a repeated report
would not tell: it may be killed between any two lines.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from threading import RLock

from fedbus.broker.copy_effects import Request
from fedbus.clock import NS_PER_S, Clock
from fedbus.control.holders import Holder, LedgerView, Settings
from fedbus.control.replication import Change, Grant, Later, Plan, answer, plan, to_push, unfinished_drain
from fedbus.ledger_record import LedgerRecord, Member
from fedbus.position import LedgerId
from fedbus.storage.store import Store
from fedbus_actors.ledger_pushes import REPEAT_NS, Kept, LedgerPushes

BUSY_NS = 2 * NS_PER_S
STRAINED_NS = 10 * NS_PER_S

log = logging.getLogger(__name__)


class LedgerKeeper:
    """The keeper of one region; ``clock`` is real time, ``note`` writes to the region's status log."""

    def __init__(self, store: Store, settings: Settings, clock: Clock, note: Callable[[str, str], None]) -> None:
        self._store, self._settings, self._clock, self._note = store, settings, clock, note
        self._lock = RLock()
        self._records = {record.id: record for record in store.ledgers.all()}
        self._kept: dict[str, Kept] = {}
        self._opens: dict[str, Request] = {}
        self._strained: dict[tuple[str, str], int] = {}
        self._pushes = LedgerPushes(clock)
        self._said: dict[tuple[str, str], int] = {}
        self._busy_until_ns = 0
        self.plan = Plan()

    # -- asked by others -----------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether something is under way for which the next watch should come soon."""
        return self._clock.monotonic_ns() < self._busy_until_ns

    def records(self) -> list[LedgerRecord]:
        """All ledger records, by id."""
        with self._lock:
            return [self._records[ledger] for ledger in sorted(self._records)]

    def unfinished_drain(self, instance: str) -> str:
        """What keeps a draining instance (region/id), in words; empty: it may stop."""
        with self._lock:
            return unfinished_drain(self._view(), instance)

    # -- the watch -----------------------------------------------------------------------------------------------------

    def step(self, instances: Sequence[Kept]) -> None:
        """Carry the plan one step further. Raises ConflictError if another manager changes the store."""
        with self._lock, self._read_again():
            self._kept = {kept.name: kept for kept in instances}
            self._pushes.keep(self._kept)
            self._forget_what_is_over()
            for kept in self._kept.values():
                for request in kept.status.requests if kept.status is not None else ():
                    if request.kind == "open":
                        self._opens.setdefault(kept.name, request)  # lost on its way here
            for name, request in list(self._opens.items()):
                self._answer(name, request)
            planned = self.plan = plan(self._view())
            for change in planned.changes:
                self._carry_out(change)
            for record in planned.forgotten:
                self._store.ledgers.delete(record)
                del self._records[record.id]
                self._note("ledger", f"{record.id} is forgotten: no files of it are left")
            self._push()
            for review in planned.reviews:
                if self._due("review", review.ledger):
                    self._kept[review.instance].calls.review_ensemble(review.ledger)
            for closing in planned.closings:
                if self._due("close", closing.ledger):
                    self._kept[closing.instance].calls.close_ledger()

    def request(self, instance: str, request: Request) -> None:
        """What ``instance`` (region/id) asks for: answered now, or by a later step. Raises as :meth:`step`."""
        with self._lock, self._read_again():
            self._get_busy()
            now_ns = self._clock.monotonic_ns()
            for silent in request.silent:
                self._strained[instance, silent] = now_ns
            if request.kind == "open":
                self._opens[instance] = request
            if self._kept:
                self._answer(instance, request)
                self._push()

    def _forget_what_is_over(self) -> None:
        now_ns = self._clock.monotonic_ns()
        self._strained = {pair: at for pair, at in self._strained.items() if now_ns - at < STRAINED_NS}
        self._said = {key: at for key, at in self._said.items() if now_ns - at < REPEAT_NS}
        self._opens = {name: request for name, request in self._opens.items() if name in self._kept}

    def _due(self, kind: str, ledger: str) -> bool:
        if (kind, ledger) in self._said:
            return False
        self._said[kind, ledger] = self._clock.monotonic_ns()
        self._get_busy()
        return True

    def _get_busy(self) -> None:
        self._busy_until_ns = self._clock.monotonic_ns() + BUSY_NS

    # -- what is so ----------------------------------------------------------------------------------------------------

    def _view(self) -> LedgerView:
        return LedgerView(
            records=tuple(self._records[ledger] for ledger in sorted(self._records)),
            holders=tuple(_holder(kept, self._opens.get(kept.name)) for kept in self._kept.values()),
            now_ns=self._clock.monotonic_ns(),
            wall_ns=self._clock.now_ns(),
            settings=self._settings,
            strained=frozenset(self._strained),
        )

    # -- what is done --------------------------------------------------------------------------------------------------

    def _answer(self, instance: str, request: Request) -> None:
        found = answer(self._view(), instance, request)
        match found:
            case Later():
                return  # a step, or the repeated request, comes back to it
            case Grant(record, store):
                if store == "add":
                    self._store_records([self._store.ledgers.add(record)])
                    members = ", ".join(member.instance for member in record.members)
                    self._note("ledger", f"{instance} opens {record.id} on {members}")
                elif store == "swap":
                    self._store_records(self._store.ledgers.swap(record))
                    self._note("ledger", f"{record.id}: {_described(request, record)}")
                if request.kind == "open":
                    self._opens.pop(instance, None)
                self._pushes.tell(instance, [self._records[record.id]])
            case _:
                # It stays known that the instance writes nothing: its former ledgers are over.
                kept = self._kept.get(instance)
                if kept is not None and (request.kind != "open" or self._due("refuse", request.ledger)):
                    kept.calls.request_refused(request.ledger, found.detail)

    def _carry_out(self, change: Change) -> None:
        if change.kind == "dispatch":
            before = self._records[change.records[0].id].dispatcher
            receiver, heir = (name.rpartition("/")[2] for name in (before, change.records[0].dispatcher))
            self._store_records(self._store.pass_on(change.records, receiver, heir, self._clock.now_ns()))
        else:
            self._store_records(self._store.ledgers.swap(*change.records))
        self._note("ledger", f"{change.kind} {', '.join(record.id for record in change.records)}: {change.reason}")

    @contextlib.contextmanager
    def _read_again(self) -> Iterator[None]:
        """After a write that failed what is in the store may not be what is known here."""
        try:
            yield
        except Exception:
            self._records = {record.id: record for record in self._store.ledgers.all()}
            raise

    def _store_records(self, records: list[LedgerRecord]) -> None:
        self._records |= {record.id: record for record in records}
        self._get_busy()

    def _push(self) -> None:
        if self._pushes.push(to_push(self._view())):
            self._get_busy()


def _described(request: Request, record: LedgerRecord) -> str:
    if record.state == "CLOSED":
        return f"closed by its writer, {record.end_number} records"
    members = ", ".join(member.instance for member in record.last.members)
    silent = f" ({', '.join(request.silent)} silent)" if request.silent else ""
    return f"members from record {record.last.first_number} on: {members}{silent}"


def _holder(kept: Kept, opening: Request | None) -> Holder:
    """The instance as the plan sees it; ``opening``: its request for a ledger that was not answered yet."""
    starting = opening is not None and not opening.writing
    return Holder(
        member=Member(kept.name, kept.directory_uuid),
        node=kept.node,
        present=kept.present,
        silent_since_ns=kept.silent_since_ns,
        stage=kept.stage,
        from_epoch=LedgerId.parse(opening.ledger).epoch if opening is not None and starting else None,
        writing=kept.status.ledger if kept.status is not None else "",
        held={held.ledger: held for held in kept.status.held} if kept.status is not None else {},
        expired=tuple(kept.status.expired_ledgers) if kept.status is not None else (),
    )
