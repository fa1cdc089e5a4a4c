"""Calls that come from another region: builtins become what the manager's methods take."""

from typing import Any

import msgspec
import pytest

from fedbus.broker.policies import TopicRule
from fedbus.broker.protocol import GroupOptions, Start
from fedbus.control.peer_messages import Request, decode, encode
from fedbus.control.sla import Sla
from fedbus.errors import FedbusError, InvalidEventError
from fedbus.schema.rows import Change, SchemaRow, Snapshot
from fedbus_actors.relayed_calls import RelayedCalls, arguments_of, value_of

START = Start("time", time_ms=7)
GROUP = {"filters": ["orders.>"], "start": START, "options": GroupOptions(max_in_flight=3), "home": "here.a"}


def over_the_wire(method: str, *arguments: Any) -> list[Any]:
    request = decode(encode("a", 1, Request(1, method, list(arguments)))).message
    assert isinstance(request, Request)
    return arguments_of(method, request.arguments)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("bootstrap", []),
        ("read", ["topics"]),
        ("query", ["topics_seen", {"after": "", "limit": 3}]),
        ("change", ["put_sla", "x.>", Sla(filter="x.>")]),
        ("change", ["put_topic", "x.>", TopicRule(filter="x.>", regions=("here.a",))]),
        ("change", ["seek_group", "g", START]),
        ("change", ["put_group", "g", GROUP]),
        ("change", ["put_group", "g", GROUP | {"start": None}]),
        ("change", ["delete_sla", "x.>", None]),
        ("change", ["scale", "", {"instances": 2, "size": None, "expires_in_s": 60.0}]),
        ("schemas", ["commit", 3, Change(schemas=(SchemaRow(1, "f", "{}"),), removed=(("s", 1),))]),
    ],
)
def test_arguments_arrive_as_they_were_given(method: str, arguments: list[Any]) -> None:
    assert over_the_wire(method, *arguments) == arguments


def test_an_answer_is_given_as_the_method_gives_it() -> None:
    snapshot = Snapshot(3, (SchemaRow(1, "f", "{}"),), (), ())
    assert value_of("schemas", ("load", 0), msgspec.to_builtins(snapshot)) == snapshot
    assert value_of("schemas", ("revision",), 4) == 4


def test_nothing_but_the_named_methods_can_be_asked_for() -> None:
    with pytest.raises(FedbusError, match="no call between regions"):
        RelayedCalls({"stop": lambda: None}).answer("stop", [])


@pytest.mark.parametrize(
    "arguments", [["put_sla", "x", {"filter": 3}], ["seek_group", "g", "soon"], ["put_group", "g", {"options": 4}]]
)
def test_what_cannot_be_read_is_an_error_of_who_asks(arguments: list[Any]) -> None:
    with pytest.raises(InvalidEventError, match="cannot be read"):
        RelayedCalls({"change": lambda *_: None}).answer("change", arguments)
