"""Many gone at once: hold, but not for ever."""

from fedbus.control.brake import Brake, many


def test_one_is_never_many_and_a_share_of_a_few_is_at_least_two():
    assert not many(1, 1, 0.5)
    assert not many(1, 2, 0.5)
    assert many(2, 2, 0.5)
    assert many(2, 4, 0.5)
    assert not many(2, 5, 0.5)
    assert many(3, 5, 0.5)


def test_it_holds_for_its_time_and_lets_go_when_they_are_back():
    brake = Brake(0.5, hold_ns=100)
    assert not brake.holds(1, 4, 0)
    assert brake.holds(2, 4, 10)
    assert brake.holds(3, 4, 109)
    assert not brake.holds(3, 4, 110)
    assert not brake.holds(1, 4, 120)
    assert brake.holds(2, 4, 130)
