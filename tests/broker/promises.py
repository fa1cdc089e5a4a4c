"""The invariants V1 to V6, checked against what a simulated world has done and what its disks hold in the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedbus.broker.record import Kind
from fedbus.broker.stored import Stored
from fedbus.topic import RESERVED_PREFIX, FilterSet
from tests.broker.clients import Place, Subscription
from tests.broker.simulation import Node

if TYPE_CHECKING:
    from tests.broker.history import Run


def stored(node: Node, *, damaged: bool | None = None) -> Iterator[tuple[Stored, str]]:
    """(batch, producer) of the records on a disk; with ``damaged`` only those that can (not) be read back."""
    for ledger, records in node.disk.ledgers.items():
        for record in records:
            unreadable = (ledger, record.number) in node.disk.damaged
            if record.kind is Kind.EVENTS and damaged in (None, unreadable):
                yield Stored(ledger, record), record.events_meta().producer


def check(run: Run) -> None:
    for producer in run.producers:
        assert not producer.waiting, f"unanswered: {list(producer.waiting)} of {producer.name}"
    for node in run.world.nodes.values():
        check_disk(run, node)
        check_links(run, node)
        check_bounded(node)
    for subscription in run.subscriptions.values():
        run.check_delivered(subscription)


def check_disk(run: Run, node: Node) -> None:
    """V3 one event per position; V5, V6 each batch and each linked event is stored once; V4 keys follow sequences."""
    seen: set[tuple[bytes, str]] = set()
    newest: dict[tuple[str, str, int], int] = {}
    for batch, producer in stored(node):
        for (topic, key, body), offset in zip(batch.batch.events(), batch.offsets, strict=True):
            if topic.startswith(RESERVED_PREFIX):
                continue
            place, text = (batch.origin_ledger, offset), bytes(body)
            assert run.truth.setdefault(place, text) == text, f"V3: {place} is not what was seen before"
            identity = (text, batch.origin_ledger if batch.origin else "here")
            assert identity not in seen, f"V5/V6: {text!r} is stored twice at {node.name}"
            seen.add(identity)
            if producer and key:
                sequence = int(text.split(b"/")[1])
                stream = (batch.ledger, producer, key)
                assert newest.get(stream, -1) <= sequence, f"V4: {text!r} is stored behind {newest[stream]}"
                newest[stream] = sequence


def check_links(run: Run, node: Node) -> None:
    """Each event that is wanted and can be read has crossed; none has crossed back."""
    here = {(b.origin_ledger, offset) for b, _ in stored(node) if b.origin is not None for offset in b.offsets}
    assert not any(ledger.startswith(f"{node.region}/") for ledger, _ in here), "one hop: its own events came back"
    for name, patterns in run.wants[node.name].items():
        filters = FilterSet(patterns)
        for batch, _ in stored(run.world.nodes[name], damaged=False):
            for (topic, _, body), offset in zip(batch.batch.events(), batch.offsets, strict=True):
                if batch.origin is None and filters.matches(topic):
                    place = (batch.origin_ledger, offset)
                    assert place in here, f"V6: {bytes(body)!r} at {place} never crossed to {node.name}"


def check_delivered(run: Run, of: Subscription) -> None:
    """V1: whatever was acknowledged (or linked) and matches has come, unless it can no longer be read."""
    if of.tails is None:
        return
    filters, node = FilterSet(of.filters), of.node
    unreadable = {bytes(body) for batch, _ in stored(node, damaged=True) for _, _, body in batch.batch.events()}
    due = {
        body
        for body, place in run.acked[node.name].items()
        if filters.matches(run.topic_of[body]) and (of.start.kind == "earliest" or _after(place, of.tails))
    }
    if of.start.kind == "earliest" and of.group:  # a live cursor has one offset per ledger: it passes over backfills
        linked = (batch for batch, _ in stored(node) if batch.origin is not None)
        due |= {bytes(body) for b in linked for topic, _, body in b.batch.events() if filters.matches(topic)}
    missing = due - of.got - unreadable
    assert not missing, f"V1: {sorted(missing)[:3]} never reached {of.filters} at {node.name}"


def check_bounded(node: Node) -> None:
    """When all is settled nothing is kept but one range of offsets per ledger."""
    core = node.core
    assert core.ledgers.pending_bytes == 0
    assert not core.ledgers._answers
    for group in core.subscriptions.groups:
        kept = list(group.deliveries)
        assert group.settlement.outstanding == 0, f"{group.spec.name}: outstanding {group.settlement.outstanding}"
        assert not kept, f"{group.spec.name} keeps {kept}"
        assert all(member.held_bytes == 0 and not member.behind for member in group.members)
        for part in group.settlement.state():
            own = part.ledger in node.disk.ledgers
            assert not own or len(part.ranges) == 1, f"{group.spec.name}: {part} is in pieces"


def _after(place: Place, tails: dict[str, int]) -> bool:
    """Whether an event was stored after the tails (of the newest ledgers) were told."""
    newest = max(int(ledger.rpartition("/")[2]) for ledger in tails)
    return int(place[0].rpartition("/")[2]) > newest or place[1] >= tails.get(place[0], place[1] + 1)
