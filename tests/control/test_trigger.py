import pytest

from fedbus.control.trigger import Trigger, triggers_for
from fedbus.errors import ConfigurationError


def test_a_trigger_raises_what_is_normal_and_never_lowers_it():
    assert Trigger(id="t", start_ns=0, end_ns=10, expected_factor=3).raised(100) == 300
    assert Trigger(id="t", start_ns=0, end_ns=10, expected_extra_eps=50).raised(100) == 150
    assert Trigger(id="t", start_ns=0, end_ns=10, expected_factor=0.1).raised(100) == 100


def test_triggers_are_found_by_region_and_window_earliest_first():
    everywhere = Trigger(id="b", start_ns=5, end_ns=15)
    here = Trigger(id="a", region="eu", start_ns=8, end_ns=20)
    assert triggers_for("eu", [here, everywhere], 0, 100) == (everywhere, here)
    assert triggers_for("us", [here, everywhere], 0, 100) == (everywhere,)
    assert triggers_for("eu", [here, everywhere], 15, 100) == (here,)
    assert triggers_for("eu", [here, everywhere], 20, 100) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"end_ns": 0},
        {"expected_factor": 0},
        {"expected_factor": float("nan")},
        {"expected_factor": 1e9},
        {"expected_extra_eps": -1},
        {"expected_extra_eps": float("inf")},
    ],
)
def test_a_window_or_effect_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="'t'"):
        Trigger(**{"id": "t", "start_ns": 0, "end_ns": 10, **wrong})
