"""The demonstration's load: scaled to the machine, with a history that fits what will be measured."""

from itertools import pairwise

import pytest

from fedbus.clock import NS_PER_S
from fedbus.control.capacity import InstanceSize, required_capacity
from fedbus.control.sla import target_utilization
from fedbus.errors import ConfigurationError
from fedbus.topic import FilterSet
from fedbus_loadtests.demo.federation import demo_options
from fedbus_loadtests.demo.scenario import PEAK_REAL_EPS, SITES, from_model, from_trace, groups, load_share
from tests.loadtests.test_window import daily

SCENARIOS = {"model": lambda: from_model(7, 75.0), "trace": lambda: from_trace(daily(18, 300), "a trace", 60.0)}


@pytest.fixture(params=SCENARIOS)
def scenario(request):
    return SCENARIOS[request.param]()


def instances_needed(scenario, eps, site):
    size = InstanceSize("tiny", scenario.capacity_eps)
    return required_capacity(eps * load_share(site), 0.0, size, target_utilization([]))


def test_every_event_of_the_federation_has_one_region():
    assert sum(site.share for site in SITES) == pytest.approx(1)


def test_every_topic_is_wanted_by_exactly_one_group():
    for site in SITES:
        for topic in (f"orders.{site.token}.created", f"clicks.{site.token}.page"):
            wanted = [name for name, (_, pattern) in groups().items() if FilterSet([pattern]).matches(topic)]
            assert len(wanted) == 1, topic


def test_the_peak_is_what_the_machine_carries(scenario):
    assert scenario.window.peak_eps * scenario.speed == pytest.approx(PEAK_REAL_EPS)


def test_one_instance_suffices_at_the_start_and_not_at_the_peak(scenario):
    biggest = max(SITES, key=load_share)
    assert instances_needed(scenario, scenario.window.start_eps, biggest) == 1
    assert 1 < instances_needed(scenario, scenario.window.peak_eps, biggest) <= 3


def test_the_window_takes_as_long_as_was_asked_for():
    assert from_model(1, 50.0).replay_s == pytest.approx(50.0)


def test_the_history_is_two_weeks_without_gaps_up_to_the_window(scenario):
    for site in SITES:
        samples = list(scenario.history(site))
        assert len(samples) >= 14 * 86_400 // scenario.step_s - 1
        steps = {after.time_ns - before.time_ns for before, after in pairwise(samples)}
        assert steps == {scenario.step_s * NS_PER_S}
        assert (
            0
            <= scenario.window.start_ns - samples[-1].time_ns - scenario.step_s * NS_PER_S
            < scenario.step_s * NS_PER_S
        )


def test_the_history_ends_at_the_level_at_which_the_replay_begins(scenario):
    for site in SITES:
        last = list(scenario.history(site))[-1].events / scenario.step_s
        assert scenario.rate_eps(scenario.window.start_ns) * load_share(site) == pytest.approx(last, rel=0.25)


def test_the_same_seed_gives_the_same_load_and_another_seed_another():
    assert from_model(3, 75.0).trace == from_model(3, 75.0).trace
    assert from_model(3, 75.0).trace != from_model(4, 75.0).trace


def test_the_built_in_load_has_an_announced_campaign_and_an_unannounced_burst_within_the_window():
    scenario = from_model(1, 75.0)
    window = scenario.window
    for event in (*scenario.triggers, *scenario.bursts):
        assert window.start_ns < event.start_ns < event.end_ns < window.end_ns
    assert scenario.triggers
    assert scenario.bursts


def test_a_trace_of_a_week_is_refused():
    with pytest.raises(ConfigurationError, match="14 days of history"):
        from_trace(daily(7), "short", 75.0)


@pytest.mark.parametrize("seconds", [40.0, 75.0, 600.0])
def test_every_speed_gives_a_valid_federation(seconds, tmp_path):
    scenario = from_model(1, seconds)
    options = demo_options(scenario, tmp_path, 8000, 24_000)
    forecasting = options.forecasting
    assert set(options.regions) == {site.region for site in SITES}
    assert forecasting.slot_ms == forecasting.step_ms == scenario.step_s * 1000
    assert [trigger.trigger().expected_factor for trigger in options.triggers] == [
        trigger.expected_factor for trigger in scenario.triggers
    ]
