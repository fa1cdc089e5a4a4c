"""The manager of a simulated region: a store, the real plan, and messages that may be late."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from fedbus.broker import copy_effects as c
from fedbus.broker import effects as e
from fedbus.broker.state import GroupRecord
from fedbus.control.holders import Holder, LedgerView, Settings
from fedbus.control.ledger_requests import Grant, Refusal, answer
from fedbus.control.replication import plan, to_push
from fedbus.ledger_record import TRANSITIONS, Held, LedgerRecord
from fedbus.position import LedgerId

if TYPE_CHECKING:
    from tests.broker.replica_node import ReplicaNode
    from tests.broker.replicated_world import ReplicatedWorld

STRAINED_NS = 10_000_000_000
MANAGER = "manager"


class Keeper:
    """``records`` is the store; a change is refused unless it was made from the newest version."""

    def __init__(self, world: ReplicatedWorld, settings: Settings) -> None:
        self.world = world
        self.settings = settings
        self.records: dict[str, LedgerRecord] = {}
        self.asked: deque[tuple[str, int, c.Request]] = deque()
        self.pushed: deque[tuple[str, int, e.Input]] = deque()
        self.waiting: dict[str, str] = {}
        self.groups: dict[str, GroupRecord] = {}
        self._reports: dict[str, tuple[Holder, int]] = {}  # by name, with the incarnation that it was of
        self._silent_ns: dict[str, int] = {}
        self._told: dict[str, tuple[int, dict[str, str]]] = {}
        self._strained: dict[tuple[str, str], int] = {}

    def ask(self, node: ReplicaNode, request: c.Request) -> None:
        self.asked.append((node.name, node.starts, request))

    def forget(self, node: ReplicaNode) -> None:
        self.asked = deque(asked for asked in self.asked if asked[0] != node.name)

    def other(self, node: ReplicaNode, effect: e.Effect) -> None:
        """Groups are made for everybody at once."""
        if isinstance(effect, e.RequestGroup) and effect.spec.name not in self.groups:
            spec = msgspec.structs.replace(effect.spec, created_ns=self.world.now_ns)
            self.groups[spec.name] = GroupRecord(spec)

    # -- what it sees --------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        for node in self.world.nodes.values():
            if not node.alive or self.world.cut(node.name, MANAGER):
                self._silent_ns.setdefault(node.name, self.world.now_ns)
                continue
            self._silent_ns.pop(node.name, None)
            status = node.core.status()
            opens = [LedgerId.parse(r.ledger).epoch for r in status.requests if r.kind == "open" and not r.writing]
            held: dict[str, Held] = {each.ledger: each for each in status.held}
            epoch = opens[0] if opens else None
            holder = Holder(member=node.member, node=node.name, held=held, from_epoch=epoch, writing=status.ledger)
            self._reports[node.name] = (holder, node.starts)

    def view(self) -> LedgerView:
        holders = []
        for name, (holder, starts) in sorted(self._reports.items()):
            silent_ns = self._silent_ns.get(name)
            present = silent_ns is None and starts == self.world.nodes[name].starts
            holders.append(msgspec.structs.replace(holder, present=present, silent_since_ns=silent_ns))
        strained = frozenset(pair for pair, ns in self._strained.items() if self.world.now_ns - ns < STRAINED_NS)
        records = tuple(self.records[name] for name in sorted(self.records))
        return LedgerView(
            records=records, holders=tuple(holders), now_ns=self.world.now_ns, settings=self.settings, strained=strained
        )

    # -- what it does --------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Hear everybody, take the next steps, answer requests, tell everybody what is new."""
        self._hear()
        planned = plan(self.view())
        self.waiting = planned.waiting
        for change in planned.changes:
            self._swap(*change.records)
        for review in planned.reviews:
            self._push(review.instance, c.ReviewEnsemble(review.ledger))
        for _ in range(len(self.asked)):
            self._answer(*self.asked.popleft())
        pushes = to_push(self.view())
        for node in self.world.nodes.values():
            told = (node.starts, self._endpoints())
            if node.instance in pushes or self._told.get(node.name) != told:
                self._told[node.name] = told
                self._tell(node.instance, pushes.get(node.instance, []))
        for node in self.world.nodes.values() if self.groups else ():
            self._push(node.instance, e.ApplyGroups(list(self.groups.values())))

    def _answer(self, name: str, starts: int, request: c.Request) -> None:
        node = self.world.nodes[name]
        for silent in request.silent:
            self._strained[node.instance, silent] = self.world.now_ns
        if starts != node.starts and request.kind == "open":
            return  # the actor that called is gone
        given = answer(self.view(), node.instance, request)
        if isinstance(given, Grant):
            record = given.record
            if given.store == "add":
                self._add(record)
            elif given.store == "swap":
                self._swap(record)
            self._tell(node.instance, [self.records[record.id]])
        elif isinstance(given, Refusal):
            self._push(node.instance, c.RequestRefused(request.ledger, given.detail))

    def _add(self, record: LedgerRecord) -> None:
        assert record.id not in self.records
        self.records[record.id] = msgspec.structs.replace(record, version=1)

    def _swap(self, *records: LedgerRecord) -> None:
        for record in records:
            before = self.records[record.id]
            assert before.version == record.version, "planned from what the store has"
            assert (before.state, record.state) in TRANSITIONS, f"{before.state} → {record.state}"
            if record.state == "CLOSED" and before.state == "CLOSED":
                assert (record.end_number, record.end_offset) == (before.end_number, before.end_offset), "V3: moved end"
            self.records[record.id] = msgspec.structs.replace(record, version=record.version + 1)
            self.world.decided(self.records[record.id])

    def _tell(self, instance: str, records: list[LedgerRecord]) -> None:
        self._push(instance, c.ApplyLedgers(records, self._endpoints()))

    def _endpoints(self) -> dict[str, str]:
        nodes = self.world.nodes.values()
        return {node.instance: node.endpoint for node in nodes if node.up and node.name not in self._silent_ns}

    def _push(self, instance: str, event: e.Input) -> None:
        name = instance.rpartition("/")[2]
        self.pushed.append((name, self.world.nodes[name].starts, event))

    def deliver(self) -> bool:
        """What it has told reaches the instances, unless they are cut off (the call fails, it is told again)."""
        moved = False
        for _ in range(len(self.pushed)):
            name, starts, event = self.pushed.popleft()
            node = self.world.nodes[name]
            if node.up and node.starts == starts and not self.world.cut(MANAGER, name):
                node.handle(event)
                moved = True
            else:
                self._told.pop(name, None)
        return moved
