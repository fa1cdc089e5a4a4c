import pytest

from fedbus.control.sla import Sla, required_quantile, target_utilization
from fedbus.errors import ConfigurationError


@pytest.mark.parametrize(
    ("availability", "quantile"), [(0.9, 0.5), (0.99, 0.5), (0.995, 0.75), (0.999, 0.95), (0.9999, 0.995)]
)
def test_a_smaller_violation_budget_asks_for_a_higher_quantile(availability, quantile):
    assert required_quantile([Sla("orders.>", availability=availability)]) == quantile


def test_the_strictest_sla_decides_and_none_means_the_default():
    strict, loose = Sla("a.>", max_latency_ms=20, availability=0.9999), Sla("b.>", 5000, 0.99)
    assert required_quantile([loose, strict]) == 0.995
    assert target_utilization([loose, strict]) == 0.5
    assert target_utilization([loose]) == 0.8
    assert required_quantile([]) == 0.95
    assert target_utilization([]) == 0.7


@pytest.mark.parametrize("wrong", [{"max_latency_ms": 0}, {"availability": 1.0}, {"availability": float("nan")}])
def test_an_impossible_promise_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"orders\.>"):
        Sla("orders.>", **wrong)
