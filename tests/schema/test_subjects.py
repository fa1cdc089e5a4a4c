"""The check of an event against its topic's schema, as gateway and client make it."""

from __future__ import annotations

import pytest

from fedbus.errors import SchemaMismatchError, UnavailableError, from_code
from fedbus.schema.refusal import RegistryError
from fedbus.schema.registry import Registry
from fedbus.schema.store import MemorySchemaStore
from fedbus.schema.subjects import EventMismatchError, SubjectPolicy, SubjectSchemas

INTEGER = '{"type": "object", "properties": {"id": {"type": "integer"}}}'


def test_a_topic_without_a_subject_takes_anything():
    schemas = SubjectSchemas()
    schemas.check("orders", "application/json", b"{")
    schemas.check("orders", None, None)


def test_data_is_checked_against_the_topics_value_subject():
    schemas = SubjectSchemas()
    schemas.replace({"orders-value": (3, 7, INTEGER)})
    schemas.check("orders", "application/json; charset=utf-8", b'{"id": 1}')
    schemas.check("orders.eu", "application/json", b'{"id": "x"}')
    with pytest.raises(SchemaMismatchError, match=r"/id: .*integer") as caught:
        schemas.check("orders", None, b'{"id": "x"}')
    assert isinstance(caught.value, EventMismatchError)
    assert (caught.value.subject, caught.value.version, caught.value.schema_id) == ("orders-value", 3, 7)
    assert caught.value.problems[0].pointer == "/id"
    assert caught.value.http_status == 422


def test_data_of_another_content_type_does_not_fit_a_json_schema():
    schemas = SubjectSchemas()
    schemas.replace({"orders-value": (1, 1, INTEGER)})
    with pytest.raises(SchemaMismatchError, match="text/plain"):
        schemas.check("orders", "text/plain", b'{"id": 1}')
    schemas.check("orders", "application/vnd.order+json", b'{"id": 1}')


def test_a_policy_may_name_the_subject_or_switch_the_check_off():
    schemas = SubjectSchemas(lambda topic: SubjectPolicy("order", "none" if topic == "raw" else "registered"))
    schemas.check("orders.eu", None, b"{")
    schemas.replace({"order": (1, 1, INTEGER)})
    schemas.check("raw", None, b"{")
    with pytest.raises(SchemaMismatchError):
        schemas.check("orders.eu", None, b"{")


def test_a_policy_that_demands_a_schema_fails_closed_while_it_is_unknown():
    schemas = SubjectSchemas(lambda _topic: SubjectPolicy("order", "schema"))
    with pytest.raises(UnavailableError, match="subject order") as caught:
        schemas.check("orders.eu", None, b"{}")
    assert caught.value.retryable
    schemas.replace({"order": (1, 1, INTEGER)})
    with pytest.raises(SchemaMismatchError):
        schemas.check("orders.eu", None, b'{"id": "x"}')


def test_a_push_replaces_everything():
    schemas = SubjectSchemas()
    schemas.replace({"orders-value": (1, 1, INTEGER)})
    schemas.replace({})
    schemas.check("orders", None, b'{"id": "x"}')


def test_what_the_registry_holds_can_be_pushed_as_it_is():
    registry = Registry(MemorySchemaStore())
    registry.register("orders-value", "JSON", "true")
    registry.register("orders-value", "JSON", INTEGER)
    schemas = SubjectSchemas()
    schemas.replace(registry.read().latest())
    with pytest.raises(EventMismatchError, match="version 2"):
        schemas.check("orders", None, b'{"id": "x"}')


@pytest.mark.parametrize("code", ["schema_registry", "invalid_schema", "schema_registry_contended", "schema_mismatch"])
def test_every_error_can_be_rebuilt_from_its_code(code):
    made = from_code(code, "detail", retry_after_ms=5)
    assert made.code == code
    assert "detail" in made.detail
    assert made.retry_after_ms == 5
    assert isinstance(made, RegistryError | SchemaMismatchError)
