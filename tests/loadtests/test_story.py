"""The story: what counts as having happened, and whom to kill when."""

from typing import Any

import pytest

from fedbus.clock import NS_PER_S
from fedbus.event import format_time_ns
from fedbus_loadtests.demo.region_state import RegionState
from fedbus_loadtests.demo.scenario import from_model
from fedbus_loadtests.demo.story import Story, applied_by_cause, time_ns

SCENARIO = from_model(1, 75.0)
WINDOW = SCENARIO.window
US, EU = "aws.us-east-1", "gcp.europe-west1"


def at(share: float) -> int:
    """A simulated moment of the window."""
    return round(WINDOW.start_ns + share * (WINDOW.end_ns - WINDOW.start_ns)) // 1000 * 1000


def directive(number: int, action: str, cause: str, created: float, finished: float | None = None, **more: Any):
    return {
        "id": f"{US}/{number}", "region": US, "action": action, "cause": cause, "reason": "because", "outcome": "",
        "instance": f"{US}/b{number}", "state": "applying" if finished is None else "done",
        "created": format_time_ns(at(created)), "finished": None if finished is None else format_time_ns(at(finished)),
    } | more  # fmt: skip


def instance(region: str, number: int, state: str = "healthy", pid: int = 100, epoch: int = 1):
    name = f"{region}/b{number}"
    return {"region": region, "instance": name, "state": state, "pid": pid + number, "ledger": f"{name}/{epoch}"}


def states(us=(), eu=(), directives=()):
    return {US: RegionState({}, list(us), list(directives)), EU: RegionState({}, list(eu), [])}


def told(*directives) -> Story:
    story = Story(SCENARIO)
    story.news(states(directives=directives), 0)
    return story


def test_a_scale_out_counts_if_the_forecast_ordered_it_and_it_served_before_the_peak():
    assert told(directive(1, "create", "forecast", 0.1, 0.2)).scaled_ahead.id == f"{US}/1"


@pytest.mark.parametrize(
    "order",
    [
        directive(1, "create", "reactive", 0.1, 0.2),
        directive(1, "create", "forecast", 0.1, 0.9),
        directive(1, "create", "forecast", 0.1),
        directive(1, "create", "forecast", 0.1, 0.2, state="failed"),
        directive(1, "drain", "forecast", 0.1, 0.2),
    ],
)
def test_other_scale_outs_do_not_count(order):
    assert told(order).scaled_ahead is None


def test_a_scale_in_counts_only_after_the_peak_and_carried_out():
    assert told(directive(1, "drain", "scale_in", 0.1, 0.2)).scaled_in is None
    assert told(directive(1, "drain", "scale_in", 0.8)).scaled_in is None
    assert told(directive(1, "drain", "scale_in", 0.8, 0.9)).scaled_in is not None


def test_news_are_told_once():
    story = Story(SCENARIO)
    ordered, done = directive(1, "create", "forecast", 0.1), directive(1, "create", "forecast", 0.1, 0.2)
    assert len(story.news(states(directives=[ordered]), 0)) == 1
    assert story.news(states(directives=[ordered]), 0) == []
    assert [line for line in story.news(states(directives=[done]), 0) if "in service" in line]
    assert story.news(states(directives=[done]), 0) == []


def test_directives_applied_are_counted_by_cause():
    story = told(
        directive(1, "create", "forecast", 0.1, 0.2), directive(2, "create", "forecast", 0.1, 0.2, state="failed"),
        directive(3, "drain", "scale_in", 0.8, 0.9),
    )  # fmt: skip
    assert applied_by_cause(story.orders.values()) == {"forecast": 1, "scale_in": 1}


def test_nobody_is_killed_before_its_time():
    story = told(directive(2, "create", "forecast", 0.05, 0.1))
    assert story.choose_victim(states([instance(US, 1), instance(US, 2)]), at(0.2), 0) is None


def test_the_oldest_instance_of_a_region_scaled_ahead_is_killed_once_it_is_settled():
    story = told(directive(2, "create", "forecast", 0.05, 0.1))
    present = states([instance(US, 10), instance(US, 2)], [instance(EU, 1), instance(EU, 2)])
    assert story.choose_victim(present, at(0.4), 1) is None
    victim = story.choose_victim(present, at(0.45), 1 + 4 * NS_PER_S)
    assert (victim.instance, victim.pid, victim.siblings) == (f"{US}/b2", 102, 1)


def test_a_region_in_which_something_starts_or_drains_is_left_alone():
    story = told(directive(2, "create", "forecast", 0.05, 0.1))
    present = states([instance(US, 1), instance(US, 2), instance(US, 3, "starting")])
    for second in range(10):
        assert story.choose_victim(present, at(0.5), second * NS_PER_S + 1) is None


def test_late_in_the_window_somebody_is_killed_in_any_case():
    assert told().choose_victim(states([instance(US, 1)]), at(0.7), 1).instance == f"{US}/b1"


def test_only_one_is_killed():
    story = told()
    present = states([instance(US, 1)])
    story.killed(story.choose_victim(present, at(0.7), 1), 1)
    assert story.choose_victim(present, at(0.8), 2) is None


def test_it_is_back_when_it_serves_in_another_process_and_writes_another_ledger():
    story = told()
    story.killed(story.choose_victim(states([instance(US, 1)]), at(0.7), 1), 1)
    story.news(states([instance(US, 1)]), NS_PER_S)  # nobody has noticed yet
    story.news(states([instance(US, 1, "unreachable", 200, 2)]), 2 * NS_PER_S)
    assert story.back_ns is None
    story.news(states([instance(US, 1, "healthy", 200, 2)]), 3 * NS_PER_S)
    assert story.back_ns == 3 * NS_PER_S


def test_times_are_read_as_they_were_written():
    assert time_ns(format_time_ns(at(0.123))) == at(0.123)
