"""Groups under a hostile shell and a restless manager: moved, paused, deleted, with events nobody can process."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.broker.group_run import OPTIONS, GroupRun
from tests.broker.test_simulation import FILTERS, Faults, pick

CHANGES = ["pause", "resume", "resume", "delete", "earliest", "latest", "position"]


class ChangingGroups(Faults):
    """As ``Faults``, all groups from earliest."""

    @initialize()
    def begin(self):
        self.run = GroupRun()
        self.nodes = [self.run.node(region, f"n{at}") for at, region in enumerate(self.regions)]
        for node in self.nodes:
            self.run.producer(node)

    @rule(
        at=pick,
        group=st.sampled_from(["g", "h"]),
        filters=pick,
        start=st.just("earliest"),
        credit=st.integers(1, 30),
    )
    def subscribe(self, at, group, filters, start, credit):
        node = self.of(self.nodes, at)
        if len(self.run.consumers) < 8 and node.up and group:
            chosen = FILTERS[["", "g", "h"].index(group)]
            self.run.consumer(node, group, chosen, "earliest", credit, OPTIONS[group])

    @rule(at=pick, how=st.sampled_from(CHANGES))
    def manage(self, at, how):
        of = self.of(list(self.run.subscriptions.values()), at)
        if of is not None:
            self.run.manage(of, how, at)
            self.run.push(of.node)

    @rule(at=pick)
    def push(self, at):
        self.run.push(self.of(self.nodes, at))


TestChangingGroups = ChangingGroups.TestCase
TestChangingGroups.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
