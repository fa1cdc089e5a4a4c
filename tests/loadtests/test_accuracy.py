"""How near forecasts came: each slot against the newest forecast that could still be acted on."""

import pytest

from fedbus.clock import NS_PER_S
from fedbus.control.forecast.protocol import Forecast
from fedbus.control.load import LoadSample
from fedbus.control.trigger import Trigger
from fedbus_loadtests.demo.accuracy import forecast_accuracy

SLOT_S, DAY = 300, 288
SLOT_NS = SLOT_S * NS_PER_S


def forecast(made_slot: int, eps: float, *, basis: str = "model", slots: int = 12) -> Forecast:
    path = (eps,) * slots
    start_ns = made_slot * SLOT_NS
    return Forecast(
        region="r", made_at_ns=start_ns, start_ns=start_ns, slot_s=SLOT_S, model="m", basis=basis,
        point_eps=path, quantiles={0.95: tuple(1.2 * value for value in path)}, normal_eps=path,
    )  # fmt: skip


def load(slot: int, eps: float) -> LoadSample:
    return LoadSample(slot * SLOT_NS, eps * SLOT_S)


def test_errors_are_those_of_the_newest_forecast_before_the_lead():
    made = [forecast(1000, 10.0), forecast(1002, 8.0), forecast(1004, 1.0)]
    found = forecast_accuracy([(made, [load(1005, 10.0)])], 0, 3 * SLOT_NS, 0.95)
    assert found.slots == 1
    assert found.wape_pct == pytest.approx(20.0)
    assert found.below_quantile_pct == 0.0  # 8 × 1.2 < 10


def test_the_scale_is_the_same_time_a_day_ago():
    history = [load(1005 - DAY, 6.0), load(1005, 10.0)]
    found = forecast_accuracy([([forecast(1000, 8.0)], history)], 1000 * SLOT_NS, SLOT_NS, 0.95)
    assert found.mase == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("made", "slot"),
    [(forecast(1000, 8.0, basis="fallback"), 1005), (forecast(1000, 8.0), 1000), (forecast(1000, 8.0), 1030)],
)
def test_slots_nobody_forecast_in_time_do_not_count(made, slot):
    assert forecast_accuracy([([made], [load(slot, 10.0)])], 0, SLOT_NS, 0.95) is None


def accuracy_after(change_slot: int, made_slot: int, slot: int):
    campaign = Trigger(id="c", start_ns=change_slot * SLOT_NS, end_ns=2000 * SLOT_NS)
    return forecast_accuracy([([forecast(made_slot, 8.0)], [load(slot, 80.0)])], 0, SLOT_NS, 0.95, [campaign])


@pytest.mark.parametrize("change_slot", [997, 1000, 1005])
def test_an_announced_change_that_the_forecast_could_not_see_is_no_error(change_slot):
    assert accuracy_after(change_slot, 1000, 1005) is None


@pytest.mark.parametrize("change_slot", [996, 1006])
def test_a_change_that_it_saw_or_that_came_later_excuses_nothing(change_slot):
    assert accuracy_after(change_slot, 1000, 1005).wape_pct == 90.0


def test_slots_before_the_start_do_not_count():
    history = [load(1003, 80.0), load(1007, 8.0)]
    found = forecast_accuracy([([forecast(1000, 8.0)], history)], 1004 * SLOT_NS, SLOT_NS, 0.95)
    assert (found.slots, found.wape_pct) == (1, 0.0)
