"""The fleet: the bus instances of one region as its manager has them, and how directives change it.

Everything that must survive the manager is in the store before it is done; every step can be repeated, so that a
manager that was killed in the middle goes on where its predecessor stopped. Drain and health run on real time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from fedbus.clock import Clock, SystemClock
from fedbus.control.directive import Directive
from fedbus.control.health import ActorState, InstanceHealth, State
from fedbus.errors import FedbusError
from fedbus.options.federation import FederationOptions
from fedbus.position import LedgerId
from fedbus.storage.store import Instance, Store
from fedbus_actors import remote
from fedbus_actors.health_monitor import Target, Vital
from fedbus_actors.pinned_instance import InstanceReport
from fedbus_actors.provisioner import Provisioner

ASK_S = 2.0
POLL_S = 0.5
STOP_S = 15.0

log = logging.getLogger(__name__)


class Member:
    """One living instance: its record, its actor, what it said last, how it is."""

    def __init__(self, record: Instance, handle: Any, now_ns: int) -> None:
        self.record = record
        self.handle = handle
        self.report: InstanceReport | None = None
        self.asked: Any = None  # the call for a report that is under way
        self.fresh = False
        self.vital = Vital(InstanceHealth("starting", now_ns), None)
        self.drain_until_ns: int | None = None

    def ask(self) -> Any:
        """Ask for a report, unless it has been asked and has not answered."""
        if self.asked is None:
            self.asked = self.handle.report.remote()
        return self.asked

    @property
    def name(self) -> str:
        """Its name in routing tables: region/instance."""
        return f"{self.record.region}/{self.record.id}"

    @property
    def state(self) -> State:
        """Its health; one that is on its way out drains, whatever else it does."""
        draining = self.record.state == "draining" and self.vital.health.state in ("healthy", "degraded", "draining")
        return "draining" if draining else self.vital.health.state

    @property
    def backlog(self) -> int:
        """Events its groups have not settled."""
        return 0 if self.report is None else sum(group.backlog for group in self.report.status.groups if group.members)


class Fleet:
    """All living instances of the region."""

    def __init__(
        self,
        region: str,
        options: FederationOptions,
        store: Store,
        provisioner: Provisioner,
        clock: Clock,
        note: Callable[[str, str], None],
    ) -> None:
        self._region = region
        self._options = options.regions[region]
        self._manager = options.manager
        self._start_limit_ms = options.health.start_limit_ms
        self._store = store
        self._provisioner = provisioner
        self._clock = clock
        self._real = SystemClock()
        self._note = note
        self.members: dict[str, Member] = {}
        for record in store.instances.living(region):
            self._enlist(record)

    def _enlist(self, record: Instance) -> Member:
        member = Member(record, self._provisioner.start(record), self._real.now_ns())
        if record.state != "starting":
            # An earlier manager saw it serve: it does until there is reason to think otherwise.
            member.vital = Vital(InstanceHealth("healthy", self._real.now_ns(), "known from the store"), None)
        self.members[record.id] = member
        return member

    # -- watching ------------------------------------------------------------------------------------------------------

    def poll(self, monitor: Any) -> None:
        """Ask every instance for its report and the monitor for its judgement, side by side.

        Who starts or hangs is not waited for: its answer is taken by a later poll.
        """
        for member in self.members.values():
            member.handle = member.handle or self._provisioner.start(member.record)
        calls: dict[str, Callable[[], Any]] = {
            name: member.ask for name, member in self.members.items() if member.handle is not None
        }
        targets = [self._target(member) for member in self.members.values() if member.report is not None]
        answers = remote.ask(calls | {"": lambda: monitor.watch.remote(targets)}, POLL_S)
        vitals = answers.pop("", None)
        if isinstance(vitals, dict):
            for name, vital in vitals.items():
                if name in self.members:
                    self.members[name].vital = vital
        for name, answer in answers.items():
            self._heard(self.members[name], answer)

    def _target(self, member: Member) -> Target:
        actor: ActorState = "alive" if member.fresh else "unknown"
        return Target(member.record.id, member.record.endpoint, actor, member.vital.health)

    def _heard(self, member: Member, answer: Any) -> None:
        member.fresh = isinstance(answer, InstanceReport)
        if not isinstance(answer, TimeoutError):
            member.asked = None
        if isinstance(answer, InstanceReport):
            before, member.report = member.report, answer
            ledger = LedgerId.parse(answer.status.ledger)
            record = member.record
            changes: dict[str, Any] = {}
            if record.state == "starting":
                changes["state"] = "serving"
            if record.epoch != ledger.epoch or record.directory_uuid != answer.directory_uuid:
                changes |= {"epoch": ledger.epoch, "directory_uuid": answer.directory_uuid}
            if changes:
                changed = msgspec.structs.replace(record, updated_ns=self._clock.now_ns(), **changes)
                member.record = self._store.instances.swap(changed)
            if before is not None and before.status.ledger != answer.status.ledger:
                self._note("restart", f"{member.name} restarted; it writes ledger {answer.status.ledger} now")
        elif not isinstance(answer, TimeoutError):
            # Ray restarts a process that died; an actor whose creation failed it does not: start it anew.
            member.handle = self._provisioner.start(member.record)

    # -- directives ----------------------------------------------------------------------------------------------------

    def begin(self, directive: Directive) -> None:
        """Start to apply a new directive; a failure is its outcome, not an exception."""
        try:
            if directive.action == "create":
                self.create(directive)
            elif directive.action == "drain" and directive.instance in self.members:
                self._begin_drain(self.members[directive.instance])
                self._store.directives.step(directive.id, "start", self._clock.now_ns())
            else:
                detail = f"there is no {directive.action} of {directive.instance or 'an instance'} here"
                self._store.directives.step(directive.id, "start", self._clock.now_ns())
                self._store.directives.step(directive.id, "fail", self._clock.now_ns(), detail)
        except FedbusError as error:
            self._note("directive_failed", f"{directive.id}: {error.detail}")

    def create(self, directive: Directive | None, size: str = "") -> Member | None:
        """Register and start another instance (for a directive, or as one of the region's first)."""
        node = self._provisioner.place(member.record.node for member in self.members.values())
        if node is None:
            self._note("no_node", f"no living node carries the labels {self._options.node_labels}: waiting for one")
            return None
        ports, now_ns = self._options.ports, self._clock.now_ns()
        name = directive.size if directive is not None else size
        record = self._store.instances.create(self._region, name, (ports.first, ports.last), now_ns, node=node.host)
        host = self._options.advertise.internal or (
            self._options.listen.host if self._options.is_loopback else node.address
        )
        record = self._store.instances.swap(msgspec.structs.replace(record, host=host))
        if directive is not None:
            self._store.directives.step(directive.id, "start", now_ns, instance=record.id)
        return self._enlist(record)

    def _begin_drain(self, member: Member) -> None:
        now_ns = self._clock.now_ns()
        changed = msgspec.structs.replace(member.record, state="draining", updated_ns=now_ns)
        member.record = self._store.instances.swap(changed)

    def reconcile(self, pending: list[Directive]) -> None:
        """Bring directives under way further; finishes those that are done."""
        for directive in pending:
            if directive.status == "ordered":
                self.begin(directive)
            elif directive.action == "create":
                self._finish_create(directive)
            elif directive.action == "drain" and directive.instance is not None:
                self._continue_drain(directive, directive.instance)

    def _finish_create(self, directive: Directive) -> None:
        member = self.members.get(directive.instance or "")
        now_ns = self._clock.now_ns()
        if member is None:
            self._store.directives.step(directive.id, "fail", now_ns, "the instance is no longer there")
        elif member.record.state == "serving" and member.state == "healthy":
            self._store.directives.step(directive.id, "finish", now_ns, "in service")
            self._note("in_service", f"{member.name} is in service ({directive.cause}: {directive.reason})")
        elif (waited_ms := self._real_ms_since(member.vital.health.since_ns)) > self._start_limit_ms:
            self._store.directives.step(directive.id, "fail", now_ns, f"not up after {waited_ms} ms")
            self._retire(member, "lost")

    def _continue_drain(self, directive: Directive, instance: str) -> None:
        member = self.members.get(instance)
        if member is None:
            self._store.directives.step(directive.id, "finish", self._clock.now_ns(), "drained")
            return
        real_ns = self._real.now_ns()
        if member.drain_until_ns is None:
            member.drain_until_ns = real_ns + self._manager.drain_deadline_ms * 1_000_000
            remote.ask({0: member.handle.drain.remote}, ASK_S)
            return
        sibling = self._sibling(member)
        if sibling is None or (member.backlog and real_ns < member.drain_until_ns):
            return
        remote.ask({0: member.handle.stop.remote}, STOP_S)
        self._provisioner.end(instance)
        adopted = {**(member.report.adopted if member.report else {}), instance: self._provisioner.directory(instance)}
        for name, directory in adopted.items():
            answer = remote.ask({0: partial(sibling.handle.adopt.remote, name, directory)}, STOP_S)[0]
            if isinstance(answer, Exception):
                self._note(
                    "adoption_failed", f"{sibling.name} could not adopt the ledgers of {name}: {answer}; trying again"
                )
                return
        self._retire(member, "stopped", sibling.record.id)
        outcome = f"{sibling.name} serves its closed ledgers"
        self._store.directives.step(directive.id, "finish", self._clock.now_ns(), outcome)
        self._note("drained", f"{member.name} is drained; {outcome}")

    def _sibling(self, member: Member) -> Member | None:
        """Another instance on the same node, where the closed ledgers are at hand."""
        others = (m for m in self.members.values() if m is not member and m.record.node == member.record.node)
        return next((m for m in others if m.record.state == "serving" and m.state in ("healthy", "degraded")), None)

    def _retire(self, member: Member, state: str, adopted_by: str = "") -> None:
        now_ns = self._clock.now_ns()
        changed = msgspec.structs.replace(member.record, state=state, adopted_by=adopted_by, updated_ns=now_ns)
        self._store.instances.swap(changed)
        if state == "lost":
            self._provisioner.end(member.record.id)
        for record in self._store.instances.all(region=self._region, adopted_by=member.record.id):
            self._store.instances.swap(msgspec.structs.replace(record, adopted_by=adopted_by, updated_ns=now_ns))
        del self.members[member.record.id]

    def _real_ms_since(self, since_ns: int) -> int:
        return (self._real.now_ns() - since_ns) // 1_000_000
