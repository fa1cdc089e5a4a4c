"""``fedbus topic`` against the project's own gateway."""

import json

import pytest

from fedbus.broker.policies import TopicRule
from fedbus.errors import ConflictError
from tests.serve.fakes import REGIONS

POLICIES = [
    {"topic": "orders.>", "retention_ms": 604_800_000, "retention_bytes": 2**30, "dedup_window_ms": 600_000,
     "schema_subject": "orders"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def policies(monkeypatch):
    monkeypatch.setattr("tests.serve.fakes.view_of", lambda region: {"topics": POLICIES})


def output(result):
    assert result.exit_code == 0, result.output
    return result.stdout


def test_policies_and_topics_are_listed_with_what_holds(ask, control):
    control.topics = ["orders.eu", "bills"]
    lines = output(ask("topic", "list")).splitlines()
    [orders] = [line for line in lines if line.split()[:1] == ["orders.eu"]]
    for expected in ("orders.>", "1w", "1GiB", "10m", "registered"):
        assert expected in orders
    [bills] = [line for line in lines if line.split()[:1] == ["bills"]]
    assert "(defaults)" in bills
    assert len(json.loads(output(ask("topic", "list", "--json")))) == 3
    assert "bills" not in output(ask("topic", "list", "--policies"))


def test_one_topic_says_where_its_policy_comes_from(ask):
    text = output(ask("topic", "show", "orders.us"))
    for expected in ("policy of orders.>", "1w", "1GiB", "10m", "orders"):
        assert expected in text
    assert "no policy's filter takes it" in output(ask("topic", "show", "bills"))
    assert json.loads(output(ask("topic", "show", "orders.us", "--json")))["policy"] == "orders.>"


def test_a_policy_is_set_in_every_region(ask, control):
    options = ("--retention", "2d", "--retention-bytes", "10GiB", "--dedup-window", "10m", "--schema-subject", "b")
    said = output(ask("topic", "set", "bills", *options, "--validation", "schema"))
    assert said == f"bills: policy set in {', '.join(REGIONS)}\n"
    rule = TopicRule(filter="bills", retention_ms=172_800_000, retention_bytes=10 * 2**30, dedup_window_ms=600_000,
                     schema_subject="b", validation="schema")  # fmt: skip
    assert control.changes[0] == (REGIONS[0], "put_topic", "bills", rule)


def test_what_is_not_given_stays_and_none_takes_back(ask, control):
    output(ask("topic", "set", "orders.>", "--retention-bytes", "none", "--schema-subject", "none"))
    assert control.changes[0][3] == TopicRule(filter="orders.>", dedup_window_ms=600_000)
    output(ask("topic", "set", "orders.eu", "--validation", "none"))
    assert control.changes[-1][3] == TopicRule(filter="orders.eu", validation="none")


def test_durability_and_its_regions_are_set(ask, control):
    output(ask("topic", "set", "bills", "--durability", "federation", "--regions", ", ".join(REGIONS[:2])))
    assert control.changes[0][3] == TopicRule(filter="bills", regions=tuple(REGIONS[:2]), durability="federation")
    output(ask("topic", "set", "bills", "--regions", "none", "--forward", "all"))
    assert control.changes[-1][3] == TopicRule(filter="bills", forward="all")
    assert "durability" in output(ask("topic", "show", "bills"))


def test_a_tie_is_said_in_one_line(ask, control):
    control.refuse = lambda region, change, name: ConflictError("policies a.* and *.b are equally specific")
    result = ask("topic", "set", "a.*")
    assert result.exit_code == 1
    assert result.stderr == "Error: policies a.* and *.b are equally specific [conflict]\n"


def test_what_cannot_be_read_is_wrong_usage(ask):
    for arguments in (("a", "--retention", "7"), ("a", "--retention-bytes", "1parsec"), ("a..b",)):
        assert ask("topic", "set", *arguments).exit_code == 2


def test_a_policy_is_taken_back(ask, control):
    assert output(ask("topic", "delete", "orders.>")).startswith("orders.>: no policy any more in ")
    assert control.changes[0][1:3] == ("delete_topic", "orders.>")
