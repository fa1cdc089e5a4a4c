"""A region is lost with all its machines, and comes back; groups change their home, by themselves and by command."""

from __future__ import annotations

import pytest

from tests.mesh.groups import wait_home, wait_home_elsewhere
from tests.mesh.histories import now_ns

pytestmark = pytest.mark.ray

ARRIVE_S = 120
SUMMARY_MS = 1500  # a published recovery point is at most so old


def test_a_killed_region_takes_nothing_synchronous_with_it_and_its_consumers_go_on_elsewhere(mesh, trial):
    a, b, c = mesh.regions.values()
    group = f"{trial.name}-orders"
    reader = trial.reader("orders", [a, b, c], "sync.>", "async.>", host=mesh.users)
    trial.wait_subscribed()
    own = [trial.publisher(a, "sync.1"), trial.publisher(a, "async.1")]  # a key's order is that of one class of topics
    trial.publisher(b, "async.1")
    for topic in ("sync.2", "async.2"):
        trial.publisher(a, topic, host=mesh.users, urls=[a, b, c])
    trial.wait_published(300)
    wait_home(group, a, a, b, c)

    lag_ms = next(each for each in a.items("regions") if each["region"] == a.name)["recovery_point_ms"]
    assert lag_ms is not None, "no recovery point is published"
    trial.happenings.fault("region", a)
    trial.happenings.note("gone", target=a.name, lag_ms=lag_ms + SUMMARY_MS)
    a.kill()
    trial.happenings.note("move", "ok", subscription=group, target=wait_home_elsewhere(group, a, b, c))
    trial.wait_published(200)
    verdict = trial.verdict_until(trial.wait_arrived())
    assert verdict.ok, verdict.text()

    a.start()
    a.wait_ready()
    trial.happenings.heal("region", a)
    trial.happenings.note("back", target=a.name)
    for publisher in own:
        publisher.start()  # what it does not know the fate of it publishes again
    with trial.happenings.moving("orders", a):
        wait_home(group, a, a, b, c)  # by itself: it was made there
    trial.wait_published(200)
    verdict = trial.verdict()
    assert verdict.ok, verdict.text()
    assert len(reader.histories) == 1, "the consumer was never started again"


def test_a_group_moves_by_command_and_back_and_goes_on_where_it_was(mesh, trial):
    a, b, c = mesh.regions.values()
    trial.reader("moving", [a, b, c], "x.>", host=mesh.users)
    trial.wait_subscribed()
    for region in (a, b, c):
        trial.publisher(region, "x.1", "x.2")
    trial.wait_published(200)
    for target, asked in ((b, a), (a, c)):
        with trial.happenings.moving("moving", target) as group:
            done = asked.command("subscription", "move", group, "--to", target.name)
            assert done.returncode == 0, done.stderr
            wait_home(group, target, a, b, c)
            moved_ns = now_ns()

            def goes_on(since_ns: int = moved_ns) -> bool:
                """Its consumer has read what was in flight before the move, and what was published after it."""
                sent = {e.id for e in trial.histories.invoked() if e.time_ns > since_ns}
                return sum(e.id in sent for e in trial.histories.succeeded("deliver")) > 100

            trial.until(goes_on, ARRIVE_S, f"the group goes on in {target.name}")
    verdict = trial.verdict()
    assert verdict.ok, verdict.text()
    deliveries = trial.histories.succeeded("deliver")
    again = len(deliveries) - len({entry.position for entry in deliveries})
    print(f"{again} of {len(deliveries)} deliveries were repeated over two moves")
