"""Schema texts: what is one and the same schema, and what is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.schema.document import check_schema_type, depth_exceeds, parse_document
from fedbus.schema.limits import SCHEMA_BYTES, SCHEMA_DEPTH
from fedbus.schema.refusal import InvalidSchemaError, RegistryError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def shuffled(value, draw):
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw(st.permutations(sorted(value)))}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


@given(st.data())
def test_white_space_key_order_and_escapes_do_not_make_another_schema(data):
    value = data.draw(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), JSON_VALUES, max_size=5))
    try:
        first = parse_document(json.dumps(value))
    except InvalidSchemaError:
        return  # half a surrogate pair somewhere
    again = parse_document(
        json.dumps(
            shuffled(value, data.draw), indent=3, ensure_ascii=data.draw(st.booleans()), separators=(" , ", " : ")
        )
    )
    assert again.fingerprint == first.fingerprint


def test_different_content_is_a_different_schema():
    assert parse_document('{"minimum":1}').fingerprint != parse_document('{"minimum":1.0}').fingerprint
    assert parse_document("true").fingerprint != parse_document("false").fingerprint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("{", "line 1, column 2"),
        ("[]", "object or a boolean"),
        ('"string"', "object or a boolean"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"minimum": NaN}', "NaN is not JSON"),
        ('{"minimum": ' + "9" * 5000 + "}", "not JSON"),
        ('{"title": "\\ud800"}', "surrogate"),
        ('{"title": "\ud800"}', "surrogate"),
        ('{"items":' * 100 + "{}" + "}" * 100, f"deeper than {SCHEMA_DEPTH}"),
        ('{"items":' * 50_000 + "{}" + "}" * 50_000, f"deeper than {SCHEMA_DEPTH}"),
    ],
)
def test_what_is_no_schema_document_says_why(text, reason):
    with pytest.raises(InvalidSchemaError, match=reason) as caught:
        parse_document(text)
    assert caught.value.error_code == 42201


def test_a_schema_beyond_the_limit_is_refused():
    with pytest.raises(RegistryError, match="too large") as caught:
        parse_document(json.dumps({"description": "x" * SCHEMA_BYTES}))
    assert caught.value.error_code == 42209


@pytest.mark.parametrize(
    ("kind", "reason"), [("AVRO", "AVRO"), ("PROTOBUF", "PROTOBUF"), (None, "AVRO"), ("XSD", "XSD")]
)
def test_only_json_schemas_are_taken(kind, reason):
    with pytest.raises(InvalidSchemaError, match=reason):
        check_schema_type(kind)
    check_schema_type("JSON")


@given(JSON_VALUES, st.integers(0, 6))
def test_depth_counts_nested_arrays_and_objects(value, limit):
    def depth(item):
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert depth_exceeds(value, limit) == (depth(value) > limit)
