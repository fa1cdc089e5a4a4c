"""What can go wrong between regions, done to a good history of a mesh: each mutation breaks one invariant."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fedbus_loadtests.chaos.entry import region_of
from tests.loadtests.chaos.mutations import (
    History,
    Mutation,
    acked_ids,
    changed,
    delivers,
    first_invocations,
    pick,
    with_entry,
)
from tests.loadtests.chaos.mutations import acknowledges as published

MESH_MUTATIONS: list[tuple[str, Mutation]] = []
MS = 1_000_000


def breaks(invariant: str) -> Callable[[Mutation], Mutation]:
    """Register a mutation under the invariant it breaks."""

    def register(mutation: Mutation) -> Mutation:
        MESH_MUTATIONS.append((invariant, mutation))
        return mutation

    return register


def at(history: History, operation: str, kind: str = "") -> int:
    """When the first of these was."""
    return next(e.time_ns for e in history if e.operation == operation and (not kind or e.kind == kind))


@breaks("V9")
def forwarded_twice(history: History, random: Random) -> History | None:
    found = pick(history, random, lambda e: e.operation == "forward")
    return found and [*history, changed(found[1], into=f"{found[1].into}9")]


@breaks("V9")
def forwarded_back_to_where_it_was_born(history: History, random: Random) -> History | None:
    found = pick(history, random, lambda e: e.operation == "forward")
    return found and [*history, changed(found[1], into=f"{region_of(found[1].position)}/b1/9:7")]


@breaks("V9")
def delivered_twice_at_one_home(history: History, random: Random) -> History | None:
    lost_ns = at(history, "fault")
    found = pick(history, random, lambda e: delivers(e) and e.time_ns < lost_ns)
    return found and [*history[: found[0] + 1], found[1], *history[found[0] + 1 :]]


@breaks("V9")
def a_later_ledger_of_a_writer_overtakes_an_earlier_one(history: History, random: Random) -> History | None:
    """A delivery of a key from another region, and the one before it, from ledgers the other way round."""
    homes = {e.target for e in history if e.operation in ("subscribe", "move")}
    invoked = first_invocations(history)
    streams: dict[tuple[str, str], str] = {}
    for e in history:
        if not delivers(e) or region_of(e.position) in homes:
            continue
        stream = (region_of(e.position), invoked[e.id].key)
        if stream in streams:
            early = streams[stream]
            later = early.replace("/b1/0:", "/b1/1:")
            return [changed(each, position=later) if each.position == early else each for each in history]
        streams[stream] = e.position
    return None


@breaks("V5")
def what_was_shared_comes_again_after_the_failover(history: History, random: Random) -> History | None:
    lost_ns, moved_ns = at(history, "fault"), at(history, "move")
    old = {e.position for e in history if e.operation == "ack" and e.time_ns < lost_ns - 3 * MS}
    found = pick(history, random, lambda e: delivers(e) and e.position in old)
    if found is None:
        return None
    place = next(n for n, e in enumerate(history) if e.time_ns == moved_ns) + 1
    return [*history[:place], changed(found[1], time_ns=moved_ns), *history[place:]]


@breaks("V5")
def what_was_acknowledged_comes_again_after_the_move_back(history: History, random: Random) -> History | None:
    moved_ns = at(history, "move", "invoke")
    old = {e.position for e in history if e.operation == "ack" and e.time_ns < moved_ns - 3 * MS}
    found = pick(history, random, lambda e: delivers(e) and e.position in old)
    return found and [*history, changed(found[1], time_ns=history[-1].time_ns + 3 * MS)]


@breaks("V1")
def a_synchronous_event_is_lost_with_its_region(history: History, random: Random) -> History | None:
    lost = next(e.target for e in history if e.operation == "gone")
    acked = acked_ids(history)
    found = pick(
        history, random,
        lambda e: delivers(e) and e.topic == "t.sync" and region_of(e.position) == lost and e.id in acked,
    )  # fmt: skip
    return found and _without(history, found[1].id)


@breaks("V1")
def more_than_the_published_lag_is_lost_with_a_region(history: History, random: Random) -> History | None:
    gone = next(e for e in history if e.operation == "gone")
    old = {e.id for e in history if published(e) and e.time_ns < gone.time_ns - gone.lag_ms * MS}
    found = pick(history, random, lambda e: delivers(e) and region_of(e.position) == gone.target and e.id in old)
    return found and _without(history, found[1].id)


@breaks("V1")
def an_event_of_a_living_region_is_lost(history: History, random: Random) -> History | None:
    gone = next(e for e in history if e.operation == "gone")
    found = pick(history, random, lambda e: delivers(e) and region_of(e.position) != gone.target)
    return found and _without(history, found[1].id)


@breaks("V2")
def a_forwarded_event_with_other_data(history: History, random: Random) -> History | None:
    found = pick(history, random, lambda e: e.operation == "forward")
    return found and with_entry(history, found[0], crc=found[1].crc ^ 1)


@breaks("V3")
def a_forwarded_event_under_anothers_position(history: History, random: Random) -> History | None:
    found = pick(history, random, lambda e: e.operation == "forward")
    other = found and pick(history, random, lambda e: e.operation == "forward" and e.id != found[1].id)
    return found and other and with_entry(history, found[0], position=other[1].position)


def _without(history: History, id: str) -> History:
    return [e for e in history if not (e.operation in ("deliver", "ack", "forward") and e.id == id)]


@breaks("V10")
def a_region_that_is_healed_and_takes_no_events(history: History, random: Random) -> History | None:
    """Others do, but that does not count."""
    healed = next((e for e in history if e.operation == "heal"), None)
    if healed is None:
        return None
    dead = {e.id for e in history if published(e) and region_of(e.position) == healed.target}
    late = {e.id for e in history if e.operation == "publish" and e.kind == "invoke" and e.time_ns > healed.time_ns}
    return [e for e in history if e.id not in dead & late]
