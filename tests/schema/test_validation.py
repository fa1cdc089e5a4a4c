"""Validation of schemas and of data: what is found, where, and that nothing is fetched and nothing falls over."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fedbus.schema.document import parse_document
from fedbus.schema.limits import DATA_DEPTH, IN_PLACE_DEPTH, PROBLEM_CHARACTERS, PROBLEMS
from fedbus.schema.refusal import InvalidSchemaError
from fedbus.schema.validation import Validator, Validators

ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "integer"}, "lines": {"items": {"properties": {"a/b~c": {"type": "string"}}}}},
}


def validator(schema) -> Validator:
    return Validator(parse_document(json.dumps(schema)))


def test_fitting_data_has_no_problem():
    assert validator(ORDER).problems(b'{"id": 1, "lines": [{"a/b~c": "x"}]}') == []


def test_each_problem_says_where_as_json_pointer():
    found = validator(ORDER).problems(b'{"id": "x", "lines": [{}, {"a/b~c": 1}]}')
    assert {problem.pointer for problem in found} == {"/id", "/lines/1/a~1b~0c"}
    missing = validator(ORDER).problems(b"{}")
    assert [str(problem) for problem in missing] == ['(root): "id" is a required property']


@pytest.mark.parametrize(
    "data", [None, b"", b"{", b"NaN", b"\xff", b'{"id": 1} x', b'"\\ud800"', b"1e999", b"[" * 100_000]
)
def test_data_that_is_no_json_is_one_problem(data):
    assert len(validator(ORDER).problems(data)) == 1


def test_deep_data_is_refused_and_wide_data_is_not():
    anything = validator(True)
    assert anything.problems(b"[" * DATA_DEPTH + b"]" * DATA_DEPTH) == []
    assert "nested deeper" in anything.problems(b"[" * (DATA_DEPTH + 1) + b"]" * (DATA_DEPTH + 1))[0].message
    assert anything.problems(b"[" + b"[]," * 1000 + b"[]]") == []


def test_reports_are_bounded():
    found = validator({"items": {"type": "integer"}}).problems(json.dumps(["x" * 1000] * 1000).encode())
    assert len(found) == PROBLEMS
    assert max(len(problem.message) for problem in found) <= PROBLEM_CHARACTERS


@pytest.mark.parametrize(
    ("uri", "draft"),
    [
        ("http://json-schema.org/draft-04/schema#", "draft-04"),
        ("http://json-schema.org/draft-06/schema#", "draft-06"),
        ("http://json-schema.org/draft-07/schema#", "draft-07"),
        ("https://json-schema.org/draft/2019-09/schema", "2019-09"),
        ("https://json-schema.org/draft/2020-12/schema", "2020-12"),
    ],
)
def test_the_draft_is_the_one_the_schema_names(uri, draft):
    assert validator({"$schema": uri, "type": "object"}).draft == draft


def test_without_a_name_the_draft_is_the_newest():
    assert validator({}).draft == "2020-12"


@pytest.mark.parametrize(
    ("schema", "where", "why"),
    [
        ({"type": "strng"}, "/type", "strng"),
        ({"properties": {"a": {"minimum": "x"}}}, "/properties/a/minimum", "number"),
        ({"pattern": "(a"}, "/pattern", "regex"),
        ({"$ref": "#/$defs/absent"}, "", "absent"),
        ({"$schema": "http://example.com/mine"}, "", "mine"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "", "draft-03"),
        ({"$schema": 5}, "/$schema", "string"),
    ],
)
def test_a_bad_schema_says_where_and_why(schema, where, why):
    with pytest.raises(InvalidSchemaError, match=why) as caught:
        validator(schema)
    assert caught.value.pointer == where


def test_references_are_never_fetched(tmp_path):
    asked = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"true")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Trap)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        web = f"http://127.0.0.1:{server.server_port}/schema.json"
        local = tmp_path / "schema.json"
        local.write_text("true")
        for schema in (
            {"$ref": web},
            {"$ref": local.as_uri()},
            {"$id": web, "$ref": "other.json"},
            {"$dynamicRef": web},
            {"$schema": web},
            {
                "properties": {"a": {"items": [{"anyOf": [{"$ref": f"{web}#/x"}]}]}},
                "$schema": "http://json-schema.org/draft-07/schema#",
            },
            {"$defs": {"unused": {"$ref": web}}},
        ):
            try:
                made = validator(schema)
            except InvalidSchemaError:
                continue
            made.problems(b'{"a": [1]}')
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9/x.json", "file:///etc/hostname"])
def test_a_schema_that_needs_another_document_is_invalid(uri):
    with pytest.raises(InvalidSchemaError, match="never fetched"):
        validator({"$ref": uri})


def test_meta_schemas_are_known_without_fetching():
    assert validator({"$ref": "https://json-schema.org/draft/2020-12/schema"}).problems(b'{"type": "nonsense"}')


def chain(steps: int) -> dict:
    defs = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}]} for i in range(steps)}
    return {"$defs": {**defs, f"a{steps}": {"items": {"$ref": "#"}}}, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize(
    "schema",
    [
        chain(IN_PLACE_DEPTH),
        {"$id": "http://x/root.json", "$defs": chain(IN_PLACE_DEPTH)["$defs"], "$ref": "root.json#/$defs/a0"},
        {
            "$defs": {f"a{i}": {"$anchor": f"n{i}", "not": {"$ref": f"#n{i + 1}"}} for i in range(40)}
            | {"a40": {"$anchor": "n40"}},
            "$ref": "#n0",
        },
    ],
)
def test_subschemas_applied_in_place_too_deep_are_refused(schema):
    with pytest.raises(InvalidSchemaError, match="flatten"):
        validator(schema)


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"$defs": {"a": {"$ref": "#/$defs/a"}}}])
def test_a_schema_that_refers_to_itself_ends(schema):
    assert validator(schema).problems(b"1") == []


def test_the_deepest_permitted_recursion_survives():
    """In a process of its own: a native stack overflow would take the test run with it."""
    nested: dict = {"items": {"$ref": "#"}, "type": "array"}
    for _ in range(IN_PLACE_DEPTH // 2 - 2):
        nested = {"anyOf": [nested, {"oneOf": [{"type": "integer"}]}]}
    program = (
        "import sys\nfrom fedbus.schema.document import parse_document\n"
        "from fedbus.schema.validation import Validator\n"
        "v = Validator(parse_document(sys.stdin.readline()))\n"
        f"print(len(v.problems(b'[' * {DATA_DEPTH} + b'\"x\"' + b']' * {DATA_DEPTH})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(nested) + "\n", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


def test_a_catastrophic_pattern_is_cut_short():
    assert validator({"pattern": "^(?=a)(a|aa)+$"}).problems(json.dumps("a" * 5000 + "!").encode())


def test_validators_are_compiled_once_and_bounded():
    kept = Validators(capacity=2)
    first = kept.get(1, '{"type": "integer"}')
    assert kept.get(1, '{"type": "integer"}') is first
    kept.get(2, "true")
    kept.get(1, '{"type": "integer"}')
    kept.get(3, "true")  # drops 2, the least recently used
    assert kept.get(1, '{"type": "integer"}') is first
    assert len(kept) == 2
