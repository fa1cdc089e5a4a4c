"""``fedbus subscribe``."""

import json

import pytest


@pytest.fixture
def publish(run, plain_broker):
    def publish(*values):
        result = run(
            "--url", plain_broker, "publish", "jobs.a", "--file", "-", input="\n".join(map(json.dumps, values))
        )
        assert result.exit_code == 0, result.stderr

    return publish


def values(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line)["data"] for line in result.stdout.splitlines()]


def test_a_group_acknowledges_what_it_printed(run, plain_broker, publish):
    publish(1, 2, 3)
    subscribe = ["--url", plain_broker, "subscribe", "jobs.*", "--group", "g", "--json"]
    assert values(run(*subscribe, "--max", 2)) == [1, 2]
    assert values(run(*subscribe, "--count", 1)) == [3]


def test_no_ack_leaves_the_events_for_the_next(run, plain_broker, publish):
    publish(1)
    subscribe = ["--url", plain_broker, "subscribe", "jobs.*", "--group", "g", "--json", "--max", 1]
    assert values(run(*subscribe, "--no-ack")) == [1]
    again = run(*subscribe)
    assert values(again) == [1]
    assert json.loads(again.stdout)["delivery"] == 2


def test_a_stream_starts_at_a_position(run, plain_broker, publish):
    publish(1, 2, 3)
    subscribe = ["--url", plain_broker, "subscribe", ">", "--json"]
    first = run(*subscribe, "--from", "earliest", "--max", 1)
    position = json.loads(first.stdout)["position"]
    assert values(run(*subscribe, "--from", position, "--max", 3)) == [1, 2, 3]
    assert values(run(*subscribe, "--from", "2020-01-01T00:00:00Z", "--max", 3)) == [1, 2, 3]


def test_people_get_a_line_per_event(run, plain_broker, publish):
    publish({"a": 1})
    line = run("--url", plain_broker, "subscribe", ">", "--from", "earliest", "--max", 1).stdout
    assert "jobs.a" in line
    assert '{"a": 1}' in line


@pytest.mark.parametrize("arguments", [["a..b"], [">", "--from", "yesterday"], [">", "--max", "0"]])
def test_wrong_usage_is_status_2(run, arguments):
    assert run("subscribe", *arguments).exit_code == 2
