"""What a manager tells of its triggers, in the shapes of the control API."""

from types import SimpleNamespace

from fedbus.clock import ManualClock
from fedbus.control.load import LoadHistory, LoadSample
from fedbus.control.outlook import Outlook
from fedbus.control.trigger import Trigger, Window
from fedbus_actors.region_triggers import trigger_view, trigger_views
from fedbus_serve.views import TriggerView

MINUTE_NS, DAY = 60 * 10**9, 1440
START = 1735516800 * 10**9  # a Monday, 00:00


def region_with(load, triggers):
    history = LoadHistory()
    history.extend(LoadSample(START + number * MINUTE_NS, events) for number, events in enumerate(load))
    now_ns = START + len(load) * MINUTE_NS
    outlook = Outlook("eu")
    outlook.expect(history, triggers, now_ns, now_ns)
    return SimpleNamespace(
        name="eu", triggers=lambda: triggers, outlook=outlook, load=SimpleNamespace(history=history),
        clock=ManualClock(now_ns),
    )  # fmt: skip


def test_what_was_learned_and_what_was_detected_is_told():
    load = [6000.0] * (4 * DAY)
    for day in range(4):
        for minute in range(12):
            load[day * DAY + 540 + minute] *= 4.2
            load[day * DAY + 900 + minute] *= 3
    report = Trigger(id="report", name="weekly report", cron="0 9 * * *", duration_ns=30 * MINUTE_NS)
    elsewhere = Trigger(id="t", start_ns=START, end_ns=START + MINUTE_NS, region="us", also=(Window(1, 2),))
    views = [TriggerView.model_validate(each) for each in trigger_views(region_with(load, (report, elsewhere)))]
    told, other, found = views
    assert told.learned[0].explanation == "learned from 4 occurrences: × 4.2, 12 min"
    assert (told.learned[0].factor, told.learned[0].minutes, told.detected) == (4.2, 12, False)
    assert told.starts.isoformat() == "2025-01-03T09:00:00+00:00"
    assert (other.learned, len(other.windows)) == ([], 1)
    assert (found.detected, found.region, found.note) == (True, "eu", "daily 14:58")
    assert "detected" in found.learned[0].explanation


def test_a_trigger_that_has_not_come_yet_says_so():
    new = Trigger(id="new", cron="0 9 * * *", duration_ns=MINUTE_NS)
    (told,) = trigger_views(region_with([], (new,)))
    assert told["learned"][0]["explanation"] == "its first occurrence will teach"
    over = trigger_view(Trigger(id="old", cron="@daily", duration_ns=1, end_ns=5 * DAY * MINUTE_NS), START)
    assert over["starts"] == "1970-01-05T00:00:00.000000Z"
    assert over["valid_until"] == "1970-01-06T00:00:00.000000Z"
