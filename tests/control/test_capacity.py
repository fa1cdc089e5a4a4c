from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fedbus.control.capacity import InstanceSize, current_capacity, required_capacity, worth

SMALL = InstanceSize("small", 1000.0, 1e6)
LARGE = InstanceSize("large", 4000.0, 2e6, cost=3)


def test_the_scarcer_of_the_two_rates_decides():
    assert required_capacity(1400, 0, SMALL, 0.7) == 2
    assert required_capacity(1401, 0, SMALL, 0.7) == 3
    assert required_capacity(10, 2.8e6, SMALL, 0.7) == 4
    assert required_capacity(0, 0, SMALL, 0.7) == 0
    assert worth(LARGE, SMALL) == 2.0
    assert worth(InstanceSize("big", 5000.0), InstanceSize("unit", 1000.0)) == 5.0


def test_other_sizes_count_by_what_they_hold_and_coming_ones_apart():
    capacity = current_capacity(["small", "large"], ["small"], {"small": SMALL, "large": LARGE}, SMALL)
    assert capacity.eps == 5000
    assert capacity.instances == 3
    assert capacity.coming == 1
    assert capacity.in_service == 2


@given(st.floats(0, 1e7), st.floats(0, 1e10), st.floats(0.05, 1.0))
def test_the_instances_required_hold_the_load_and_one_less_would_not(eps, bps, utilization):
    count = required_capacity(eps, bps, SMALL, utilization)
    fill = max(Fraction(eps) / 1000, Fraction(bps) / 10**6) / Fraction(utilization)  # exact, unlike the code's floats
    assert count - 1 < fill <= count + Fraction(1, 10**6)
