"""Random lives of an instance with retention, crashes and clocks that jump; the checks catch what breaks it."""

from random import Random

import pytest

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker import retention
from fedbus.broker.closed_ledgers import ClosedLedgers
from fedbus.broker.policies import DAY_MS, TopicRule
from fedbus.broker.record import Kind
from fedbus.broker.retention import Retention
from fedbus.broker.state import expired_decoder
from tests.broker.simulation import MILLISECOND, offsets_of
from tests.broker.talk import Talk, settle, start

HOUR_MS = 3_600_000
RETENTION_MS = {"a": 2 * HOUR_MS, "b": 6 * HOUR_MS}
GROUPS = {"all": (">",), "just-a": ("a",)}
STEPS = 120


class Life:
    """One instance, what was published to it, and what its groups acknowledged. ``passed_ms`` is true time."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.node = start()
        self.passed_ms = 0
        self.events: dict[tuple[str, int], tuple[str, int]] = {}  # (ledger, offset) → (topic, when)
        self.acked: dict[str, set[tuple[str, int]]] = {name: set() for name in GROUPS}
        self.lost: dict[str, set[tuple[str, int]]] = {name: set() for name in GROUPS}
        self.known: set[str] = set()
        self.before: dict[str, set[str]] = {}  # ledgers that were gone when the group came
        self.sessions = 0
        self.apply()

    def apply(self) -> None:
        rules = [TopicRule(filter=topic, retention_ms=kept_ms) for topic, kept_ms in RETENTION_MS.items()]
        self.node.handle(e.ApplyTopics(1, rules))

    def talk(self) -> Talk:
        self.sessions += 1
        return Talk(self.node, b"s%d" % self.sessions)

    def step(self) -> None:
        act = self.random.choices((self.publish, self.consume, self.pass_time, self.jump, self.crash), (4, 3, 6, 1, 2))[
            0
        ]
        act()
        self.note_losses()
        self.check()

    def publish(self) -> None:
        topic, count = self.random.choice("ab"), self.random.randint(1, 4)
        talk = self.talk()
        talk.publish(*(b"%d" % n for n in range(count)), topic=topic)
        settle(self.node)
        for done in talk.heard(p.Published):
            for offset in range(done.first_offset, done.first_offset + done.count):
                self.events[done.ledger, offset] = topic, self.passed_ms

    def consume(self) -> None:
        name = self.random.choice(list(GROUPS))
        talk = self.talk()
        talk.subscribe(name, GROUPS[name], credit=self.random.randint(0, 6))
        settle(self.node)
        heard = list(talk.inbox)
        talk.inbox.clear()
        if name not in self.known and any(isinstance(message, p.Subscribed) for message, _ in heard):
            self.known.add(name)
            self.before[name] = {ledger for ledger, _ in self.events} - set(self.node.disk.ledgers)
        for message, _ in heard:
            if isinstance(message, p.Deliver) and self.random.random() < 0.7:
                self.acked[name].update((message.ledger, offset) for offset in offsets_of(message.ranges))
                talk.say(p.Ack(1, [p.Settled(message.ledger, message.ranges)], request=9))
        if self.random.random() < 0.7:
            settle(self.node)
        talk.say(p.Goodbye())

    def pass_time(self) -> None:
        for _ in range(self.random.randint(1, 90)):
            self.passed_ms += 60_000
            self.node.world.tick(60_000)
            self.node.survey()
            if self.random.random() < 0.8:
                settle(self.node)

    def jump(self) -> None:
        """A day forth or back, seen or not, and after a while back again."""
        jump_ms = self.random.choice((-1, 1)) * DAY_MS
        down = self.random.random() < 0.5
        if down:
            self.node.crash()
        self.node.world.now_ns += jump_ms * MILLISECOND
        if down:
            self.up()
        self.pass_time()
        self.node.world.now_ns -= jump_ms * MILLISECOND

    def crash(self) -> None:
        """Often in the middle of something."""
        for _ in range(self.random.randint(0, 40)):
            self.passed_ms += 60_000
            self.node.world.tick(60_000)
            self.node.survey()
        self.node.crash(self.random.choice((0, 0, 0, 1, 2, 3)))
        self.up()

    def up(self) -> None:
        self.node.start()
        if self.random.random() < 0.7:
            settle(self.node)
        self.apply()

    def note_losses(self) -> None:
        """What is durable about losses: records of them, read from disk."""
        for records in self.node.disk.ledgers.values():
            for record in records:
                if record.kind is Kind.EXPIRED:
                    for each in expired_decoder.decode(record.payload):
                        for part in each.ranges:
                            self.lost[each.group].update((part.ledger, offset) for offset in offsets_of(part.ranges))

    def check(self) -> None:
        kept = self.node.disk.ledgers
        for (ledger, offset), (topic, when_ms) in self.events.items():
            if ledger in kept:
                continue
            age_ms = self.passed_ms - when_ms
            assert age_ms >= RETENTION_MS[topic], f"{topic} at {ledger}:{offset} was dropped after {age_ms} ms"
            for name in self.known:
                if (topic == "a" or name == "all") and ledger not in self.before[name]:
                    known = self.acked[name] | self.lost[name]
                    assert (ledger, offset) in known, f"group {name} lost {ledger}:{offset} without a word"
        present = {group.name for group in self.node.core.status().groups}
        assert self.known <= present, f"groups {self.known - present} are gone"

    def end(self) -> None:
        """What is left is delivered, and nothing of what is gone is waited for."""
        settle(self.node)
        self.node.crash()
        self.node.start()
        settle(self.node)
        for name in sorted(self.known):
            talk = self.talk()
            talk.subscribe(name, GROUPS[name], credit=10_000)
            for _ in range(20):
                settle(self.node)
                self.node.world.tick(20)
            got = {
                (message.ledger, offset)
                for message, _ in talk.inbox
                if isinstance(message, p.Deliver)
                for offset in offsets_of(message.ranges)
            }
            wanted = {
                where
                for where, (topic, _) in self.events.items()
                if where[0] in self.node.disk.ledgers and (topic == "a" or name == "all")
            }
            assert wanted - self.acked[name] - self.lost[name] <= got
            assert all(ledger in self.node.disk.ledgers for ledger, _ in got)
            totals = {loss.group: loss.events for loss in self.node.core.status().expired}
            lost = {where for where in self.lost[name] if where in self.events}
            assert totals.get(name, 0) >= len(
                {where for where in lost if self.events[where][0] == "a"} - self.acked[name]
            )
            talk.say(p.Goodbye())


def live(seed: int) -> Life:
    life = Life(seed)
    for _ in range(STEPS):
        life.step()
    life.end()
    return life


@pytest.mark.parametrize("seed", range(12))
def test_nothing_goes_early_and_nothing_is_lost_without_a_record(seed):
    print("seed", seed)
    live(seed)


def test_the_runs_do_drop_ledgers_and_record_losses():
    lives = [live(seed) for seed in range(3)]
    assert sum(int(next(reversed(life.node.disk.ledgers)).rpartition("/")[2]) for life in lives) > sum(
        len(life.node.disk.ledgers) for life in lives
    )
    assert any(life.lost["all"] for life in lives)


def without_records(self, ledger, now_ns, now_ms):
    self._retire(ledger.ledger)


def without_waiting(self, ledger, now_ns, now_ms):
    expire(self, ledger, now_ns, now_ms)
    self._retire(ledger.ledger)


expire = Retention._expire

ABLATIONS = {
    "losses are not recorded": (Retention, "_expire", without_records),
    "losses need not be durable": (Retention, "_expire", without_waiting),
    "state need not be durable elsewhere": (ClosedLedgers, "superseded", lambda self, ledger: True),
    "one topic's retention is enough": (
        retention, "past", lambda *args: any(past(args[0], args[1], [rule], *args[3:]) for rule in args[2]),
    ),
    "a clock is believed": (retention.SteadyTime, "advance", lambda self, now_ns: now_ns // MILLISECOND),
    "a clock is believed at the start": (retention, "CLOCK_DOUBT_MS", 0),
}  # fmt: skip
past = retention.past


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_runs_catch_a_broken_retention(name, monkeypatch):
    owner, attribute, broken = ABLATIONS[name]
    monkeypatch.setattr(owner, attribute, broken)
    for seed in range(60):
        try:
            live(seed)
        except (AssertionError, KeyError):
            return
    pytest.fail(f"{name}: no run of 60 noticed")
