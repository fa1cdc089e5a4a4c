"""``fedbus subscription`` against the project's own gateway."""

import json

import pytest

from fedbus.broker.protocol import EARLIEST, GroupOptions
from tests.serve.fakes import LEDGER, REGIONS

HOME = REGIONS[0]
GROUP = {
    "group": "g", "filters": ["a.>", "b"], "region": HOME, "created": "2026-03-02T12:00:00Z", "generation": 2,
    "start": "latest", "ack_deadline_ms": 5000, "max_deliveries": 3, "dead_letter_topic": "dead", "members": 1,
    "backlog_events": 12, "in_flight_events": 4, "redelivered_events": 5, "dead_letter_events": 6, "expired_events": 7,
    "standbys": ["gcp.b"], "preferred": HOME, "term": 4, "home_since": "2026-03-02T12:30:00Z",
    "unshared": [{"region": "gcp.b", "events": 9, "lag_ms": 80}],
}  # fmt: skip
DETAIL = GROUP | {
    "instances": [{
        "instance": f"{HOME}/b1", "members": ["m1"], "backlog_events": 12, "in_flight_events": 4,
        "ledgers": [{"ledger": LEDGER, "position": 30, "end": 38, "in_flight_events": 4}],
    }],
    "expired": [{"ledger": "onprem.berlin/b1/1", "events": 7, "time": "2026-03-01T12:00:00Z", "ranges": []}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def group(control, monkeypatch):
    monkeypatch.setattr(
        "tests.serve.fakes.view_of", lambda region: {"subscriptions": [GROUP] if region == HOME else []}
    )
    control.groups[HOME, "g"] = DETAIL


def output(result):
    assert result.exit_code == 0, result.output
    return result.stdout


def test_groups_are_listed_with_their_troubles(ask):
    [line] = [line for line in output(ask("subscription", "list")).splitlines() if line.split()[:1] == ["g"]]
    assert line.split() == ["g", HOME, "a.>,", "b", "1", "12", "4", "5", "6", "7", "9", "active"]
    assert json.loads(output(ask("subscription", "list", "--json")))[0]["expired_events"] == 7


def test_a_group_is_shown_with_every_instance_ledger_and_loss(ask):
    text = output(ask("subscription", "show", "g"))
    for expected in (
        "latest (moved 1 times)", "3, then to dead", "5s", "m1", f"{HOME}/b1", LEDGER, "38", "lost to retention",
        "onprem.berlin/b1/1", "2026-03-01 12:00:00", f"{HOME} since 2026-03-02 12:30:00 (term 4)", "gcp.b", "80",
    ):  # fmt: skip
        assert expected in text
    assert json.loads(output(ask("subscription", "show", "g", "--json")))["instances"][0]["members"] == ["m1"]


def test_a_group_that_does_not_exist_is_one_clear_line(ask):
    result = ask("subscription", "show", "h")
    assert result.exit_code == 1
    assert "there is no group 'h'" in result.stderr


def test_a_group_is_made(ask, control):
    arguments = ("--filter", "a", "--filter", "b", "--from", "earliest", "--ack-deadline", "5s", "--pause")
    said = output(ask("subscription", "set", "new", *arguments))
    assert said == f"group new in {HOME}: recorded by every instance\n"
    wanted = {"filters": ["a", "b"], "start": EARLIEST, "options": GroupOptions(5000, paused=True)}
    assert control.changes == [(HOME, "put_group", "new", wanted)]


def test_what_is_not_given_stays(ask, control):
    output(ask("subscription", "set", "g", "--max-in-flight", "9"))
    [(_, _, _, wanted)] = control.changes
    options = GroupOptions(5000, 3, "dead", max_in_flight=9)
    assert wanted == {"filters": ["a.>", "b"], "start": None, "options": options}


def test_a_group_is_moved(ask, control):
    output(ask("subscription", "seek", "g", f"{LEDGER}:7"))
    [(region, change, name, start)] = control.changes
    assert (region, change, name, start.cursor) == (HOME, "seek_group", "g", {LEDGER: 7})
    assert ask("subscription", "seek", "g", "yesterday").exit_code == 2


def test_a_group_is_deleted(ask, control):
    assert output(ask("subscription", "delete", "g", "--region", HOME)) == f"group g in {HOME}: deleted\n"
    assert control.changes[0][:3] == (HOME, "delete_group", "g")


def test_a_group_is_moved_to_another_home(ask, control):
    assert f"group g is at home in {REGIONS[1]}" in output(ask("subscription", "move", "g", "--to", REGIONS[1]))
    assert control.changes == [(HOME, "move_group", "g", REGIONS[1])]
    assert ask("subscription", "move", "g").exit_code == 2


def test_a_group_away_from_home_or_in_conflict_says_so(ask, control):
    history = [{"time": "2026-03-02T12:30:00Z", "message": "group g: taken over"}]
    away = {"preferred": REGIONS[1], "conflict": "gcp.b has another group g", "history": history}
    control.groups[HOME, "g"] = DETAIL | away
    text = output(ask("subscription", "show", "g"))
    assert f"goes back to {REGIONS[1]}" in text
    assert "gcp.b has another group g" in text
    assert "group g: taken over" in text
