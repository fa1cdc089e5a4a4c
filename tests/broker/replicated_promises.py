"""What must be true of a replicated region in the end: V1, V3, V8 and V10 against what all its disks hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedbus.broker.record import Kind
from fedbus.broker.stored import Stored
from tests.broker.clients import Place
from tests.broker.replica_disk import same

if TYPE_CHECKING:
    from tests.broker.replicated_run import ReplicatedRun


def is_quiet(run: ReplicatedRun) -> bool:
    return not any(p.waiting for p in run.producers) and not unfinished(run) and set(run.acked) <= run.got


def unfinished(run: ReplicatedRun) -> list[str]:
    """Ledgers that have not their copies, or nobody to hand them out."""
    waiting = run.world.keeper.waiting
    found = [f"{name}: {why}" for name, why in waiting.items() if name not in run.world.keeper.records]
    for record in run.world.keeper.records.values():
        begun = any(record.id in node.disk.ledgers for node in run.nodes)
        if not begun and not run.confirmed[record.id]:
            continue  # granted to a directory that was lost before anything came of it
        if record.id in waiting:
            found.append(f"{record.id}: {waiting[record.id]}")
        if record.state == "OPEN" and len(record.last.members) < 2:
            found.append(f"{record.id} has one member")
        if record.state == "RECOVERING":
            found.append(f"{record.id} is RECOVERING")
        if record.state == "CLOSED":
            nodes = [node for node in run.nodes if node.member in record.members]
            whole = [n for n in nodes if sorted(n.disk.ledgers.get(record.id, {})) == list(range(record.end_number))]
            if len(whole) < 2 or len(whole) < len(nodes):
                found.append(f"{record.id} is whole at {[n.name for n in whole]} of {[n.name for n in nodes]}")
            served = [n.name for n in run.nodes if record.id in n.core.ledgers.closed]
            if any(
                name == record.id and n in node.disk.ledgers.get(name, {})
                for node in nodes
                for name, n in node.disk.damaged
            ):
                found.append(f"{record.id} is not repaired")
            if served != [record.dispatcher.rpartition("/")[2]]:
                found.append(f"{record.id} is served by {served}, not by {record.dispatcher}")
    return found


def check(run: ReplicatedRun) -> None:
    left = unfinished(run)
    assert not left, f"V10: {left}"
    assert not any(p.waiting for p in run.producers), "V10: unanswered publishes"
    events: dict[Place, bytes] = {}
    begun = {ledger for node in run.nodes for ledger in node.disk.ledgers}
    for record in run.world.keeper.records.values():
        if record.state == "OPEN" and record.id not in begun:
            continue
        holders = [node for node in run.nodes if node.member in record.members]
        assert len(holders) >= 2, f"V10: {record} has one copy"
        copies = [node.disk.ledgers.get(record.id, {}) for node in holders]
        for number in range(max((len(each) for each in copies), default=0)):
            there = [each[number] for each in copies if number in each]
            assert all(same(there[0], each) for each in there), f"V3: {record.id} #{number} differs"
            if record.state == "CLOSED":
                assert len(there) == len(copies), f"V10: {record.id} #{number} is missing somewhere"
            if there[0].kind is Kind.EVENTS:
                stored = Stored(record.id, there[0])
                bodies = (bytes(body) for _, _, body in stored.batch.events())
                events.update(zip(((record.id, at) for at in stored.offsets), bodies, strict=True))
    for body, place in run.acked.items():
        assert events.get(place) == body, f"V1: {body!r} was acknowledged at {place}, there is {events.get(place)!r}"
    missing = set(run.acked) - run.got
    assert not missing, f"V1: {sorted(missing)[:3]} of {len(missing)} never delivered, e.g. {run.acked[min(missing)]}"
    damaged = [
        (n.name, *each) for n in run.nodes for each in n.disk.damaged if each[1] in n.disk.ledgers.get(each[0], {})
    ]
    assert not damaged, f"V8: never repaired: {damaged}"
