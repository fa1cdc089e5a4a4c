"""The keeper of a region's ledgers over a real store; the instances are the model of ``tests/control/ledger_world``."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.broker.copy_effects import Request
from fedbus.broker.status import BrokerStatus
from fedbus.clock import ManualClock
from fedbus.storage.store import Store
from fedbus_actors.ledger_pushes import Kept
from fedbus_actors.region_ledgers import LedgerKeeper
from tests.control.ledger_world import SECOND, World, check


class KilledError(Exception):
    """The manager was killed right after it had written to the store."""


class Calls:
    """What is said to an instance of the model; an instance that is down hears nothing."""

    def __init__(self, world, instance):
        self.world, self.instance = world, instance

    def apply_ledgers(self, records, endpoints):
        assert set(endpoints) >= {f"r/{self.instance.name}"}
        if self.instance.up:
            for record in records:
                self.instance.note(record)

    def request_refused(self, ledger, detail):
        self.world.refusals.append((self.instance.name, ledger, detail))

    def review_ensemble(self, ledger):
        writer = self.instance
        if writer.up and writer.writing == ledger:
            own, record = writer.disk[ledger], writer.known[ledger]
            self.world.asks.append((writer, Request("ensemble", ledger, record.version, first_number=own.confirmed,
                                                    first_offset=own.confirmed)))  # fmt: skip

    def close_ledger(self):
        writer = self.instance
        if writer.up and writer.writing and not writer.pending:
            end = max(writer.disk[writer.writing].numbers, default=-1) + 1
            self.world.asks.append((writer, Request("close", writer.writing, end_number=end, end_offset=end)))


class KeptWorld(World):
    """The model with a real store and a real keeper, which can be killed after any write."""

    def __init__(self, path, nodes, **options):
        self.clock = ManualClock(SECOND)
        self.path, self.refusals, self.asks, self.kills_after, self.before = path, [], [], None, {}
        self.real_store = None
        super().__init__(nodes, **options)
        self.restart_manager()

    @property
    def store(self):
        return {} if self.real_store is None else {record.id: record for record in self.real_store.ledgers.all()}

    @store.setter
    def store(self, _):
        pass

    @property
    def now_ns(self):
        return self.clock.monotonic_ns()

    @now_ns.setter
    def now_ns(self, value):
        if value > self.clock.monotonic_ns():
            self.clock.advance((value - self.clock.monotonic_ns()) / SECOND)

    def restart_manager(self):
        if self.real_store is not None:
            self.real_store.close()
        store = self.real_store = Store(self.path, 0)
        for owner, name in ((store.ledgers, "swap"), (store.ledgers, "add"), (store, "pass_on")):
            setattr(owner, name, self._killing(getattr(owner, name)))
        self.keeper = LedgerKeeper(store, self.settings, self.clock, lambda *_: None)

    def _killing(self, write):
        def killing(*arguments):
            before = self.store
            result = write(*arguments)
            for record in self.store.values():
                if record.id in before and before[record.id] != record:
                    check(self, before[record.id], record)
            if self.kills_after is not None:
                self.kills_after -= 1
                if self.kills_after <= 0:
                    self.kills_after = None
                    raise KilledError
            return result

        return killing

    def kept(self):
        return [
            Kept(
                name=f"r/{each.name}", node=each.node, endpoint=f"tcp://{each.name}", directory_uuid=each.uuid,
                incarnation=1, present=each.up, silent_since_ns=each.silent_since_ns, stage=each.stage,
                calls=Calls(self, each),
                status=BrokerStatus(
                    instance=f"r/{each.name}", ledger=each.writing, state="serving", ledgers={}, groups=[], live=[],
                    links={}, table_version=0, counters={},
                    held=[copy.held(ledger, each.end(ledger)) for ledger, copy in each.disk.items()],
                ),
            )
            for each in self.instances.values() if each.registered
        ]  # fmt: skip

    def ask(self, instance, request):
        try:
            self.keeper.request(f"r/{instance.name}", request)
        except KilledError:
            self.restart_manager()

    def step(self, stop_after=None):
        self.kills_after = stop_after
        try:
            self.keeper.step(self.kept())
        except KilledError:
            self.restart_manager()
        self.kills_after = None
        asks, self.asks = self.asks, []
        for instance, request in asks:
            self.ask(instance, request)
        for each in self.instances.values():
            if each.up and each.registered and not each.writing and each.stage == "staying":
                self.ask(each, Request("open", f"r/{each.name}/{each.next_epoch}"))
        self.fetch()
        self.now_ns += SECOND // 2
        return self.keeper.plan

    def settle(self, rounds=80):
        """Step until nothing changes for longer than anything is put off."""
        quiet = 0
        for _ in range(rounds):
            before = self.store
            planned = self.step()
            quiet = 0 if self.store != before or planned.changes or planned.reviews else quiet + 1
            if quiet == 4:
                return planned
        raise AssertionError(f"no end of it: {planned}")


@pytest.fixture
def kept_world(tmp_path):
    worlds = []

    def make(nodes, **options):
        world = KeptWorld(tmp_path / f"store{len(worlds)}.db", nodes, **options)
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        world.real_store.close()


def test_instances_get_ledgers_and_the_second_copy_when_the_second_instance_comes(kept_world):
    world = kept_world(["n1"])
    world.settle()
    assert {len(record.members) for record in world.store.values()} == {1}
    world.publish("b1")
    world.add("n1")
    planned = world.settle()
    assert set(planned.copies.values()) == {2}
    assert len(world.store) == 2


def test_a_request_is_answered_at_once_and_a_refusal_says_why(kept_world):
    world = kept_world(["n1", "n1", "n1"], replicas=2, min_copies=2)
    world.settle()
    before = world.store["r/b1/1"]
    silent = next(member.instance for member in before.members if member != before.writer)
    world.ask(world.instances["b1"], Request("ensemble", before.id, before.version, silent=(silent,)))
    after = world.store["r/b1/1"]
    assert (after.version, silent in {member.instance for member in after.last.members}) == (before.version + 1, False)
    everybody = ("r/b2", "r/b3")
    world.ask(world.instances["b1"], Request("ensemble", after.id, after.version, silent=everybody))
    assert "under_replicated" in world.refusals[-1][2]


def test_links_pass_on_with_the_dispatch_of_what_their_receiver_wrote(kept_world):
    world = kept_world(["n1", "n1"])
    world.settle()
    world.real_store.link_assignments.assign("s/b1/1", "b1", 0)
    world.publish("b1")
    world.crash("b1")
    world.now_ns += 6 * SECOND
    world.settle()
    assignment = world.real_store.link_assignments.get("s/b1/1")
    assert (assignment.receiver, assignment.term) == ("b2", 2)


def test_an_instance_that_dies_while_it_drains_is_drained_all_the_same(kept_world):
    world = kept_world(["n1", "n1"])
    world.settle()
    leaver = world.instances["b1"]
    leaver.stage = "leaving"
    world.step()
    world.crash("b1")
    world.start("b1")
    for _ in range(3):
        world.ask(leaver, Request("open", f"r/b1/{leaver.next_epoch}"))
        world.step()
    assert "draining" in world.refusals[-1][2]
    assert world.store["r/b1/1"].state == "CLOSED"
    leaver.stage = "closing"
    world.settle()
    assert world.keeper.unfinished_drain("r/b1") == ""


def test_a_manager_that_starts_knows_nothing_and_takes_nothing_over(kept_world):
    world = kept_world(["n1", "n1"])
    world.settle()
    before = world.store
    world.restart_manager()
    world.ask(world.instances["b1"], Request("ensemble", "r/b1/1", before["r/b1/1"].version, silent=("r/b2",)))
    assert world.store == before, "it cannot know yet who could take the place of b2"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), replicas=st.sampled_from([0, 2, 3]), nodes=st.integers(2, 4))
def test_a_manager_killed_after_any_write_leaves_what_its_successor_brings_to_an_end(
    tmp_path_factory, seed, replicas, nodes
):
    random = Random(seed)
    world = KeptWorld(
        tmp_path_factory.mktemp("store") / "store.db", ["n1", "n2", "n1", "n2"][:nodes], replicas=replicas
    )
    try:
        for _ in range(50):
            name = random.choice(list(world.instances))
            match random.choices(
                [world.publish, world.crash, world.freeze, world.start, None], weights=[30, 3, 3, 8, 30]
            ):
                case [None]:
                    world.step(stop_after=random.choice([1, 1, 2, 3, None]))
                case [what]:
                    what(name)
        for name in world.instances:
            world.start(name)
        world.restart_manager()
        world.settle()
        for name in world.instances:
            world.publish(name)
        planned = world.settle()
        assert planned.waiting == {}
        assert set(planned.copies.values()) == {min(replicas or 2, nodes)}
        for ledger, confirmed in world.acknowledged.items():
            dispatcher = world.instances[world.store[ledger].dispatcher.removeprefix("r/")]
            assert set(range(confirmed)) <= dispatcher.disk[ledger].numbers
    finally:
        world.real_store.close()
