"""CloudEvents over HTTP: every mode is read as the binding says, and what is wrong is named by index and place."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.errors import InvalidEventError, InvalidTopicError, TooLargeError
from fedbus.limits import Limits
from fedbus_serve.cloudevents_http import EventReader, decode_header
from fedbus_serve.problems import BatchRefusedError, UnsupportedMediaTypeError

NOW_NS = 1_772_452_800_000_000_000
EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "orders.created"}
CE = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "orders.created"}
STRUCTURED, BATCHED, NDJSON = (
    f"application/{name}" for name in ("cloudevents+json", "cloudevents-batch+json", "x-ndjson")
)


def read(body, headers, topic=None, limits=None):
    numbers = itertools.count(1)
    reader = EventReader(limits or Limits(), lambda: f"new-{next(numbers)}")
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return reader.read([(k.encode(), v.encode("latin-1")) for k, v in headers.items()], encoded, topic, NOW_NS)


def typed(content_type):
    return {"content-type": content_type}


# -- what is read ---------------------------------------------------------------------------------------------------


def test_binary_mode_takes_attributes_from_headers_and_the_body_as_it_is():
    body = b'{ "amount" : 1.50, "big": 123456789012345678901234567890 }'
    headers = CE | {
        "content-type": "application/json", "ce-time": "2026-01-31T12:00:00Z", "ce-subject": "s",
        "ce-partitionkey": "c7",
        "ce-traceparent": "00-ab-cd-01", "x-other": "ignored",
    }  # fmt: skip
    [(topic, event)] = read(body, headers)
    assert topic == "orders.created"
    assert event.payload == body
    assert event.key == "c7"
    assert event.attributes == {"subject": "s", "traceparent": "00-ab-cd-01"}
    assert (event.id, event.source, event.time, event.datacontenttype) == (
        "1", "/shop", "2026-01-31T12:00:00Z", "application/json",
    )  # fmt: skip


def test_binary_mode_takes_any_type_of_data():
    [(_, event)] = read(b"\x00\xff", CE | typed("application/vnd.apache.thrift.binary"))
    assert event.data == b"\x00\xff"
    [(_, event)] = read(b"<x/>", CE | typed("text/xml; charset=iso-8859-1"))
    assert event.payload == b"<x/>"
    [(_, event)] = read(b"\x00", CE)
    assert (event.datacontenttype, event.data) == (None, b"\x00")


def test_binary_mode_without_a_body_has_no_data():
    [(_, event)] = read(b"", CE | typed("application/json"))
    assert event.payload is None


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"plain", "plain"),
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),  # the binding's own example
        (b'"quoted \\"text\\" \\\\"', 'quoted "text" \\'),
        (b"%2541", "%41"),  # one round only
        (b"100%", "100%"),
    ],
)
def test_header_values_are_unquoted_and_percent_decoded_once(header, text):
    assert decode_header(header, "subject") == text


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_any_text_encoded_as_the_binding_says_is_read_back(text):
    encoded = "".join(
        c if "!" <= c <= "~" and c not in '"%' else "".join(f"%{b:02X}" for b in c.encode()) for c in text
    )
    assert decode_header(encoded.encode(), "subject") == text


def test_structured_mode_keeps_the_bytes_of_the_data():
    body = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data": {"n": 1.0,  "big":12345678901234567890123}}'
    [(topic, event)] = read(body, typed(STRUCTURED + "; charset=UTF-8"), "other.topic")
    assert topic == "other.topic"
    assert event.type == "t"
    assert event.payload == b'{"n": 1.0,  "big":12345678901234567890123}'


def test_structured_mode_tells_text_from_json_strings():
    [(_, event)] = read(EVENT | {"datacontenttype": "text/plain", "data": "é"}, typed(STRUCTURED))
    assert event.payload == "é".encode()
    [(_, event)] = read(EVENT | {"data": "text"}, typed(STRUCTURED))
    assert event.payload == b'"text"'
    [(_, event)] = read(EVENT | {"datacontenttype": "image/png", "data_base64": "AAE="}, typed(STRUCTURED))
    assert event.payload == b"\x00\x01"


def test_batches_and_ndjson_keep_the_order():
    events = [EVENT | {"id": str(n), "type": f"orders.t{n}"} for n in range(3)]
    expected = [(f"orders.t{n}", str(n)) for n in range(3)]
    assert [(t, e.id) for t, e in read(events, typed(BATCHED))] == expected
    lines = b"\n\n".join(json.dumps(event).encode() for event in events) + b"\r\n"
    assert [(t, e.id) for t, e in read(lines, typed(NDJSON))] == expected


def test_an_empty_batch_is_no_events():
    assert read([], typed(BATCHED)) == []
    assert read(b"\n", typed(NDJSON)) == []


def test_a_line_of_ndjson_without_specversion_is_data_for_the_topic_in_the_path():
    found = read(b'{"amount": 1}\n' + json.dumps(EVENT).encode() + b"\n17", typed(NDJSON), "orders.new")
    assert [(topic, event.id, event.type) for topic, event in found] == [
        ("orders.new", "new-1", "orders.new"), ("orders.new", "1", "orders.created"),
        ("orders.new", "new-2", "orders.new"),
    ]  # fmt: skip
    data = found[0][1]
    assert (data.payload, data.datacontenttype, data.time) == (b'{"amount": 1}', "application/json", NOW_NS)


# -- what is refused ---------------------------------------------------------------------------------------------------

JSON_HEADERS = CE | typed("application/json")
REFUSED = {
    "no id header": (b"", {k: v for k, v in CE.items() if k != "ce-id"}, InvalidEventError, "ce-id is missing"),
    "json without ce headers": (b"{}", typed("application/json"), InvalidEventError, "ce-id, ce-source, ce-type"),
    "nothing at all": (b"", {}, InvalidEventError, "ce-id"),
    "old version": (b"", CE | {"ce-specversion": "0.3"}, InvalidEventError, "'0.3' is not 1.0"),
    "attribute name": (b"", CE | {"ce-my-ext": "x"}, InvalidEventError, "'my-ext' must be 1 to 64"),
    "data by header": (b"", CE | {"ce-data": "x"}, InvalidEventError, "ce-data must not be there"),
    "type by header": (b"", CE | {"ce-datacontenttype": "x"}, InvalidEventError, "Content-Type its type"),
    "bad escape": (b"", CE | {"ce-subject": "%ff"}, InvalidEventError, "ce-subject is not percent-encoded UTF-8"),
    "control character": (b"", CE | {"ce-subject": "a%0Ab"}, InvalidEventError, "U+000A"),
    "bad time": (b"", CE | {"ce-time": "noon"}, InvalidEventError, "RFC 3339"),
    "broken json": (b'{"a": nope}', JSON_HEADERS, InvalidEventError, "byte offset 6"),
    "broken json after umlauts": ('{"ää": ]'.encode(), JSON_HEADERS, InvalidEventError, "byte offset 9"),
    "cut json": (b'{"a": 1', JSON_HEADERS, InvalidEventError, "byte offset 7"),
    "json with a tail": (b"{} {}", JSON_HEADERS, InvalidEventError, "byte offset 3"),
    "not a number": (b"[NaN]", JSON_HEADERS, InvalidEventError, "not JSON"),
    "json no utf-8": (b'"\xff"', JSON_HEADERS, InvalidEventError, "byte offset 1"),
    "json too deep": (b"[" * 1_000_000, JSON_HEADERS, InvalidEventError, "nested too deeply"),
    "structured no json": (b"{", typed(STRUCTURED), InvalidEventError, "event is not JSON at byte offset 1"),
    "structured no object": (b"[]", typed(STRUCTURED), InvalidEventError, "JSON array"),
    "structured no utf-8": (b'{"id":"\xff"}', typed(STRUCTURED), InvalidEventError, "not UTF-8"),
    "batch no array": (b"{}", typed(BATCHED), InvalidEventError, "no JSON array"),
    "batch no json": (b"[{},", typed(BATCHED), InvalidEventError, "byte offset 4"),
    "type no topic": (EVENT | {"type": "no topic"}, typed(STRUCTURED), InvalidTopicError, "'no topic' is not a topic"),
    "type reserved": (EVENT | {"type": "_fedbus.x"}, typed(STRUCTURED), InvalidTopicError, "reserved"),
    "avro": (b"", typed("application/cloudevents+avro"), UnsupportedMediaTypeError, STRUCTURED),
    "text": (b"hello", typed("text/plain"), UnsupportedMediaTypeError, BATCHED),
    "charset": (b"{}", typed(STRUCTURED + ";charset=utf-16"), UnsupportedMediaTypeError, "utf-8 only"),
    "compressed": (b"", CE | {"content-encoding": "gzip"}, UnsupportedMediaTypeError, "gzip"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_named(body, headers, kind, words):
    with pytest.raises(kind) as caught:
        read(body, headers)
    assert words in caught.value.detail


def test_a_header_that_is_there_twice_is_refused():
    reader = EventReader(Limits(), lambda: "x")
    with pytest.raises(InvalidEventError, match="ce-id is there twice"):
        reader.read([(b"ce-id", b"1"), (b"ce-id", b"2")], b"", None, NOW_NS)


def test_a_path_that_is_no_topic_is_refused():
    with pytest.raises(InvalidTopicError):
        read(EVENT, typed(STRUCTURED), "orders..new")


def test_every_invalid_event_of_a_batch_is_named_by_its_index():
    with pytest.raises(BatchRefusedError) as caught:
        read([EVENT, {"id": "2"}, EVENT, 7, EVENT | {"type": "no topic"}], typed(BATCHED))
    assert [found.place for found in caught.value.errors] == [1, 3, 4]
    assert caught.value.kind is InvalidEventError
    assert "nothing was published" in caught.value.detail


def test_ndjson_errors_name_index_and_line():
    with pytest.raises(BatchRefusedError) as caught:
        read(json.dumps(EVENT).encode() + b"\n\n{\n5", typed(NDJSON))
    assert [(f.place, f.error.detail.split()[:2]) for f in caught.value.errors] == [
        (1, ["line", "3"]), (2, ["line", "4"]),
    ]  # fmt: skip
    assert "its topic in the path" in caught.value.errors[1].error.detail


def test_a_batch_of_nothing_but_garbage_is_refused_without_listing_all_of_it():
    with pytest.raises(BatchRefusedError) as caught:
        read(list(range(5000)), typed(BATCHED))
    assert len(caught.value.errors) == 100
    assert "100 or more" in caught.value.detail


LIMITS = Limits(event_bytes=100, key_bytes=8, attributes_bytes=64)
TOO_LARGE = {
    "data": EVENT | {"data": "x" * 99},
    "key": EVENT | {"partitionkey": "123456789"},
    "key in bytes": EVENT | {"partitionkey": "äöüäö"},
    "attributes": EVENT | {"extension": "x" * 64},
}


@pytest.mark.parametrize("event", TOO_LARGE.values(), ids=TOO_LARGE)
def test_events_beyond_a_limit_are_refused_as_too_large(event):
    with pytest.raises(TooLargeError, match="at most"):
        read(event, typed(STRUCTURED), limits=LIMITS)
    with pytest.raises(BatchRefusedError) as caught:
        read([EVENT, event], typed(BATCHED), limits=LIMITS)
    assert caught.value.kind is TooLargeError


def test_events_at_the_limits_are_taken():
    read(EVENT | {"data": "x" * 98}, typed(STRUCTURED), limits=LIMITS)
    read(EVENT | {"partitionkey": "12345678"}, typed(STRUCTURED), limits=LIMITS)


@given(st.binary(max_size=200), st.sampled_from([STRUCTURED, BATCHED, NDJSON, "application/json"]))
def test_no_body_whatever_causes_anything_but_events_or_a_refusal(body, content_type):
    try:
        found = read(body, CE | typed(content_type), "orders.new")
    except (InvalidEventError, TooLargeError, UnsupportedMediaTypeError):
        return
    for _, event in found:
        msgspec.json.encode(event.to_dict())
