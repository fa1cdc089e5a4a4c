"""A simulated world with a manager that changes groups: moves, pauses, deletes them, and says so again and again."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.dead_letter import DELIVERIES, GROUP, POSITION
from fedbus.broker.group_spec import GroupRecord, GroupSpec
from fedbus.event import Event
from fedbus.position import LedgerId, Position
from fedbus.topic import FilterSet
from tests.broker.clients import DEADLINE_MS, Subscription
from tests.broker.history import Run
from tests.broker.promises import stored
from tests.broker.simulation import Node

OPTIONS = {
    "g": p.GroupOptions(ack_deadline_ms=DEADLINE_MS, max_in_flight=7),
    "h": p.GroupOptions(ack_deadline_ms=DEADLINE_MS, max_deliveries=3, backoff_min_ms=50, backoff_max_ms=100),
}


class GroupRun(Run):
    """``definitions``: what the manager says of the groups of each node."""

    def __init__(self) -> None:
        super().__init__()
        self.definitions: dict[tuple[str, str], GroupRecord] = {}

    def manage(self, of: Subscription, how: str, at: int) -> None:
        """A change of one group at one node; it may get there later."""
        known = self.definitions.get((of.node.name, of.group))
        if known is None:
            spec = GroupSpec(of.group, of.filters, of.start, of.options)
        elif known.deleted:
            spec = replace(known.spec, created_ns=known.spec.created_ns + 10, generation=1, version=0)
        else:
            spec = known.spec
        change: dict[str, Any] = {}
        if how in ("pause", "resume"):
            change = {"version": spec.version + 1, "options": replace(spec.options, paused=how == "pause")}
        elif how != "delete":
            change = {"generation": spec.generation + 1, **self._start(of.node, how, at)}
        self.definitions[of.node.name, of.group] = GroupRecord(replace(spec, **change), how == "delete")

    def _start(self, node: Node, how: str, at: int) -> dict[str, Any]:
        ends = {ledger: node.disk.end(ledger) for ledger in node.disk.ledgers}
        if how == "latest":
            return {"start": p.LATEST, "tails": ends}
        if how == "position":
            ledger = sorted(ends)[at % len(ends)]
            return {"start": p.Start("cursor", cursor={ledger: at % (ends[ledger] + 1)}), "tails": {}}
        return {"start": p.EARLIEST, "tails": {}}

    def push(self, node: Node) -> None:
        """All that the manager knows of this node's groups."""
        if node.up:
            node.handle(e.ApplyGroups([d for (name, _), d in self.definitions.items() if name == node.name]))

    def move(self) -> None:
        for node in self.world.nodes.values():
            self.push(node)
        super().move()

    def settle(self) -> None:
        for (node, group), definition in list(self.definitions.items()):
            if definition.spec.options.paused and not definition.deleted:
                self.manage(self.subscriptions[node, group], "resume", 0)
        super().settle()
        for node in self.world.nodes.values():
            node.commit()
            before = _remembered(node)
            node.crash()
            node.start()
            assert _remembered(node) == before, f"{node.name} has forgotten a change of a group"

    def check_delivered(self, of: Subscription) -> None:
        """V1: whatever the group as it is now wants has come, or is a dead letter with its reason."""
        if not of.group:
            super().check_delivered(of)
            return
        group = of.node.core.subscriptions.groups.get(of.group)
        assert group is not None
        definition = self.definitions.get((of.node.name, of.group))
        if definition is not None and definition.deleted:
            assert group.spec.created_ns > definition.spec.created_ns, "it is still there"
        elif definition is not None:
            assert group.spec.identity == definition.spec.identity, "the manager's word is not in force"
        filters = FilterSet(of.filters)
        acked = self.acked[of.node.name].items()
        due = {body for body, at in acked if filters.matches(self.topic_of[body]) and _wanted(group.spec, at)}
        got = of.got if of.identity == group.spec.identity else set()
        unreadable = {bytes(body) for b, _ in stored(of.node, damaged=True) for _, _, body in b.batch.events()}
        missing = due - got - unreadable - self._letters(of)
        assert not missing, f"V1: {sorted(missing)[:3]} never reached {of.filters} at {of.node.name}"

    def _letters(self, of: Subscription) -> set[bytes]:
        """The bodies of this group's dead letters."""
        found: set[bytes] = set()
        for batch, _ in stored(of.node):
            for topic, _, data in batch.batch.events():
                if topic == f"_fedbus.dead_letters.{of.group}":
                    letter = Event.decode(data)
                    attributes = letter.attributes or {}
                    position = Position.parse(str(attributes[POSITION]))
                    assert attributes[GROUP] == of.group
                    assert int(attributes[DELIVERIES]) >= of.options.max_deliveries > 0, f"{letter} was given up early"
                    assert self.truth[position.ledger, position.offset] == letter.payload, f"{letter} is not that event"
                    found.add(letter.payload or b"")
        return found


def _remembered(node: Node) -> tuple[dict[str, GroupSpec], dict[str, int]]:
    groups = node.core.subscriptions.groups
    return {group.spec.name: group.spec for group in groups}, dict(groups.deleted)


def _wanted(spec: GroupSpec, place: tuple[str, int]) -> bool:
    """Whether the group's start lets it have the event there (all ledgers are of one instance)."""
    ledger, offset = place
    began = spec.began
    if not began:
        return True
    if ledger in began:
        return offset >= began[ledger]
    return LedgerId.parse(ledger).epoch > max(LedgerId.parse(name).epoch for name in began)
