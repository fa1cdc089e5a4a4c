"""The fleet: the bus instances of one region as its manager has them, and how directives change it.

Everything that must survive the manager is in the store before it is done; every step can be repeated, so that a
manager that was killed in the middle goes on where its predecessor stopped. Drain and health run on real time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from fedbus.clock import Clock, SystemClock
from fedbus.control.absence import Absence
from fedbus.control.brake import Brake, many
from fedbus.control.directive import Directive
from fedbus.control.health import ActorState, InstanceHealth, State
from fedbus.control.holders import Stage
from fedbus.control.restarts import Restarts
from fedbus.errors import FedbusError
from fedbus.options.federation import FederationOptions
from fedbus.position import LedgerId
from fedbus.storage.store import Instance, Store
from fedbus.storage.store.instances import Lifecycle
from fedbus_actors import remote
from fedbus_actors.health_monitor import Target, Vital
from fedbus_actors.ledger_pushes import Kept
from fedbus_actors.pinned_instance import InstanceReport
from fedbus_actors.provisioner import Provisioner

ASK_S = 2.0
POLL_S = 0.5
STOP_S = 15.0
FIRST_WORD_NS = 15_000_000_000
AWAY_NS = 5_000_000_000  # longer between two polls: the manager itself was away
BLIND_NS = 5_000_000_000  # neither an instance nor the monitor said anything for so long: what it was says nothing more

log = logging.getLogger(__name__)


class Member:
    """One living instance: its record, its actor, what it said last, how it is."""

    def __init__(self, record: Instance, handle: Any, real: Clock) -> None:
        self.record = record
        self.handle = handle
        self.report: InstanceReport | None = None
        self.asked: Any = None  # the call for a report that is under way
        self.fresh = False
        self.vital = Vital(InstanceHealth("starting", real.now_ns()), None)
        self.heard_ns = real.monotonic_ns() + FIRST_WORD_NS  # who starts with its manager is waited for longer
        self.present = False
        self.restarting = False  # its process has ended, says Ray
        self.restarts = Restarts()
        self.quarantined = False  # it dies again and again
        self.drain_until_ns: int | None = None
        self.delivered = False  # while it drains: its groups have nothing left, or the time for it has passed
        self.progress = ""

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
        """Its health; who is on its way out drains, and whose process has ended starts, whatever probes said last."""
        state = self.vital.health.state
        if state not in ("healthy", "degraded", "draining"):
            return state
        if self.restarting:
            return "starting"
        if self.quarantined:
            return "unreachable"
        return "draining" if self.record.state == "draining" else state

    @property
    def backlog(self) -> int:
        """Events its groups have not settled."""
        return 0 if self.report is None else sum(group.backlog for group in self.report.status.groups if group.members)

    @property
    def stage(self) -> Stage:
        """How far it is on its way out."""
        if self.record.state != "draining":
            return "staying"
        return "closing" if self.delivered else "leaving"


def quarantine(members: Collection[Member], share: float, now_ns: int, note: Callable[[str, str], None]) -> None:
    """Who dies again and again gets no events and is replaced, unless that befalls many: then it is no instance."""
    looping = [member for member in members if member.restarts.looping(now_ns)]
    if many(len(looping), len(members), share) or len(looping) == len(members):
        looping = []
    for member in members:
        if member.quarantined is not (member in looping):
            member.quarantined = member in looping
            member.progress = "it restarts again and again: it gets no events" if member.quarantined else ""
            note("quarantine", f"{member.name}: {member.progress or 'it is trusted again'}")


class Fleet:
    """All living instances of the region. ``unfinished``: what keeps a draining one (region/id), empty if nothing."""

    def __init__(
        self,
        region: str,
        options: FederationOptions,
        store: Store,
        provisioner: Provisioner,
        clock: Clock,
        note: Callable[[str, str], None],
        unfinished: Callable[[str], str],
    ) -> None:
        self._unfinished = unfinished
        self._region = region
        self._options = options.regions[region]
        self._manager = options.manager
        self._start_limit_ms = options.health.start_limit_ms
        self._lost_after_ms = options.health.dead_after_ms
        self._store = store
        self._provisioner = provisioner
        self._clock = clock
        self._real = SystemClock()
        self._note = note
        self._brake = Brake(options.manager.brake_share, options.manager.brake_ms * 1_000_000)
        self._absence = Absence(AWAY_NS)
        self._braking = ""
        self.members: dict[str, Member] = {}
        for record in store.instances.living(region):
            self._enlist(record)

    def _enlist(self, record: Instance) -> Member:
        member = Member(record, self._provisioner.start(record), self._real)
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
        if away_ns := self._absence.look(self._real.monotonic_ns()):
            self._note("away", f"this manager was away for {away_ns // 1_000_000_000} s: it blames nobody for silence")
            for member in self.members.values():
                member.heard_ns += away_ns
        for member in self.members.values():
            member.handle = member.handle or self._provisioner.start(member.record)
        reachable = {name: member for name, member in self.members.items() if member.handle is not None}
        late = {name: member.ask for name, member in reachable.items() if member.asked is not None}
        prompt: dict[str, Callable[[], Any]] = {n: member.ask for n, member in reachable.items() if n not in late}
        targets = [self._target(member) for member in self.members.values() if member.report is not None]
        answers = remote.ask(prompt | {"": lambda: monitor.watch.remote(targets)}, POLL_S)
        answers |= remote.ask(late, 0.0)
        vitals = answers.pop("", None)
        felt: dict[str, Vital] = vitals if isinstance(vitals, dict) else {}
        for name, vital in felt.items():
            if name in self.members:
                self.members[name].vital = vital
        for name, answer in answers.items():
            self._heard(self.members[name], answer)
        for name, member in self.members.items():
            self._note_presence(member, felt=name in felt)
        quarantine(self.members.values(), self._manager.brake_share, self._real.monotonic_ns(), self._note)

    def _note_presence(self, member: Member, *, felt: bool) -> None:
        """Present is who has reported, and answers this manager or the monitor now."""
        answering = felt and member.vital.health.state in ("healthy", "degraded", "draining")
        member.present = member.report is not None and (member.fresh or (answering and not member.restarting))
        now_ns = self._real.monotonic_ns()
        if member.present:
            member.heard_ns = now_ns
        elif not felt and member.state in ("healthy", "degraded") and now_ns - member.heard_ns > BLIND_NS:
            why = "neither it nor the health monitor answers"
            member.vital = Vital(InstanceHealth("unreachable", self._real.now_ns(), why), None)

    def kept(self) -> list[Kept]:
        """The instances as the keeper of their ledgers sees them."""
        return [
            Kept(
                name=member.name,
                node=member.record.node,
                endpoint=member.record.endpoint if member.report is not None else "",
                directory_uuid=member.report.directory_uuid if member.report else member.record.directory_uuid,
                incarnation=member.report.started_ns if member.report else 0,
                present=member.present,
                silent_since_ns=None if member.present else member.heard_ns,
                stage=member.stage,
                status=member.report.status if member.report else None,
                calls=remote.InstanceCalls(member.handle),
            )
            for member in self.members.values()
        ]

    def give_up_lost(self) -> None:
        """End for good who has been away for long and holds nothing that others lack; kill who only looks alive."""
        now_ns = self._real.monotonic_ns()
        lost: list[tuple[Member, int]] = []
        for member in self.members.values():
            away_ms = (now_ns - member.heard_ns) // 1_000_000
            if not member.present and member.record.state != "starting" and away_ms >= self._lost_after_ms:
                lost.append((member, away_ms))
        if self._brake.holds(len(lost), len(self.members), now_ns):
            said = f"{len(lost)} of {len(self.members)} instances are silent at once: none is killed or given up yet"
            if said != self._braking:
                self._note("brake", said)
            self._braking = said
            return
        self._braking = ""
        for member, away_ms in lost:
            if away_ms > 2 * self._lost_after_ms and not self._unfinished(member.name):
                self._retire(member, "lost")
                self._note("lost", f"{member.name} is given up after {away_ms // 1000} s; others hold its ledgers")
            elif member.report is not None and self._provisioner.kill(member.record, member.report.pid):
                self._note("killed", f"{member.name}: process {member.report.pid} is silent since {away_ms // 1000} s")
                member.report = None

    def _target(self, member: Member) -> Target:
        actor: ActorState = "alive" if member.fresh else "restarting" if member.restarting else "unknown"
        return Target(member.record.id, member.record.endpoint, actor, member.vital.health)

    def _heard(self, member: Member, answer: Any) -> None:
        late = type(answer) is TimeoutError  # a call that failed with one is answered
        member.fresh = isinstance(answer, InstanceReport)
        if not late:
            member.asked = None
            member.restarting = remote.process_ended(answer)
        if isinstance(answer, InstanceReport):
            before, member.report = member.report, answer
            record = member.record
            epoch = LedgerId.parse(answer.status.ledger).epoch if answer.status.ledger else record.epoch
            changes: dict[str, Any] = {}
            if record.state == "starting":
                changes["state"] = "serving"
            if record.epoch != epoch or record.directory_uuid != answer.directory_uuid:
                changes |= {"epoch": epoch, "directory_uuid": answer.directory_uuid}
            if changes:
                changed = msgspec.structs.replace(record, updated_ns=self._clock.now_ns(), **changes)
                member.record = self._store.instances.swap(changed)
            if before is not None and before.directory_uuid != answer.directory_uuid:
                self._note("lost_directory", f"{member.name} came back without its directory: it holds no copies")
            if before is not None and before.started_ns != answer.started_ns:
                self._note("restart", f"{member.name} restarted")
                member.restarts.happened(self._real.monotonic_ns())
        elif not late:
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
        ports, now_ns = self._options.instance_ports, self._clock.now_ns()
        name = directive.size if directive is not None else size
        record = self._store.instances.create(self._region, name, (ports.first, ports.last), now_ns, node=node.host)
        record = self._store.instances.swap(msgspec.structs.replace(record, host=self._options.dial_host(node.address)))
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
        elif (waited_ms := (self._real.now_ns() - member.vital.health.since_ns) // 1_000_000) > self._start_limit_ms:
            self._store.directives.step(directive.id, "fail", now_ns, f"not up after {waited_ms} ms")
            self._retire(member, "lost")

    def _continue_drain(self, directive: Directive, instance: str) -> None:
        member = self.members.get(instance)
        if member is None:
            self._store.directives.step(directive.id, "finish", self._clock.now_ns(), "drained")
            return
        now_ns = self._real.monotonic_ns()
        if member.drain_until_ns is None:
            member.drain_until_ns = now_ns + self._manager.drain_deadline_ms * 1_000_000
            remote.ask({0: member.handle.drain.remote}, ASK_S)
            return
        member.delivered = member.delivered or not member.backlog or now_ns >= member.drain_until_ns
        left = self._unfinished(member.name) if member.delivered else f"{member.backlog} events to be settled"
        if left:
            if left != member.progress:
                self._note("draining", f"{member.name}: {left}")
            member.progress = left
            return
        remote.ask({0: member.handle.stop.remote}, STOP_S)
        self._provisioner.end(instance)
        self._retire(member, "stopped")
        self._store.directives.step(directive.id, "finish", self._clock.now_ns(), "others hold and serve its ledgers")
        self._note("drained", f"{member.name} is drained; others hold and serve its ledgers")

    def _retire(self, member: Member, state: Lifecycle) -> None:
        changed = msgspec.structs.replace(member.record, state=state, updated_ns=self._clock.now_ns())
        self._store.instances.swap(changed)
        if state == "lost":
            self._provisioner.end(member.record.id)
        del self.members[member.record.id]
