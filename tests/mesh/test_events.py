"""Events published anywhere reach whoever wants them anywhere, once per group and in order, and nobody else."""

from __future__ import annotations

from random import Random

import pytest

from fedbus_loadtests.chaos.entry import region_of
from fedbus_loadtests.chaos.verdict import judge
from tests.loadtests.chaos.mesh_mutations import MESH_MUTATIONS

pytestmark = pytest.mark.ray

SEEN_S = 30


def test_events_reach_groups_and_live_subscribers_of_every_region_once_and_in_order(mesh, trial):
    a, b, c = mesh.regions.values()
    trial.reader("at-a", [a], "x.>", "y.>")
    trial.reader("at-b", [b], "x.>")
    trial.reader("at-c", [c], "y.>")
    trial.reader("live-c", [c], "x.>", live=True)
    trial.wait_subscribed()
    for region in (a, b, c):
        trial.publisher(region, "x.1", "x.2", "y.1")
    trial.publisher(b, "unwanted.1", rate_eps=20.0)
    trial.publisher(a, "all.1", "pinned.1", rate_eps=20.0)

    def origins() -> set[str]:
        return {region_of(entry.position) for entry in trial.histories.succeeded("deliver", live=True)}

    trial.until(lambda: len(origins()) == 3, SEEN_S, "the live subscriber hears of every region")
    seen = {region_of(e.position): e.time_ns for e in reversed(trial.histories.succeeded("deliver", live=True))}
    trial.wait_published(600)
    verdict = trial.verdict()
    assert verdict.ok, verdict.text()

    live = {entry.id for entry in trial.histories.succeeded("deliver", live=True)}
    sent = {entry.id: entry for entry in trial.histories.succeeded("publish")}
    topics = {entry.id: entry.topic for entry in trial.histories.invoked()}
    missed = [
        id
        for id, acked in sent.items()
        if ".x." in topics[id] and acked.time_ns > seen[region_of(acked.position)] and id not in live
    ]
    assert not missed, f"the live subscriber missed {len(missed)}: {missed[:5]}"
    crossed = {
        (entry.topic.removeprefix(f"{trial.name}."), region_of(entry.into))
        for entry in trial.histories.succeeded("forward")
    }
    assert {("x.1", region.name) for region in (a, b, c)} <= crossed
    assert {("all.1", b.name), ("all.1", c.name)} <= crossed
    assert not {topic for topic, _ in crossed if topic.startswith(("unwanted", "pinned"))}
    for invariant, mutation in MESH_MUTATIONS:  # the checker would have noticed, also in what was recorded here
        if mutation.__name__.startswith("forwarded") or "a_forwarded_event" in mutation.__name__:
            broken = mutation(list(trial.histories.entries()), Random(trial.seed))
            assert invariant in judge(broken).violations, mutation.__name__
    assert {region_of(acked.position) for id, acked in sent.items() if ".pinned." in topics[id]} == {b.name}
