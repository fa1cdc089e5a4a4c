"""The provisioning lead follows what creates really took."""

from fedbus.control.directive import Directive
from fedbus.control.lead import CREATES, provisioning_lead_s

NS_PER_S = 1_000_000_000


def a_create(took_s, status="done", action="create"):
    settled_at_ns = None if status == "applying" else round(took_s * NS_PER_S)
    return Directive(
        id="d", region="r", action=action, instance="b1", size="small", cause="forecast", reason="", ordered_at_ns=0,
        plan_generation=1, status=status, settled_at_ns=settled_at_ns,
    )  # fmt: skip


def test_what_is_declared_holds_until_something_was_measured():
    others = [a_create(90, "failed"), a_create(90, "applying"), a_create(90, action="drain")]
    assert provisioning_lead_s(others, 60, 3600) == 60


def test_the_slowest_of_the_last_creates_counts():
    assert provisioning_lead_s([a_create(10), a_create(95), a_create(30)], 60, 3600) == 95
    assert provisioning_lead_s([*[a_create(70)] * CREATES, a_create(95)], 60, 3600) == 70


def test_it_is_never_below_what_is_declared_nor_beyond_what_is_forecast():
    assert provisioning_lead_s([a_create(10)], 60, 3600) == 60
    assert provisioning_lead_s([a_create(9999)], 60, 3600) == 3600
