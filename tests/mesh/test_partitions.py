"""Cuts between regions: each side goes on, and when the cut is healed everything arrives that is due, once."""

from __future__ import annotations

from time import monotonic

import pytest

from fedbus_loadtests.chaos.entry import region_of
from tests.mesh.groups import wait_home
from tests.mesh.histories import now_ns

pytestmark = pytest.mark.ray

CUT_S, ONE_WAY_S = 30.0, 6.0
GOES_ON_S = 90


def test_a_region_cut_off_for_half_a_minute_goes_on_alone_and_catches_up(mesh, trial):
    a, b, c = mesh.regions.values()
    trial.reader("at-b", [b], ">")
    trial.wait_subscribed()
    trial.reader("at-b", [a], ">", home=b.name)  # somebody else of the same group, at the other side
    trial.reader("at-a", [a], ">")
    for region in (a, b, c):
        trial.publisher(region, "x.1", "x.2")
    trial.wait_subscribed()
    trial.wait_published(200)

    trial.wait_followed()
    mesh.network.cut(b.host)
    trial.happenings.fault("cut", a, b, c)  # b may take groups of the others too: it only waits longer
    cut_ns, began = now_ns(), monotonic()
    burst = trial.publisher(a, "x.burst", rate_eps=400.0, outstanding=200)

    def alone() -> bool:
        """Both sides publish and consume, each what was born there."""
        acked = {
            region_of(e.position) for e in trial.histories.succeeded("publish") if e.time_ns > cut_ns + 5_000_000_000
        }
        at_home = {
            (e.subscription.removeprefix(f"{trial.name}-"), region_of(e.position))
            for e in trial.histories.succeeded("deliver")
            if e.time_ns > cut_ns + 5_000_000_000
        }
        return {a.name, b.name, c.name} <= acked and {("at-b", b.name), ("at-a", a.name), ("at-a", c.name)} <= at_home

    trial.until(alone, GOES_ON_S, "both sides go on")
    trial.until(lambda: monotonic() - began > CUT_S / 2, CUT_S, "half of the cut has passed")
    burst.end()
    trial.until(lambda: monotonic() - began > CUT_S, CUT_S, "the cut has passed")
    mesh.heal()
    trial.happenings.heal("cut", a, b, c)
    healed_ns = now_ns()
    for name, region in (("at-a", a), ("at-b", b)):  # a standby that had taken it gives it back by itself
        with trial.happenings.moving(name, region) as group:
            wait_home(group, region, a, b, c)
    trial.wait_published(200)
    verdict = trial.verdict()
    assert verdict.ok, verdict.text()
    late = [
        e for e in trial.histories.succeeded("forward") if e.topic.endswith(".burst") and region_of(e.into) == b.name
    ]
    assert late, "the burst never crossed"
    fresh = [
        e for e in trial.histories.succeeded("publish") if e.time_ns > healed_ns and region_of(e.position) == b.name
    ]
    assert fresh, "nothing was published at the healed region while it caught up"


def test_one_way_partitions_wedge_no_link(mesh, trial):
    """First one direction, then the other; each between neighbours and over the distance."""
    a, b, c = mesh.regions.values()
    for region in (a, b, c):
        trial.reader(f"at-{region.host.name}", [region], "x.>")
        trial.publisher(region, "x.1", "x.2")
    trial.wait_subscribed()
    trial.wait_published(200)
    for cuts in (((a, b), (c, a)), ((b, a), (a, c))):
        trial.wait_followed()
        began = monotonic()
        for source, target in cuts:
            mesh.network.cut_one_way(source.host, target.host)
        trial.happenings.fault("one way", a, b, c)
        trial.wait_published(200)
        trial.until(lambda began=began: monotonic() - began > ONE_WAY_S, 2 * ONE_WAY_S, "the cuts have passed")
        mesh.heal()
        trial.happenings.heal("one way", a, b, c)
        healed_ns = now_ns()
        for region in (a, b, c):  # if any of them was away for too long
            with trial.happenings.moving(f"at-{region.host.name}", region) as group:
                wait_home(group, region, a, b, c)

        def crosses(healed_ns: int = healed_ns) -> bool:
            """Events published after the healing pass between all of them."""
            sent = {e.id for e in trial.histories.invoked() if e.time_ns > healed_ns}
            ways = {
                (e.subscription, region_of(e.position)) for e in trial.histories.succeeded("deliver") if e.id in sent
            }
            return len(ways) == 9

        trial.until(
            crosses, GOES_ON_S, "events cross all links again", lambda since_ns=healed_ns: _ways(trial, since_ns)
        )
    verdict = trial.verdict()
    assert verdict.ok, verdict.text()


def _ways(trial, since_ns: int) -> str:
    sent = {e.id for e in trial.histories.invoked() if e.time_ns > since_ns}
    ways = {(e.subscription, region_of(e.position)) for e in trial.histories.succeeded("deliver") if e.id in sent}
    return f"only {sorted(ways)}"
