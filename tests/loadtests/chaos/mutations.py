"""What can go wrong, done to a good history: each mutation breaks one invariant, which has to notice.

A mutation gets a history and dice, and returns the broken history, or ``None`` where that history has no place for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from random import Random

import msgspec

from fedbus_loadtests.chaos.entry import Entry, epoch_of, writer_of
from fedbus_loadtests.chaos.promise import Promise

History = list[Entry]
Mutation = Callable[[History, Random], History | None]
MUTATIONS: list[tuple[str, Mutation]] = []
NS_PER_S = 1_000_000_000


def breaks(invariant: str) -> Callable[[Mutation], Mutation]:
    """Register a mutation under the invariant it breaks."""

    def register(mutation: Mutation) -> Mutation:
        MUTATIONS.append((invariant, mutation))
        return mutation

    return register


def changed(entry: Entry, **fields: object) -> Entry:
    return msgspec.structs.replace(entry, **fields)


def pick(history: History, random: Random, holds: Callable[[Entry], bool]) -> tuple[int, Entry] | None:
    found = [(place, entry) for place, entry in enumerate(history) if holds(entry)]
    return random.choice(found) if found else None


def delivers(entry: Entry) -> bool:
    return entry.operation == "deliver" and entry.kind == "ok"


def of_a_group(entry: Entry) -> bool:
    return delivers(entry) and not entry.live


def acknowledges(entry: Entry) -> bool:
    return entry.operation == "publish" and entry.kind == "ok"


def with_entry(history: History, place: int, **fields: object) -> History:
    return [*history[:place], changed(history[place], **fields), *history[place + 1 :]]


def relabelled(history: History, names: dict[str, str]) -> History:
    """Positions exchanged everywhere: a bus that had stored it so."""
    return [changed(e, position=names[e.position]) if e.position in names else e for e in history]


def invocations(history: History) -> dict[tuple[str, str], Entry]:
    return {(e.process, e.id): e for e in history if e.operation == "publish" and e.kind == "invoke"}


def first_invocations(history: History) -> dict[str, Entry]:
    return {e.id: e for e in reversed(history) if e.operation == "publish" and e.kind == "invoke"}


def acked_ids(history: History) -> set[str]:
    return {e.id for e in history if acknowledges(e)}


def stored_once(history: History) -> dict[str, Entry]:
    """Acknowledgements of events that were tried once, by id."""
    tries: dict[str, int] = {}
    for e in history:
        tries[e.id] = tries.get(e.id, 0) + (e.operation == "publish" and e.kind == "invoke")
    return {e.id: e for e in history if acknowledges(e) and tries[e.id] == 1}


def pairs(entries: Iterable[Entry]) -> list[tuple[Entry, Entry]]:
    """Neighbours in each ledger, by offset."""
    ordered = sorted(entries, key=lambda e: (e.ledger, e.offset))
    return [(a, b) for a, b in pairwise(ordered) if a.ledger == b.ledger]


@breaks("V1")
def an_event_never_arrives(history: History, random: Random) -> History | None:
    acked = acked_ids(history)
    found = pick(history, random, lambda e: of_a_group(e) and e.id in acked)
    if found is None:
        return None
    gone = found[1]
    return [e for e in history if not (delivers(e) and (e.id, e.subscription) == (gone.id, gone.subscription))]


@breaks("V1")
def everything_of_a_ledger_is_gone(history: History, random: Random) -> History | None:
    once = stored_once(history)
    found = pick(history, random, lambda e: of_a_group(e) and e.id in once)
    return found and [e for e in history if not (of_a_group(e) and e.ledger == found[1].ledger)]


@breaks("V1")
def an_event_that_is_given_back_and_forgotten(history: History, random: Random) -> History | None:
    acked = acked_ids(history)
    found = pick(history, random, lambda e: of_a_group(e) and e.id in acked)
    if found is None:
        return None
    given_back = changed(found[1], operation="nack", kind="info")
    same = (given_back.id, given_back.subscription)
    rest = [e for e in history[found[0] + 1 :] if not (e.operation == "ack" and (e.id, e.subscription) == same)]
    earlier = [e for e in history[: found[0] + 1] if not (e.operation == "ack" and (e.id, e.subscription) == same)]
    return [*earlier, given_back, *rest]


@breaks("V2")
def an_event_out_of_nowhere(history: History, random: Random) -> History | None:
    found = pick(history, random, delivers)
    return found and [*history, changed(found[1], id="nobody/1", position="here/b9/0:1", time_ns=history[-1].time_ns)]


@breaks("V2")
def a_delivered_event_with_other_data(history: History, random: Random) -> History | None:
    found = pick(history, random, delivers)
    return found and with_entry(history, found[0], crc=found[1].crc ^ 1)


@breaks("V2")
def a_stored_event_with_other_data(history: History, random: Random) -> History | None:
    found = pick(history, random, lambda e: e.operation == "store")
    return found and with_entry(history, found[0], crc=found[1].crc ^ 1)


@breaks("V2")
def delivered_to_another_topic(history: History, random: Random) -> History | None:
    found = pick(history, random, delivers)
    return found and with_entry(history, found[0], topic="t.other")


@breaks("V2")
def delivered_before_it_was_published(history: History, random: Random) -> History | None:
    found = pick(history, random, delivers)
    if found is None:
        return None
    place, early = found
    first = next(n for n, e in enumerate(history) if e.operation == "publish" and e.id == early.id)
    moved = changed(early, time_ns=history[first].time_ns)
    return [*history[:first], moved, *history[first:place], *history[place + 1 :]]


@breaks("V3")
def two_events_at_one_position_for_two_readers(history: History, random: Random) -> History | None:
    found = pick(history, random, delivers)
    other = found and pick(history, random, lambda e: delivers(e) and e.id != found[1].id)
    return found and other and with_entry(history, found[0], position=other[1].position)


@breaks("V3")
def a_copy_that_differs(history: History, random: Random) -> History | None:
    stores = [n for n, e in enumerate(history) if e.operation == "store"]
    swaps = [
        (a, b) for a, b in pairwise(stores)
        if history[a].target == history[b].target and history[a].id != history[b].id
    ]  # fmt: skip
    if not swaps:
        return None
    a, b = random.choice(swaps)
    first, second = history[a].position, history[b].position
    return with_entry(with_entry(history, a, position=second), b, position=first)


@breaks("V3")
def an_acknowledgement_of_somebody_elses_position(history: History, random: Random) -> History | None:
    found = pick(history, random, acknowledges)
    other = found and pick(history, random, lambda e: acknowledges(e) and e.id != found[1].id)
    return found and other and with_entry(history, found[0], position=other[1].position)


@breaks("V4")
def two_events_of_a_key_stored_in_the_wrong_order(history: History, random: Random) -> History | None:
    invoked = first_invocations(history)
    by_key: dict[str, list[Entry]] = {}
    for e in stored_once(history).values():
        if invoked[e.id].key:
            by_key.setdefault(invoked[e.id].key, []).append(e)
    found = [pair for entries in by_key.values() for pair in pairs(entries)]
    if not found:
        return None
    a, b = random.choice(found)
    return relabelled(history, {a.position: b.position, b.position: a.position})


@breaks("V4")
def two_events_of_a_key_delivered_in_the_wrong_order(history: History, random: Random) -> History | None:
    acked = {e.position for e in history if acknowledges(e)}
    invoked = first_invocations(history)
    last: dict[tuple[str, str, str], int] = {}
    times = Counter((e.subscription, e.position) for e in history if delivers(e))
    swaps: list[tuple[int, int]] = []
    for place, e in enumerate(history):
        if delivers(e) and e.key and times[e.subscription, e.position] == 1 and e.position in acked:
            stream = (e.subscription, e.ledger, e.key)
            if stream in last and invoked[e.id].time_ns < history[last[stream]].time_ns:
                swaps.append((last[stream], place))
            last[stream] = place
    if not swaps:
        return None
    a, b = random.choice(swaps)
    swapped = list(history)
    swapped[a] = changed(history[b], time_ns=history[a].time_ns)
    swapped[b] = changed(history[a], time_ns=history[b].time_ns)
    return swapped


@breaks("V5")
def one_event_stored_twice(history: History, random: Random) -> History | None:
    once = stored_once(history)
    found = pick(history, random, lambda e: delivers(e) and e.id in once)
    if found is None:
        return None
    again = f"{found[1].ledger}:{10_000_000 + random.randrange(1000)}"
    return [*history, changed(found[1], position=again, time_ns=history[-1].time_ns)]


@breaks("V5")
def an_idempotent_event_from_two_owners(history: History, random: Random) -> History | None:
    once = stored_once(history)
    found = pick(history, random, lambda e: delivers(e) and e.id in once)
    if found is None:
        return None
    elsewhere = changed(found[1], position="here/b9/0:1", time_ns=history[-1].time_ns)
    asked = [changed(e, idempotent=True) if e.id == found[1].id and e.kind == "invoke" else e for e in history]
    return [*asked, elsewhere]


@breaks("V5")
def delivered_again_after_its_ack(history: History, random: Random) -> History | None:
    invoked = first_invocations(history)
    acks = {(e.subscription, e.position): e.time_ns for e in history if e.operation == "ack" and e.kind == "ok"}
    youngest: dict[tuple[str, str, str], int] = {}
    for e in filter(of_a_group, history):
        way = (e.process, e.subscription, e.ledger)
        youngest[way] = max(youngest.get(way, 0), invoked[e.id].time_ns)
    found = pick(
        history, random,
        lambda e: of_a_group(e)
        and acks.get((e.subscription, e.position), 1 << 62) < youngest[e.process, e.subscription, e.ledger],
    )  # fmt: skip
    return found and [*history, changed(found[1], delivery=found[1].delivery + 7, time_ns=history[-1].time_ns)]


@breaks("V5")
def a_redelivery_that_does_not_say_so(history: History, random: Random) -> History | None:
    found = pick(history, random, of_a_group)
    return found and [*history[: found[0] + 1], found[1], *history[found[0] + 1 :]]


@breaks("V6")
def stored_before_what_was_acknowledged(history: History, random: Random) -> History | None:
    """Everything of it is consistent, but its position is one that had been passed when it was published."""
    invoked = invocations(history)
    acks = [e for e in history if acknowledges(e)]
    found = [
        (a, b) for a, b in pairs(acks)
        if a.time_ns < invoked[b.process, b.id].time_ns and a.id != b.id
    ]  # fmt: skip
    if not found:
        return None
    a, b = random.choice(found)
    return relabelled(history, {a.position: b.position, b.position: a.position})


@breaks("V6")
def a_stream_that_goes_back(history: History, random: Random) -> History | None:
    found = pick(history, random, lambda e: delivers(e) and e.live)
    return found and [*history[: found[0] + 1], found[1], *history[found[0] + 1 :]]


@breaks("V7")
def acknowledged_under_an_old_epoch(history: History, random: Random) -> History | None:
    invoked = invocations(history)
    first: dict[tuple[str, int], int] = {}
    for e in filter(acknowledges, history):
        first.setdefault((writer_of(e.ledger), epoch_of(e.ledger)), e.time_ns)
    found = pick(
        history, random,
        lambda e: acknowledges(e) and epoch_of(e.ledger) > 0
        and first[writer_of(e.ledger), epoch_of(e.ledger)] < invoked[e.process, e.id].time_ns,
    )  # fmt: skip
    if found is None:
        return None
    ledger = f"{writer_of(found[1].ledger)}/{epoch_of(found[1].ledger) - 1}"
    return with_entry(history, found[0], position=f"{ledger}:{10_000_000}")


@breaks("V7")
def something_beyond_a_closed_end(history: History, random: Random) -> History | None:
    found = pick(history, random, lambda e: delivers(e) and e.offset > 0)
    if found is None:
        return None
    closed = Entry(
        time_ns=history[-1].time_ns, process="run", kind="info", operation="close", position=found[1].ledger,
        end=found[1].offset,
    )  # fmt: skip
    return [*history, closed]


@breaks("V8")
def damage_nobody_reports(history: History, random: Random) -> History | None:
    found = pick(history, random, lambda e: e.operation == "store")
    if found is None:
        return None
    hit = found[1]
    damage = Entry(
        time_ns=history[-1].time_ns, process="run", kind="info", operation="damage", target="b1",
        position=hit.position, end=hit.offset + 1,
    )  # fmt: skip
    return [*history, damage]


@breaks("V8")
def a_report_that_is_missing(history: History, random: Random) -> History | None:
    found = pick(history, random, lambda e: e.operation == "report")
    return found and [e for e in history if e.operation != "report"]


@breaks("V10")
def nothing_succeeds_after_the_healing(history: History, random: Random) -> History | None:
    last = [e for e in history if acknowledges(e)][-1]
    heal = Entry(time_ns=last.time_ns, process="run", kind="info", operation="heal", target="b1")
    return sorted([*history, heal], key=lambda e: e.time_ns)


@breaks("V10")
def success_comes_too_late(history: History, random: Random) -> History | None:
    """A minute passes between the healing and everything else."""
    found = pick(history, random, lambda e: e.operation == "publish" and e.kind == "invoke")
    if found is None or found[1].id not in acked_ids(history[found[0] :]):
        return None
    place = found[0]
    heal = Entry(time_ns=history[place].time_ns, process="run", kind="info", operation="heal", target="b1")
    late = [changed(e, time_ns=e.time_ns + 60 * NS_PER_S) for e in history[place:]]
    return [*history[:place], heal, *late]


@breaks("V10")
def a_copy_that_lacks_an_event(history: History, random: Random) -> History | None:
    copied = {e.position for e in history if e.operation == "copies" and " " in e.target}
    found = pick(history, random, lambda e: e.operation == "store" and e.ledger in copied)
    return found and [e for n, e in enumerate(history) if n != found[0]]


@breaks("V12")
def it_failed_and_exists(history: History, random: Random) -> History | None:
    once = stored_once(history)
    found = pick(history, random, lambda e: acknowledges(e) and e.id in once)
    if found is None:
        return None
    place, ok = found
    failed = Entry(
        time_ns=ok.time_ns, process=ok.process, kind="fail", operation="publish", id=ok.id, detail="too_large"
    )
    return [*history[:place], failed, *history[place + 1 :]]


@breaks("too few")
def little_was_published(history: History, random: Random) -> History | None:
    few = sorted(acked_ids(history))[:3]
    return [e for e in history if not e.id or e.id in few]


@breaks("too few")
def no_fault_struck(history: History, random: Random) -> History | None:
    promise = Promise.decode(history[0].detail)
    asking = changed(history[0], detail=msgspec.structs.replace(promise, least_faults=1).encode())
    return [asking, *(e for e in history[1:] if e.operation != "fault")]
