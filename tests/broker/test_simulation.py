"""The broker core under a hostile shell: crashes, lost messages, full and broken disks, consumers that come and go."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.broker.history import Run

TOPICS = ["a.x", "a.y", "b.x"]
FILTERS = [["a.x"], ["a.*"], [">"], ["b.>", "a.y"]]
HOW = ["ack", "ack", "ack", "wait", "wait", "nack", "extend", "part", "forget"]
pick = st.integers(0, 1000)


class Clients(RuleBasedStateMachine):
    """Two instances, producers and consumers; the end of every run is that the faults stop and all must have come."""

    regions = ("here", "here")

    @initialize()
    def begin(self):
        self.run = Run()
        self.nodes = [self.run.node(region, f"n{at}") for at, region in enumerate(self.regions)]
        for node in self.nodes:
            self.run.producer(node)

    def teardown(self):
        if hasattr(self, "run"):
            self.run.settle()

    def of(self, found, at):
        return found[at % len(found)] if found else None

    @rule(at=pick, topic=st.sampled_from(TOPICS), keys=st.lists(st.integers(0, 3), min_size=1, max_size=6))
    def publish(self, at, topic, keys):
        producer = self.of(self.run.producers, at)
        if len(producer.waiting) < 6:
            producer.publish(topic, keys)

    @rule(at=pick)
    def send_again(self, at):
        self.of(self.run.producers, at).send_again()

    @rule(at=pick, to=pick)
    def reroute(self, at, to):
        self.of(self.run.producers, at).send_again(self.of(self.nodes, to))

    @rule(
        at=pick,
        group=st.sampled_from(["", "g", "h"]),
        filters=pick,
        start=st.sampled_from(["earliest", "latest"]),
        credit=st.integers(1, 30),
    )
    def subscribe(self, at, group, filters, start, credit):
        node = self.of(self.nodes, at)
        if len(self.run.consumers) < 8 and node.up:
            chosen = FILTERS[["", "g", "h"].index(group)] if group else self.of(FILTERS, filters)
            self.run.consumer(node, group, chosen, start, credit)

    @rule(at=pick)
    def hear(self, at):
        for client in (*self.run.consumers, *self.run.producers):
            client.hear()

    @rule(at=pick, how=st.sampled_from(HOW))
    def consume(self, at, how):
        consumer = self.of(self.run.consumers, at)
        if consumer is not None:
            consumer.hear()
            consumer.settle(how)

    @rule(at=pick, politely=st.booleans())
    def leave(self, at, politely):
        consumer = self.of(self.run.consumers, at)
        if consumer is not None and not consumer.gone():
            if politely:
                consumer.leave()
            else:
                self.run.world.disconnect(consumer.node, consumer.session)

    @rule(at=pick)
    def come_back(self, at):
        consumer = self.of([c for c in self.run.consumers if c.gone() and c.node.up], at)
        if consumer is not None:
            consumer.connect()


class Faults(Clients):
    """Time, the disk and what goes wrong with it."""

    @rule(at=pick, most=st.integers(1, 6))
    def commit(self, at, most):
        self.of(self.nodes, at).commit(most)

    @rule(at=pick)
    def read(self, at):
        self.of(self.nodes, at).read()

    @rule(milliseconds=st.sampled_from([20, 20, 200, 500, 11_000]))
    def wait(self, milliseconds):
        for producer in self.run.producers:  # an answer is heard before the hold on what came behind it ends
            producer.hear()
        self.run.world.tick(milliseconds)

    @rule(at=pick, survivors=st.integers(0, 4))
    def crash(self, at, survivors):
        node = self.of(self.nodes, at)
        if node.up:
            node.crash(survivors)

    @rule(at=pick)
    def restart(self, at):
        node = self.of(self.nodes, at)
        if not node.up:
            node.start()

    @rule(at=pick, full=st.booleans())
    def fill_disk(self, at, full):
        self.of(self.nodes, at).disk.full = full

    @rule(at=pick)
    def break_disk(self, at):
        node = self.of(self.nodes, at)
        if node.up:
            node.disk.failed = True

    @invariant()
    def ends_never_go_back(self):
        for node in self.nodes if hasattr(self, "nodes") else ():
            if node.up:
                for ledger in node.core.ledgers.names():
                    end = node.core.ledgers.end(ledger)
                    assert end >= self.run.ends.get(ledger, 0), f"V6: {ledger} went back to {end}"
                    self.run.ends[ledger] = end


class Links(Faults):
    """Two regions; the second pulls from the first, with filters that change, over a connection that loses messages."""

    regions = ("there", "here")

    @rule(filters=pick)
    def want(self, filters):
        self.run.link(self.nodes[1], self.nodes[0], self.of(FILTERS, filters))

    @rule()
    def manager_looks(self):
        self.run.relink()

    @rule(losses=st.lists(st.booleans(), min_size=1, max_size=8))
    def move_links(self, losses):
        pattern = iter(losses)
        self.run.world.move_links(lambda: next(pattern, False))

    @rule()
    def move_links_well(self):
        self.run.world.move_links()


class Mutual(Links):
    """Two regions that pull from each other."""

    @rule(filters=pick)
    def want_back(self, filters):
        self.run.link(self.nodes[0], self.nodes[1], self.of(FILTERS, filters))


class Damage(Faults):
    """Records that can no longer be read back."""

    @rule(at=pick, which=pick)
    def damage(self, at, which):
        disk = self.of(self.nodes, at).disk
        ledger, records = self.of(list(disk.ledgers.items()), which)
        if records:
            disk.damaged.add((ledger, self.of(records, which).number))


steps = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
TestFaults = Faults.TestCase
TestFaults.settings = steps
TestLinks = Links.TestCase
TestLinks.settings = steps
TestMutual = Mutual.TestCase
TestMutual.settings = steps
TestDamage = Damage.TestCase
TestDamage.settings = steps
