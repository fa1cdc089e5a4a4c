"""Commands that look into the control plane and change it, against the project's own gateway."""

import json

import httpx
import pytest
from matplotlib import rc_context

from fedbus.control.sla import Sla
from fedbus.errors import ConflictError, UnavailableError
from tests.serve.fakes import REGIONS

HOME = REGIONS[0]


def output(result):
    assert result.exit_code == 0, result.output
    return result.stdout


def test_status_shows_regions_instances_and_why(ask):
    text = output(ask("status"))
    for expected in (
        HOME,
        "o1",
        "healthy",
        "links from",
        "MASE 0.71",
        "q0.95 2,420",
        "create",
        "3 regions",
        "under-replicated",
        "1/2",
    ):
        assert expected in text


def test_status_as_json_holds_the_resources_as_the_gateway_answers_them(ask):
    pages = json.loads(output(ask("status", "--json")))
    assert set(pages) == {"regions", "instances", "ledgers", "forecasts", "directives", "subscriptions", "routing"}
    assert [each["region"] for each in pages["regions"]["items"]] == list(REGIONS)
    assert pages["instances"]["stale_regions"] == []


def test_status_says_what_the_gateway_expects_of_each_instance_and_why_events_went_there(ask, gateway):
    event = {"specversion": "1.0", "id": "1", "source": "/t", "type": "orders.a", "data": 1}
    headers = {"content-type": "application/cloudevents+json"}
    assert httpx.post(f"{gateway}/v1/topics/orders.a/events", headers=headers, json=event).status_code == 202
    text = output(ask("status"))
    for expected in ("score ms", "100%", "b1, the only one"):
        assert expected in text


def test_status_marks_what_is_stale(ask, control):
    control.away = {REGIONS[1]}
    text = output(ask("status"))
    assert "stale" in text
    assert REGIONS[1] in text


def test_text_of_others_is_not_taken_for_markup(ask, monkeypatch):
    region = {"region": HOME, "federation": "x", "as_of": "2026-01-01T00:00:00Z", "explanation": "[red]3 of [b]4[/b]"}
    parts = {
        "regions": [region],
        "instances": [],
        "ledgers": [],
        "forecasts": [],
        "directives": [],
        "subscriptions": [],
        "routing": [],
    }
    monkeypatch.setattr("tests.serve.fakes.view_of", lambda name: parts)
    assert "[red]3 of [b]4[/b]" in output(ask("status"))


def test_forecast_shows_history_band_and_model(ask):
    text = output(ask("forecast", HOME))
    for expected in ("AutoARIMA+Fourier", "MASE 0.71", "▁▂▃▄▅▆▇█"[4], "q0.95", "forecast"):
        assert expected in text
    assert json.loads(output(ask("forecast", HOME, "--json")))["region"] == HOME


def test_forecast_shows_triggers_and_what_was_decided_and_why(ask):
    text = output(ask("forecast", HOME))
    for expected in (
        "why       2 small: the forecast needs 2,420 events/s at 13:00", "4,000/s in service, 2,420/s needed",
        "spring sale", "coming", "as 2 times before", "2,040 events/s expected at 13:00 (q0.95 2,420)", "scale_in",
    ):  # fmt: skip
        assert expected in text


def test_forecast_is_drawn(ask, tmp_path):
    file = tmp_path / "forecast.png"
    output(ask("forecast", HOME, "--plot", file))
    assert file.read_bytes().startswith(b"\x89PNG")


def test_what_was_decided_is_written_under_the_picture(ask, tmp_path):
    file = tmp_path / "forecast.svg"
    with rc_context({"svg.fonttype": "none"}):
        output(ask("forecast", HOME, "--plot", file))
    drawn = file.read_text()
    for expected in (
        "2,420 events/s at 13:00",
        "spring sale",
        "(forecast): 2,040 events/s expected",
        "1 holds the load",
    ):
        assert expected in drawn


def test_a_plot_that_cannot_be_drawn_is_one_clear_line(ask, tmp_path, monkeypatch):
    result = ask("forecast", HOME, "--plot", tmp_path / "no" / "folder.png")
    assert (result.exit_code, "cannot be drawn" in result.stderr) == (1, True)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    result = ask("forecast", HOME, "--plot", tmp_path / "f.png")
    assert (result.exit_code, "pip install matplotlib" in result.stderr) == (1, True)


def test_an_unknown_region_is_named_with_those_there_are(ask):
    result = ask("forecast", "nowhere")
    assert result.exit_code == 1
    assert HOME in result.stderr


def test_slas_are_listed_set_and_removed(ask, control):
    assert "orders.>" in output(ask("sla", "list"))
    assert json.loads(output(ask("sla", "list", "--json")))[0]["max_latency_ms"] == 50
    said = output(ask("sla", "set", "orders.>", "--latency", "100ms", "--availability", "0.999"))
    assert all(region in said for region in REGIONS)
    assert control.changes[0] == (HOME, "put_sla", "orders.>", Sla("orders.>", 100, 0.999))
    output(ask("sla", "remove", "orders.>"))
    assert control.changes[-1] == (REGIONS[-1], "delete_sla", "orders.>", None)


def test_a_region_that_did_not_take_part_is_a_failure(ask, control):
    control.away = {REGIONS[1]}
    result = ask("sla", "set", "a")
    assert result.exit_code == 1
    assert f"{HOME}, {REGIONS[2]}" in result.stdout
    assert REGIONS[1] in result.stderr


def test_triggers_are_added_and_removed(ask, control):
    window = ["--start", "2030-01-01T00:00:00Z", "--end", "2030-01-01T01:00:00+00:00"]
    output(ask("trigger", "add", "promo", *window, "--factor", 3, "--region", HOME, "--note", "Black Friday"))
    trigger = control.changes[0][3]
    assert (trigger.id, trigger.expected_factor, trigger.region, trigger.name) == ("promo", 3.0, HOME, "Black Friday")
    output(ask("trigger", "remove", "promo"))
    assert {each["id"] for each in json.loads(output(ask("trigger", "list", "--json")))} == {"report", "detected-daily"}


def test_a_recurring_trigger_needs_no_guess_of_its_effect(ask, control):
    recurrence = ["--cron", "0 9 * * 1", "--duration", "30m", "--timezone", "Europe/Berlin"]
    output(ask("trigger", "add", "report", *recurrence))
    trigger = control.changes[0][3]
    assert (trigger.cron, trigger.duration_ns, trigger.zone) == ("0 9 * * 1", 30 * 60 * 10**9, "Europe/Berlin")
    assert (trigger.expected_factor, trigger.expected_extra_eps) == (1.0, 0.0)


def test_a_bad_cron_expression_is_told_with_what_where_and_what_to_do(ask, control):
    result = ask("trigger", "add", "report", "--cron", "0 25 * * 1", "--duration", "30m")
    assert (result.exit_code, control.changes) == (1, [])
    told = " ".join(result.stderr.split())
    for said in ("'report'", "'0 25 * * 1'", "field 2, the hour", "25 is not within 0 and 23", "write *, a value"):
        assert said in told


def test_the_list_of_triggers_says_what_is_expected_of_each(ask):
    listed = json.loads(output(ask("trigger", "list", "--json")))
    assert [each["id"] for each in listed] == ["detected-daily"] * len(REGIONS) + ["report"]
    assert [each["region"] for each in listed[-1]["learned"]] == list(REGIONS)
    shown = " ".join(output(ask("trigger", "list")).split())
    for said in ("0 9 * * 1, 30m", "learned from 3", "detected"):
        assert said in shown


def test_a_region_is_scaled_for_a_while(ask, control):
    output(ask("scale", HOME, "--instances", 3, "--for", "90s"))
    assert control.changes == [(HOME, "scale", "", {"instances": 3, "size": None, "expires_in_s": 90.0})]
    output(ask("scale", HOME, "--auto"))
    assert control.changes[-1] == (HOME, "unscale", "", None)


def test_orders_reach_the_instance_that_is_named(ask, control):
    output(ask("restart", "o1", "--no-wait"))
    output(ask("drain", "a1x", "--no-wait"))
    assert [change[:3] for change in control.changes] == [(HOME, "restart", "o1"), (REGIONS[1], "drain", "a1x")]
    result = ask("drain", "b7")
    assert (result.exit_code, "o1" in result.stderr) == (1, True)


def test_topics_and_groups_are_listed(ask):
    assert "orders.t4" in output(ask("topic", "list"))
    assert [each["topic"] for each in json.loads(output(ask("topic", "list", "--json")))][:2] == [
        "orders.t0",
        "orders.t1",
    ]
    assert "no groups" in output(ask("subscription", "list"))


def test_a_refusal_is_one_line_with_its_code(ask, control):
    control.refuse = lambda region, change, name: ConflictError("not more than 4")
    result = ask("scale", HOME, "--instances", 9)
    assert (result.exit_code, result.stderr) == (1, "Error: not more than 4 [conflict]\n")


def test_what_only_the_gateway_can_check_is_told_too(ask):
    result = ask(
        "trigger", "add", "no name", "--start", "2030-01-01T00:00:00Z", "--end", "2030-01-01T01:00:00Z", "--extra", 1
    )
    assert result.exit_code == 1
    assert "invalid_request" in result.stderr


def test_with_no_manager_at_all_the_error_says_so(ask, control):
    control.away = set(REGIONS)
    control.refuse = lambda region, change, name: UnavailableError("away")
    for command in (["status"], ["sla", "set", "a"], ["topic", "list"]):
        result = ask(*command)
        assert (result.exit_code, "[unavailable]" in result.stderr) == (1, True)


def test_the_second_gateway_is_asked_when_the_first_is_away(run, gateway, unused_tcp_port):
    result = run("--url", f"http://127.0.0.1:{unused_tcp_port}", "--url", gateway, "topic", "list")
    assert result.exit_code == 0, result.output


def test_a_gateway_that_is_not_there_is_status_1(run, unused_tcp_port):
    result = run("--url", f"http://127.0.0.1:{unused_tcp_port}", "status")
    assert result.exit_code == 1
    assert "is `fedbus up` running?" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "tcp://127.0.0.1:1", "status"],
        ["sla", "set", "a..b"],
        ["sla", "set", "a", "--latency", "5"],
        ["sla", "set", "a", "--availability", "1"],
        ["trigger", "add", "x", "--start", "tomorrow", "--end", "2030-01-01T00:00:00Z", "--factor", "2"],
        ["trigger", "add", "x", "--start", "2030-01-01T00:00:00", "--end", "2030-01-01T00:00:00Z", "--factor", "2"],
        ["trigger", "add", "x", "--start", "2030-01-01T00:00:00Z"],
        ["trigger", "add", "x", "--factor", "2"],
        ["trigger", "add", "x", "--cron", "0 9 * * 1"],
        ["trigger", "add", "x", "--cron", "0 9 * * 1", "--duration", "soon"],
        [
            "trigger",
            "add",
            "x",
            "--duration",
            "30m",
            "--start",
            "2030-01-01T00:00:00Z",
            "--end",
            "2030-01-01T01:00:00Z",
        ],
        ["scale", "onprem.berlin"],
        ["scale", "onprem.berlin", "--instances", "1", "--auto"],
        ["scale", "onprem.berlin", "--instances", "0"],
        ["scale", "onprem.berlin", "--instances", "1", "--for", "ever"],
    ],
)
def test_wrong_usage_is_status_2(run, arguments):
    assert run(*arguments).exit_code == 2
