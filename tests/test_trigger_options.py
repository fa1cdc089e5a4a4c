"""Triggers as they are written: in a federation file, and in files of their own."""

import pytest

from fedbus.control.trigger import Trigger
from fedbus.errors import ConfigurationError
from fedbus.options import load_federation, load_triggers


def test_a_trigger_recurs_or_has_several_windows(tmp_path):
    path = tmp_path / "fed.yaml"
    path.write_text(
        "triggers:\n"
        "- {name: report, cron: '0 9 * * 1', duration: 30m, timezone: Europe/Berlin}\n"
        "- name: sale\n"
        "  windows:\n"
        "  - {start: 2026-01-01T00:00:00Z, end: 2026-01-01T01:00:00Z}\n"
        "  - {start: 2026-02-01T00:00:00Z, end: 2026-02-01T01:00:00Z}\n"
    )
    report, sale = (each.trigger() for each in load_federation(path, {}).triggers)
    assert (report.cron, report.duration_ns, report.zone) == ("0 9 * * 1", 30 * 60 * 10**9, "Europe/Berlin")
    assert [each.start_ns // 10**9 for each in sale.occurrences(0, 2**63 - 1)] == [1_767_225_600, 1_769_904_000]


@pytest.mark.parametrize(
    "text",
    [
        "triggers:\n- {name: report, cron: '0 9 * * 1', duration: 30m}\n",
        "- {name: report, cron: '0 9 * * 1', duration: 30m}\n",
        '[{"name": "report", "cron": "0 9 * * 1", "duration": "30m"}]',
        "name: prod\nslas: [{filter: a}]\ntriggers: [{name: report, cron: '0 9 * * 1', duration: 30m}]\n",
    ],
)
def test_triggers_are_read_from_a_file_of_their_own_too(tmp_path, text):
    path = tmp_path / "triggers.yaml"
    path.write_text(text)
    assert load_triggers(path) == (Trigger(id="report", name="report", cron="0 9 * * 1", duration_ns=1_800 * 10**9),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "- {name: x, cron: 0 25 * * 1, duration: 1m}\n",
            "triggers.yaml:1:3: triggers[0]: trigger 'x': cron expression",
        ),
        ("- {name: x, cron: 0 9 * * 1}\n", "give duration, such as 30m"),
        ("- {name: x, duration: 1m}\n", "but no cron expression"),
        ("- {name: x}\n", "says not when: give start and end, or cron and duration"),
        ("- {name: x, start: 2026-01-01T00:00:00Z}\n", "start and end go together"),
        ("- {name: x, cron: 0 * * * *, duration: 2h}\n", "give a duration of at most 1h"),
        ("- {name: x, cron: '@daily', duration: 1h}\n- {name: x, cron: '@daily', duration: 1h}\n", "is there twice"),
        ("- {name: x, corn: '@daily'}\n", "triggers.yaml:1:13: triggers[0].corn: unknown key; did you mean cron?"),
        ("slas: []\n", "has no triggers; write a list under `triggers:`"),
        ("", "has no triggers"),
        ("7", "has no triggers"),
    ],
)
def test_a_bad_file_of_triggers_is_refused_with_place_and_advice(tmp_path, text, said):
    path = tmp_path / "triggers.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_triggers(path)
    assert said in refused.value.detail
