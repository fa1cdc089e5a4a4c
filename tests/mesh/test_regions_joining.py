"""A fourth region joins while events flow, takes part, and leaves."""

from __future__ import annotations

import pytest

from fedbus_loadtests.chaos.entry import region_of
from tests.mesh.groups import wait_home_elsewhere
from tests.mesh.mesh import region_names

pytestmark = pytest.mark.ray

PARTS_S = 120


def test_a_fourth_region_joins_under_load_takes_part_and_leaves(mesh, trial):
    a, b, c = mesh.regions.values()
    trial.reader("at-a", [a], "x.>")
    trial.wait_subscribed()
    for region in (a, b, c):
        trial.publisher(region, "x.1", "x.2", rate_eps=20.0)
    trial.wait_published(100)

    d = mesh.join("mesh.d", a)
    mesh.wait_joined()
    trial.reader("at-d", [d, b], "x.>", host=mesh.users)
    trial.wait_subscribed()
    leaving = trial.publisher(d, "x.1", "x.2")

    def takes_part() -> bool:
        at_d = {region_of(e.position) for e in trial.histories.succeeded("deliver", subscription=f"{trial.name}-at-d")}
        at_a = {region_of(e.position) for e in trial.histories.succeeded("deliver", subscription=f"{trial.name}-at-a")}
        return len(at_a) == len(at_d) == 4

    trial.until(takes_part, PARTS_S, "the fourth region gives and gets")
    trial.wait_arrived()  # what was published before it joined, too

    leaving.end()
    trial.wait_arrived()
    group = f"{trial.name}-at-d"
    trial.happenings.note("move", "invoke", subscription=group, target=d.name)
    done = a.command("region", "remove", d.name)
    assert done.returncode == 0, done.stderr
    trial.happenings.note("move", "ok", subscription=group, target=wait_home_elsewhere(group, d, a, b, c))
    for region in (a, b, c):
        trial.until(
            lambda region=region: d.name not in region_names(region), PARTS_S, f"{region.name} knows that it has left"
        )
    mesh.leave(d)
    trial.wait_published(100)
    verdict = trial.verdict()
    assert verdict.ok, verdict.text()
