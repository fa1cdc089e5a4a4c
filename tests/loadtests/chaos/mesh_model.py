"""A mesh that keeps every promise, small and in memory: writes the good histories of several regions for the checker.

Three regions of one instance each. The group ``g`` lives in one of them at a time and takes everything; links carry
events there from the others. One region is lost (its home goes elsewhere, what it had not passed on is late), comes
back, and the home is moved back by command.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.promise import Promise

REGIONS = ("r.a", "r.b", "r.c")
TOPICS = ("t.a", "t.sync")
SHARE_NS = 2_000_000
LAG_MS = 3
PROMISE = Promise(synchronous=("t.sync",), share_s=SHARE_NS / 1e9, least_published=20, least_delivered=20)


class Stored:
    """An event at its origin, and when it was acknowledged."""

    def __init__(self, invoked: Entry, position: str, acked_ns: int) -> None:
        self.invoked = invoked
        self.position = position
        self.acked_ns = acked_ns


class Crossed:
    """What each region has of the ledgers of the others: a beginning of each, at places of its own."""

    def __init__(self) -> None:
        self.places: list[tuple[str, str, Stored]] = []  # region, position there
        self._counts: dict[tuple[str, str], int] = {}  # region, ledger → so many of them are there
        self._sizes = dict.fromkeys(REGIONS, 0)

    def count(self, region: str, ledger: str) -> int:
        """How many events of a ledger a region has."""
        return self._counts.get((region, ledger), 0)

    def take(self, region: str, into: str, ledger: str, events: list[Stored]) -> None:
        """The region now has at least these events, with which the ledger begins; what is new lies in ``into``."""
        at = self.count(region, ledger)
        for stored in events[at:]:
            self.places.append((region, f"{into}:{1_000_000 + self._sizes[region]}", stored))
            self._sizes[region] += 1
        self._counts[region, ledger] = max(at, len(events))


class ModelledMesh:
    """Regions, links between all of them, one group, and two producers per region."""

    def __init__(self, seed: int, *, comes_back: bool = True) -> None:
        self.entries: list[Entry] = []
        self.comes_back = comes_back
        self._random = Random(seed)
        self._now_ns = 0
        self._numbers = dict.fromkeys(REGIONS, 0)
        self._epochs = dict.fromkeys(REGIONS, 0)
        self._ledgers: dict[str, list[Stored]] = {f"{region}/b1/0": [] for region in REGIONS}
        self._crossed = Crossed()
        self._cursors: dict[str, int] = {}  # ledger → so many of them the group has had
        self._acked: dict[str, int] = {}  # position → when, by the group
        self._held: deque[Stored] = deque()
        self._home = "r.a"
        self._lost = ""
        self._say("run", "info", "promise", detail=PROMISE.encode())
        self._say("c", "ok", "subscribe", subscription="g", topic="t.>", start="earliest", target=self._home)

    def _say(self, process: str, kind: Any, operation: str, **fields: Any) -> Entry:
        self._now_ns += self._random.randint(1, 200_000)
        entry = Entry(time_ns=self._now_ns, process=process, kind=kind, operation=operation, **fields)
        self.entries.append(entry)
        return entry

    def run(self, steps: int) -> list[Entry]:
        """So many steps, with a loss after a third and a return after two; then everything is settled."""
        actions = [self._publish] * 4 + [self._cross] * 5 + [self._deliver] * 6 + [self._settle] * 5
        for step in range(steps):
            if step == steps // 3:
                self._lose()
            elif step == 2 * steps // 3 and self.comes_back:
                self._return()
            self._random.choice(actions)()
        if self.comes_back:
            for region in REGIONS:
                self._publish(region)
        self._finish()
        return self.entries

    def _alive(self) -> list[str]:
        return [region for region in REGIONS if region != self._lost]

    def _ledger(self, region: str) -> str:
        return f"{region}/b1/{self._epochs[region]}"

    def _publish(self, region: str = "") -> None:
        region = region or self._random.choice(self._alive())
        self._numbers[region] += 1
        number, process, producer = self._numbers[region], f"p.{region}", f"p.{region}"
        topic, id = self._random.choice(TOPICS), f"{region}/{number}"
        key, crc = f"{region}.k{self._random.randrange(3)}", self._random.getrandbits(32)
        invoked = self._say(
            process, "invoke", "publish", id=id, topic=topic, key=key, producer=producer, sequence=number, crc=crc
        )
        ledger = self._ledger(region)
        position = f"{ledger}:{len(self._ledgers[ledger])}"
        stored = Stored(invoked, position, self._now_ns)
        self._ledgers[ledger].append(stored)
        if topic == "t.sync":  # acknowledged when another region has it, and all that comes before it
            self._cross(self._random.choice([r for r in self._alive() if r != region]), region)
        stored.acked_ns = self._say(process, "ok", "publish", id=id, position=position).time_ns

    def _cross(self, region: str = "", origin: str = "") -> None:
        """Everything there is of one origin, and for a synchronous event all of it."""
        region = region or self._random.choice(self._alive())
        for ledger, events in self._ledgers.items():
            born = ledger.partition("/")[0]
            if born in (region, self._lost) or (origin and born != origin):
                continue
            self._crossed.take(region, self._ledger(region), ledger, events)

    def _there(self, ledger: str) -> int:
        """How many events of a ledger the home has."""
        if ledger.partition("/")[0] == self._home:
            return len(self._ledgers[ledger])
        return self._crossed.count(self._home, ledger)

    def _deliver(self) -> None:
        ledger = self._random.choice(list(self._ledgers))
        for _ in range(self._random.randint(1, 5)):
            at = self._cursors.get(ledger, 0)
            if at >= self._there(ledger):
                return
            self._cursors[ledger] = at + 1
            stored = self._ledgers[ledger][at]
            if stored.position not in self._acked:
                self._hand_out(stored)

    def _hand_out(self, stored: Stored) -> None:
        event = stored.invoked
        self._say(
            "c", "ok", "deliver", subscription="g", id=event.id, topic=event.topic, key=event.key, crc=event.crc,
            position=stored.position, delivery=1,
        )  # fmt: skip
        self._held.append(stored)

    def _settle(self) -> None:
        for _ in range(self._random.randint(1, 6)):
            if self._held:
                stored = self._held.popleft()
                acked = self._say("c", "ok", "ack", subscription="g", id=stored.invoked.id, position=stored.position)
                self._acked.setdefault(stored.position, acked.time_ns)

    def _lose(self) -> None:
        """The home, with whatever it has not passed on; what is older than the recovery point has crossed before."""
        lost = self._home
        self._now_ns += LAG_MS * 1_000_000 // 2  # by then it is lost
        lost_ns = self._say("run", "info", "fault", fault="region", target=lost).time_ns
        gone_ns = self._say("run", "info", "gone", target=lost, lag_ms=LAG_MS).time_ns
        for ledger, events in self._ledgers.items():
            if ledger.startswith(lost):  # the recovery point counts back from when the region is declared gone
                old = [n for n, stored in enumerate(events) if stored.acked_ns < gone_ns - LAG_MS * 1_000_000]
                newest = max((n + 1 for n, stored in enumerate(events) if stored.invoked.topic == "t.sync"), default=0)
                self._crossed.take("r.b", self._ledger("r.b"), ledger, events[: max(len(old), newest)])
        self._lost, self._home = lost, "r.b"
        self._say("run", "ok", "move", subscription="g", target=self._home)
        self._again(lambda acked_ns: acked_ns > lost_ns - SHARE_NS)

    def _again(self, unshared: Any) -> None:
        """What is in flight, and some of what was acknowledged and not shared, comes again from the new home."""
        again = {stored.position for stored in self._held}
        again |= {position for position, acked_ns in self._acked.items() if unshared(acked_ns)}
        self._held.clear()
        for ledger, events in self._ledgers.items():
            for stored in events[: min(self._cursors.get(ledger, 0), self._there(ledger))]:
                if stored.position in again:
                    self._hand_out(stored)
            self._cursors[ledger] = min(self._cursors.get(ledger, 0), self._there(ledger))

    def _return(self) -> None:
        """It is there again under another epoch; then the home is moved back to it, in order."""
        self._epochs[self._lost] += 1
        back, self._lost = self._lost, ""
        self._ledgers[self._ledger(back)] = []
        self._say("run", "info", "heal", fault="region", target=back)
        self._say("run", "info", "back", target=back)
        for region in REGIONS:
            self._cross(region)
        for _ in range(1000):
            self._deliver()
            self._settle()
        self._now_ns += 2 * SHARE_NS
        self._say("run", "invoke", "move", subscription="g", target=back)
        self._home = back
        self._say("run", "ok", "move", subscription="g", target=back)
        self._again(lambda _acked_ns: False)

    def _finish(self) -> None:
        for region in self._alive():
            self._cross(region)
        for _ in range(100_000):
            if not self._held and all(self._cursors.get(ledger, 0) == self._there(ledger) for ledger in self._ledgers):
                break
            self._deliver()
            self._settle()
        for region, into, stored in self._crossed.places:
            event = stored.invoked
            self._say(
                "run", "ok", "forward", target=region, id=event.id, topic=event.topic, key=event.key, crc=event.crc,
                position=stored.position, into=into,
            )  # fmt: skip
