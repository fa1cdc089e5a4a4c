import pytest

from fedbus.control.trigger import FOREVER_NS, MOST_WINDOWS, Trigger, Window, triggers_for
from fedbus.errors import ConfigurationError

HOUR, DAY = 3600 * 10**9, 86_400 * 10**9


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
        {"end_ns": FOREVER_NS},
        {"duration_ns": 5},
        {"also": (Window(5, 5),)},
        {"also": tuple(Window(n, n + 1) for n in range(MOST_WINDOWS))},
        {"cron": "0 9 * * *"},
        {"cron": "0 9 * * *", "duration_ns": 8 * DAY},
        {"cron": "0 9 * * *", "duration_ns": HOUR, "also": (Window(5, 6),)},
        {"cron": "0 9 * *", "duration_ns": HOUR},
        {"cron": "*/30 * * * *", "duration_ns": HOUR},
        {"cron": "0 0 1 * 0", "duration_ns": 3 * DAY},
        {"cron": "0 9 * * *", "duration_ns": HOUR, "zone": "Europe/Atlantis"},
        {"cron": "0 9 * * *", "duration_ns": HOUR, "zone": "../etc/passwd"},
    ],
)
def test_a_window_or_effect_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="'t'"):
        Trigger(**{"id": "t", "start_ns": 0, "end_ns": 10, **wrong})


def test_a_recurring_trigger_occurs_whenever_its_cron_expression_says():
    nightly = Trigger(id="t", cron="0 2 * * *", duration_ns=HOUR, start_ns=DAY, end_ns=4 * DAY)
    windows = [Window(day * DAY + 2 * HOUR, day * DAY + 3 * HOUR) for day in (1, 2, 3)]
    assert list(nightly.occurrences(0, FOREVER_NS)) == windows
    assert list(nightly.occurrences(windows[1].end_ns - 1, windows[2].start_ns)) == [windows[1]]
    assert nightly.last_before(windows[2].start_ns, 5) == (windows[1], windows[0])
    assert nightly.last_before(100 * DAY, 2) == (windows[2], windows[1])
    assert nightly.overlaps(windows[0].start_ns, windows[0].start_ns + 1)
    assert not nightly.overlaps(windows[0].end_ns, windows[1].start_ns)


def test_the_windows_of_a_campaign_are_its_occurrences():
    campaign = Trigger(id="t", start_ns=50, end_ns=60, also=(Window(10, 20), Window(80, 90)))
    assert list(campaign.occurrences(0, 100)) == [Window(10, 20), Window(50, 60), Window(80, 90)]
    assert campaign.last_before(80, 5) == (Window(50, 60), Window(10, 20))


def test_what_is_announced_again_keeps_the_windows_that_are_over():
    first = Trigger(id="sale", start_ns=10, end_ns=20)
    second = Trigger(id="sale", start_ns=50, end_ns=60).after(first, now_ns=30)
    assert list(second.occurrences(0, 100)) == [Window(10, 20), Window(50, 60)]
    moved = Trigger(id="sale", start_ns=70, end_ns=80).after(second, now_ns=30)
    assert list(moved.occurrences(0, 100)) == [Window(10, 20), Window(70, 80)]
    many = Trigger(id="sale", start_ns=1, end_ns=2)
    for start in range(10, 3000, 10):
        many = Trigger(id="sale", start_ns=start, end_ns=start + 5).after(many, now_ns=start)
    assert len(list(many.occurrences(0, FOREVER_NS))) == MOST_WINDOWS
    recurring = Trigger(id="sale", cron="@daily", duration_ns=HOUR)
    assert recurring.after(first, 30) == recurring
