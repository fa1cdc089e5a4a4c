"""Events: the JSON format of CloudEvents 1.0 and the wire form keep what they are given, and refuse what is none."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.errors import InvalidEventError
from fedbus.event import Arrival, Event, encode_data, is_json

CORE = {"specversion": "1.0", "id": "A234-1234-1234", "source": "/mycontext", "type": "com.example.someevent"}
EXTENSIONS = {"comexampleextension1": "value", "comexampleothervalue": 5}

# The examples of the JSON format's specification, section 3.2, and of its table of values.
SPECIFIED = {
    "binary": CORE
    | EXTENSIONS
    | {"datacontenttype": "application/vnd.apache.thrift.binary", "data_base64": "AAECAw=="},
    "xml": CORE | EXTENSIONS | {"datacontenttype": "text/xml", "data": '<much wow="xml"/>'},
    "object": CORE | {"datacontenttype": "application/json", "data": {"a": "abc", "b": 123, "c": True}},
    "number": CORE | {"datacontenttype": "application/json", "data": 1.5},
    "string": CORE | {"datacontenttype": "application/json", "data": "a JSON string"},
    "json suffix": CORE | {"datacontenttype": "application/geo+json", "data": {"type": "Point"}},
    "null data": CORE | {"datacontenttype": "application/json", "data": None},
    "no data": CORE | {"time": "2018-04-05T17:31:00Z", "subject": "larger-context"},
    "base64 without type": CORE | {"data_base64": base64.b64encode(b"{}").decode()},
    "key": CORE | {"partitionkey": "customer-7", "extbool": False, "extmin": -(2**31)},
}


@pytest.mark.parametrize("structured", SPECIFIED.values(), ids=SPECIFIED)
def test_an_event_of_the_specification_comes_back_as_it_was(structured):
    event = Event.from_dict(structured)
    assert event.to_dict() == structured
    assert Event.decode(event.encode()).to_dict() == structured


def test_data_without_a_content_type_is_json_and_says_so_from_then_on():
    event = Event.from_dict(CORE | {"data": {"a": 1}})
    assert event.data == {"a": 1}
    assert event.to_dict()["datacontenttype"] == "application/json"


def test_text_of_a_type_not_known_to_be_text_keeps_its_bytes():
    event = Event.from_dict(CORE | {"datacontenttype": "application/xml", "data": "<é/>"})
    assert event.data == "<é/>".encode()
    assert base64.b64decode(event.to_dict()["data_base64"]) == "<é/>".encode()


def test_null_attributes_are_absent_attributes():
    event = Event.from_dict(CORE | {"subject": None, "time": None, "unsetextension": None, "partitionkey": None})
    assert event.to_dict() == CORE


def test_data_that_only_claims_to_be_json_is_given_as_bytes():
    for payload in (b"{", b'"\xff"', b"[" * 100_000):
        event = Event(id="1", source="/s", type="t", datacontenttype="application/json", payload=payload)
        assert event.data == payload
        assert base64.b64decode(event.to_dict()["data_base64"]) == payload


REFUSED = {
    "id missing": ({"id": None}, "'id' is required"),
    "id empty": ({"id": ""}, "'id' is required"),
    "source a number": ({"source": 5}, "'source' is required"),
    "specversion 0.3": ({"specversion": "0.3"}, "'0.3' is not 1.0"),
    "name with capitals": ({"MyExtension": "x"}, "'MyExtension' must be 1 to 64 of a-z 0-9"),
    "name with underscore": ({"my_extension": "x"}, "must be 1 to 64"),
    "attribute an object": ({"extension": {}}, "string, integer or boolean"),
    "attribute a float": ({"extension": 1.5}, "string, integer or boolean"),
    "integer too large": ({"extension": 2**31}, "32-bit"),
    "subject a number": ({"subject": 5}, "'subject' must be a string"),
    "key a number": ({"partitionkey": 7}, "partitionkey must be a string"),
    "content type a number": ({"datacontenttype": 7}, "datacontenttype must be a string"),
    "time no time": ({"time": "yesterday"}, "RFC 3339"),
    "time without zone": ({"time": "2018-04-05T17:31:00"}, "RFC 3339"),
    "time impossible": ({"time": "2018-13-05T17:31:00Z"}, "RFC 3339"),
    "both data": ({"data": 1, "data_base64": "AA=="}, "exclude each other"),
    "bad base64": ({"data_base64": "?"}, "not base64"),
    "control character in id": ({"id": "a\nb"}, "'id' holds the control character U+000A at 1"),
    "control character in extension": ({"extension": "\x7f"}, "U+007F"),
    "noncharacter": ({"subject": "\ufffe"}, "U+FFFE"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_cloudevent_is_refused_with_its_place_and_attribute(change, words):
    with pytest.raises(InvalidEventError) as caught:
        Event.from_dict(CORE | change, "line 7")
    assert caught.value.detail.startswith("line 7")
    assert words in caught.value.detail


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
PLAIN = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=20)


@given(
    PLAIN, PLAIN, PLAIN, st.one_of(st.none(), PLAIN), JSON, st.dictionaries(st.sampled_from(["a", "b1", "zz"]), PLAIN)
)
def test_any_event_survives_both_forms(id_, source, type_, key, data, attributes):
    structured = {"specversion": "1.0", "id": id_, "source": source, "type": type_, "data": data, **attributes}
    if key is not None:
        structured["partitionkey"] = key
    event = Event.decode(Event.from_dict(structured).encode())
    assert event.to_dict() == structured | {"datacontenttype": "application/json"}
    assert event.key == key


def test_bytes_that_are_no_event_are_refused():
    for wrong in (b"", b"\xc1", msgspec.msgpack.encode({"id": "1"}), msgspec.msgpack.encode(["only an id"])):
        with pytest.raises(InvalidEventError):
            Event.decode(wrong)


def test_an_arrived_event_knows_its_topic_position_and_delivery_and_forgets_them_on_the_wire():
    event = Event.decode(Event.from_dict(CORE).encode(), Arrival("orders.new", "onprem.berlin/b1/4", 17, 2, None))
    assert (event.topic, str(event.position), event.delivery) == ("orders.new", "onprem.berlin/b1/4:17", 2)
    assert Event.decode(event.encode()).position is None


def test_the_sdk_event_and_back():
    event = Event.from_dict(SPECIFIED["object"] | {"time": "2018-04-05T17:31:00+00:00"})
    assert Event.from_cloudevent(event.to_cloudevent()) == event


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True), ("Application/JSON; charset=utf-8", True), ("text/json", True),
        ("application/geo+json", True), ("application/jsonp", False), ("text/plain", False), (None, False),
    ],
)  # fmt: skip
def test_json_content_types(content_type, expected):
    assert is_json(content_type) is expected


def test_data_of_a_caller_gets_the_content_type_that_fits():
    assert encode_data({"a": 1}) == (b'{"a":1}', "application/json")
    assert encode_data("é") == ("é".encode(), "text/plain; charset=utf-8")
    assert encode_data(memoryview(b"\x00")) == (b"\x00", "application/octet-stream")
    assert encode_data(None) == (None, None)
    with pytest.raises(InvalidEventError, match="pass bytes"):
        encode_data(object())
