"""A bus that keeps every promise, small and in memory: it writes the good histories that the checker is tested with."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.promise import Promise

INSTANCES = ("here/b1", "here/b2")
TOPICS = ("t.a", "t.b")
GROUPS = {"all": "t.>", "only-a": "t.a"}


class Stored:
    """An event at a position, and who has had it."""

    def __init__(self, invoked: Entry, position: str) -> None:
        self.invoked = invoked
        self.position = position


class ModelledBus:
    """Two instances whose ledgers both copy, two producers, two groups and a stream, all in one thread."""

    def __init__(self, seed: int) -> None:
        self.entries: list[Entry] = []
        self._random = Random(seed)
        self._now_ns = 0
        self._epochs = dict.fromkeys(INSTANCES, 0)
        self._ledgers: dict[str, list[Stored]] = {f"{name}/0": [] for name in INSTANCES}
        self._taken: dict[str, deque[Entry]] = {name: deque() for name in INSTANCES}  # invocations not yet stored
        self._sequences = {"p0": 0, "p1": 0}
        self._incarnations = {"p0": 1, "p1": 1}
        self._unknown: dict[str, list[Entry]] = {"p0": [], "p1": []}
        self._cursors: dict[tuple[str, str], int] = {}
        self._held: list[tuple[str, Stored, int]] = []  # group, event, how often delivered
        self._say("run", "info", "promise", detail=Promise(replicas=2, least_published=20, least_delivered=20).encode())
        for group, pattern in GROUPS.items():
            self._say("c", "ok", "subscribe", subscription=group, topic=pattern, start="earliest")
        self._say("c", "ok", "subscribe", subscription="stream", topic="t.>", start="earliest", live=True)

    def _say(self, process: str, kind: Any, operation: str, **fields: Any) -> Entry:
        self._now_ns += self._random.randint(1, 1_000_000)
        entry = Entry(time_ns=self._now_ns, process=process, kind=kind, operation=operation, **fields)
        self.entries.append(entry)
        return entry

    def run(self, steps: int) -> list[Entry]:
        """So many steps, then everything is settled; the whole history."""
        actions = [self._publish] * 6 + [self._store] * 4 + [self._deliver] * 6 + [self._settle] * 3
        for _ in range(steps):
            self._random.choice([*actions, self._refuse, self._crash] if self._random.random() < 0.05 else actions)()
        for producer in self._sequences:
            self._publish(producer)
        self._finish()
        return self.entries

    def _publish(self, producer: str = "") -> None:
        producer = producer or self._random.choice(list(self._sequences))
        process = f"{producer}.{self._incarnations[producer]}"
        if self._unknown[producer]:
            again = self._unknown[producer].pop(0)
            id, sequence, topic, key, crc = again.id, again.sequence, again.topic, again.key, again.crc
        else:
            self._sequences[producer] += 1
            sequence = self._sequences[producer]
            id, topic = f"{producer}/{sequence}", self._random.choice(TOPICS)
            key, crc = f"{producer}.k{self._random.randrange(3)}", self._random.getrandbits(32)
        invoked = self._say(
            process, "invoke", "publish", id=id, topic=topic, key=key, producer=producer, sequence=sequence, crc=crc
        )
        self._taken[INSTANCES[sum(key.encode()) % 2]].append(invoked)

    def _store(self, instance: str = "", *, answering: bool = True) -> None:
        instance = instance or self._random.choice(INSTANCES)
        ledger = f"{instance}/{self._epochs[instance]}"
        taken = self._taken[instance]
        for _ in range(self._random.randint(1, max(1, len(taken)))):
            if taken:
                invoked = taken.popleft()
                stored = Stored(invoked, f"{ledger}:{len(self._ledgers[ledger])}")
                self._ledgers[ledger].append(stored)
                if answering:
                    self._say(invoked.process, "ok", "publish", id=invoked.id, position=stored.position)
                else:
                    self._lost(invoked)

    def _lost(self, invoked: Entry) -> None:
        self._say(invoked.process, "info", "publish", id=invoked.id, detail="unavailable")
        self._unknown[invoked.producer].append(invoked)

    def _refuse(self) -> None:
        self._sequences["p0"] += 1
        id = f"p0/{self._sequences['p0']}"
        process = f"p0.{self._incarnations['p0']}"
        self._say(process, "invoke", "publish", id=id, topic="t.a", producer="p0", sequence=self._sequences["p0"])
        self._say(process, "fail", "publish", id=id, detail="too_large")

    def _crash(self) -> None:
        """Some of what was taken is stored without an answer, the rest is not; producers begin anew."""
        instance = self._random.choice(INSTANCES)
        self._say("run", "info", "fault", fault="kill", target=instance)
        self._store(instance, answering=False)
        ledger = f"{instance}/{self._epochs[instance]}"
        for name in INSTANCES:  # a producer that is killed forgets what it has sent to anybody
            self._store(name, answering=False)
            while self._taken[name]:
                self._lost(self._taken[name].popleft())
        self._say("run", "info", "close", position=ledger, end=len(self._ledgers[ledger]))
        self._epochs[instance] += 1
        self._ledgers[f"{instance}/{self._epochs[instance]}"] = []
        for producer in self._incarnations:
            self._incarnations[producer] += 1
            self._unknown[producer].sort(key=lambda entry: entry.sequence)
        if self._ledgers[ledger]:
            hit = self._random.choice(self._ledgers[ledger]).position
            self._say("run", "info", "damage", target="b1", position=hit, end=int(hit.rpartition(":")[2]) + 1)
            self._say("run", "info", "report", target="b1", position=ledger)
        self._say("run", "info", "heal", fault="kill", target=instance)

    def _deliver(self) -> None:
        subscription = self._random.choice([*GROUPS, "stream"])
        ledger = self._random.choice(list(self._ledgers))
        live = subscription == "stream"
        for _ in range(self._random.randint(1, 5)):
            at = self._cursors.get((subscription, ledger), 0)
            if at >= len(self._ledgers[ledger]):
                return
            self._cursors[subscription, ledger] = at + 1
            stored = self._ledgers[ledger][at]
            if subscription == "only-a" and stored.invoked.topic != "t.a":
                continue
            self._hand_out(subscription, stored, 1, live=live)

    def _hand_out(self, subscription: str, stored: Stored, delivery: int, *, live: bool) -> None:
        event = stored.invoked
        self._say(
            "c", "ok", "deliver", subscription=subscription, id=event.id, topic=event.topic, key=event.key,
            crc=event.crc, position=stored.position, delivery=delivery, live=live,
        )  # fmt: skip
        if not live:
            self._held.append((subscription, stored, delivery))

    def _settle(self) -> None:
        for _ in range(self._random.randint(1, 6)):
            if not self._held:
                return
            group, stored, delivery = self._held.pop(self._random.randrange(len(self._held)))
            if self._random.random() < 0.1:
                self._hand_out(group, stored, delivery + 1, live=False)
            else:
                self._say("c", "ok", "ack", subscription=group, id=stored.invoked.id, position=stored.position)

    def _finish(self) -> None:
        while any(self._unknown.values()):
            for producer, unknown in self._unknown.items():
                if unknown:
                    self._publish(producer)
        for name in INSTANCES:
            while self._taken[name]:
                self._store(name)
        for _ in range(100_000):
            if not self._held and all(
                self._cursors.get((subscription, ledger), 0) == len(stored)
                for subscription in (*GROUPS, "stream")
                for ledger, stored in self._ledgers.items()
            ):
                break
            self._deliver()
            self._settle()
        for ledger, events in self._ledgers.items():
            for holder in ("b1", "b2"):
                for stored in events:
                    event = stored.invoked
                    self._say(
                        "run", "ok", "store", target=holder, id=event.id, topic=event.topic, key=event.key,
                        crc=event.crc, position=stored.position,
                    )  # fmt: skip
            self._say("run", "info", "copies", position=ledger, target="b1 b2")
