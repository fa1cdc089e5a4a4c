"""The client refuses data that does not fit its topic's schema, before anything is sent."""

from __future__ import annotations

import pytest

from fedbus.client.event_writer import EventWriter
from fedbus.client.schema_guard import SchemaGuard
from fedbus.clock import ManualClock
from fedbus.errors import SchemaMismatchError, UnavailableError
from fedbus.limits import DEFAULT

SCHEMA = '{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}'
PUSHED = {"newest": {"typed-value": (1, 1, SCHEMA)}, "policies": []}


def write(guard: SchemaGuard, topic: str, data: object) -> bytes:
    return EventWriter("p", "/test", DEFAULT, ManualClock(0), guard).write(
        topic, data, None, None, None, None, None, None
    )


def test_data_that_does_not_fit_is_refused_and_says_where() -> None:
    with pytest.raises(SchemaMismatchError, match="/id"):
        write(SchemaGuard(PUSHED), "typed", {"id": "seven"})


def test_data_that_fits_and_topics_without_schema_pass() -> None:
    guard = SchemaGuard(PUSHED)
    assert write(guard, "typed", {"id": 7})
    assert write(guard, "other", {"id": "seven"})


def test_a_schema_that_arrives_later_holds_for_a_producer_that_is_open() -> None:
    guard = SchemaGuard()
    writer = EventWriter("p", "/test", DEFAULT, ManualClock(0), guard)
    assert writer.write("typed", {"id": "x"}, None, None, None, None, None, None)
    guard.replace(PUSHED)
    with pytest.raises(SchemaMismatchError):
        writer.write("typed", {"id": "x"}, None, None, None, None, None, None)


def test_the_first_policy_whose_filter_takes_the_topic_holds() -> None:
    guard = SchemaGuard(PUSHED | {"policies": [("typed", None, "none"), (">", "other-value", "schema")]})
    assert write(guard, "typed", {"id": "x"})
    with pytest.raises(UnavailableError, match="other-value"):
        write(guard, "unknown", {})
