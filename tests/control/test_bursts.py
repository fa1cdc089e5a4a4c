import math
import random

import pytest

from fedbus.control.bursts import detect_bursts
from fedbus.control.load_model import MINUTE_NS, LoadModel
from fedbus.control.trigger import Trigger

START = 1735516800 * 10**9  # a Monday, 00:00
FIRST = START // MINUTE_NS
DAY, WEEK = 1440, 7 * 1440


class Slots:
    slot_s = 60

    def __init__(self, events):
        self.events = events
        self.first_slot = FIRST


def load_of(seed, days):
    return [float(each.events) for each in LoadModel(seed=seed).samples(START, START + days * DAY * MINUTE_NS)]


def found_in(load, announced=()):
    return detect_bursts(Slots(load), tuple(announced), "eu", START + len(load) * MINUTE_NS)


def burst(load, start, minutes=10, factor=3.0):
    for number in range(start, min(len(load), start + minutes)):
        load[number] *= factor


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_found_where_nothing_recurs(seed):
    load, chance = load_of(seed, 15), random.Random(seed)
    assert found_in(load) == ()
    for _ in range(60):
        burst(load, chance.randrange(len(load)), chance.randrange(1, 30))
    assert found_in(load) == ()


@pytest.mark.parametrize(
    ("starts", "days", "cron"),
    [
        ([60 * hour + 15 for hour in range(48)], 2, "13 * * * *"),
        ([DAY * day + 540 for day in range(6)], 6, "58 8 * * *"),
        ([DAY * day + 540 for day in range(12) if day % 7 < 5], 12, "58 8 * * 1-5"),
        ([WEEK * week + DAY + 540 for week in range(4)], 25, "58 8 * * 2"),
    ],
)
def test_each_rhythm_is_found_with_its_time(starts, days, cron):
    load, chance = load_of(4, days), random.Random(4)
    for start in starts:
        burst(load, start + chance.choice([-1, 0, 0, 1]))
    (found,) = found_in(load)
    minutes = found.duration_ns // MINUTE_NS
    assert found.cron.split()[1:] == cron.split()[1:]
    assert abs(int(found.cron.split()[0]) - int(cron.split()[0])) <= 1
    assert 10 <= minutes <= 17
    assert found.detected
    assert found.region == "eu"
    assert 0.6 < found.confidence < 1


def test_a_burst_that_stops_is_no_longer_found():
    load = load_of(5, 10)
    for day in range(7):
        burst(load, DAY * day + 540)
    assert found_in(load[: 7 * DAY])
    assert found_in(load[: 8 * DAY])  # one day without it is not the end
    assert found_in(load) == ()


def test_what_is_announced_is_not_detected_too():
    load = load_of(6, 6)
    for day in range(6):
        burst(load, DAY * day + 540)
    known = Trigger(id="t", cron="0 9 * * *", duration_ns=10 * MINUTE_NS)
    assert found_in(load)
    assert found_in(load, [known]) == ()


def test_gaps_and_silence_are_no_bursts():
    load = load_of(7, 6)
    for day in range(6):
        load[DAY * day + 300 : DAY * day + 360] = [math.nan] * 60
        load[DAY * day + 800 : DAY * day + 830] = [0.0] * 30
    assert found_in(load) == ()
    assert found_in([0.0] * 6 * DAY) == ()
    assert found_in([math.nan] * 6 * DAY) == ()
