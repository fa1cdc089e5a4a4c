"""``fedbus publish``."""

import json

import pytest

from fedbus.cli.ndjson import pointed_at
from fedbus.errors import InvalidEventError


@pytest.fixture
def stored(run, plain_broker):
    """What is stored, as CloudEvents."""

    def read(count):
        result = run("--url", plain_broker, "subscribe", ">", "--from", "earliest", "--json", "--max", count)
        assert result.exit_code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    return read


def test_an_event_is_published_and_its_id_printed(run, plain_broker, stored):
    result = run("--url", plain_broker, "publish", "orders.new", "--data", '{"id": 1, "customer": {"id": 7}}',
                 "--key-field", "/customer/id", "--attr", "subject=s")  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    (event,) = stored(1)
    assert event["id"] == result.stdout.strip()
    assert (event["topic"], event["type"], event["partitionkey"], event["subject"]) == (
        "orders.new",
        "orders.new",
        "7",
        "s",
    )
    assert event["data"] == {"id": 1, "customer": {"id": 7}}


def test_text_is_published_with_its_content_type(run, plain_broker, stored):
    assert (
        run("--url", plain_broker, "publish", "t", "--data", "not json", "--content-type", "text/plain").exit_code == 0
    )
    (event,) = stored(1)
    assert (event["data"], event["datacontenttype"]) == ("not json", "text/plain")


def test_a_receipt_can_be_json(run, plain_broker):
    row = json.loads(run("--url", plain_broker, "publish", "t", "--data", "1", "--json").stdout)
    assert row["position"] == "local.plain/b1/0:0" or row["position"].endswith(":0")
    assert set(row) == {"id", "position", "instance", "duplicate"}


def test_a_file_mixes_cloudevents_and_data(run, plain_broker, stored, tmp_path):
    cloud_event = {
        "specversion": "1.0",
        "id": "ce",
        "source": "s",
        "type": "T",
        "data": {"c": "x"},
        "partitionkey": "k",
    }
    file = tmp_path / "events.ndjson"
    file.write_text(f'{json.dumps(cloud_event)}\n\n{{"c": "y"}}')
    result = run("--url", plain_broker, "publish", "t", "--file", file)
    assert result.exit_code == 0, result.stderr
    first, second = stored(2)
    assert (first["id"], first["type"], first["partitionkey"], first["topic"]) == ("ce", "T", "k", "t")
    assert second["data"] == {"c": "y"}
    assert result.stdout.split() == [first["id"], second["id"]]


def test_many_lines_come_through_standard_input(run, plain_broker, stored):
    lines = "".join(f'{{"n": {n}, "k": "k{n % 5}"}}\n' for n in range(20_000))
    result = run("--url", plain_broker, "publish", "t", "--file", "-", "--key-field", "/k", input=lines)
    assert result.exit_code == 0, result.stderr
    assert len(set(result.stdout.split())) == 20_000
    assert [event["data"]["n"] for event in stored(20_000)] == list(range(20_000))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{nonsense", "line 3 is not JSON"),
        ('{"specversion": "1.0"}', "line 3: attribute 'id'"),
        ('{"x": 1}', "line 3 has no /k, which --key-field names"),
        ('{"k": {}}', "line 3: /k is no string or number"),
    ],
)
def test_the_first_bad_line_is_named_and_ends_it(run, plain_broker, stored, line, complaint):
    lines = f'{{"k": 1}}\n{{"k": 2}}\n{line}\n{{"k": 4}}\n'
    result = run("--url", plain_broker, "publish", "t", "--file", "-", "--key-field", "/k", input=lines)
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert "2 event(s) before that are durable" in result.stderr
    assert [event["data"]["k"] for event in stored(2)] == [1, 2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["t"],
        ["t", "--data", "1", "--file", "-"],
        ["t", "--data", "{nonsense"],
        ["no topic", "--data", "1"],
        ["t", "--data", "1", "--attr", "nonsense"],
        ["t", "--file", "/nonexistent/file"],
    ],
)
def test_wrong_usage_is_status_2(run, arguments):
    assert run("publish", *arguments).exit_code == 2


def test_a_gateway_that_is_not_there_is_status_1(run, unused_tcp_port):
    result = run("--url", f"http://127.0.0.1:{unused_tcp_port}", "publish", "t", "--data", "1")
    assert result.exit_code == 1
    assert f"no gateway answers at http://127.0.0.1:{unused_tcp_port}" in result.stderr


@pytest.mark.parametrize(("pointer", "key"), [("/a/1", "x"), ("/b~1c", "7"), ("/d~0e", "y")])
def test_pointers_follow_their_rfc(pointer, key):
    assert pointed_at({"a": [0, "x"], "b/c": 7, "d~e": "y"}, pointer, "line 1") == key


def test_a_pointer_to_nothing_names_the_line():
    with pytest.raises(InvalidEventError, match="line 9 has no /a/2"):
        pointed_at({"a": [0]}, "/a/2", "line 9")
