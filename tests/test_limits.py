"""The table of limits is consistent, says why each limit is there, and travels."""

import msgspec
import pytest

from fedbus.limits import RELATIONS, Limits, broken_relations


def test_defaults_contradict_nowhere():
    assert broken_relations(Limits()) == []


@pytest.mark.parametrize(("smaller", "larger"), RELATIONS)
def test_every_relation_is_checked(smaller, larger):
    limits = msgspec.structs.replace(Limits(), **{smaller: getattr(Limits(), larger) + 1})
    assert any(f"{smaller} (" in broken and f"exceed {larger} (" in broken for broken in broken_relations(limits))


def test_every_limit_gives_its_reason_and_is_at_least_one():
    for field in msgspec.inspect.type_info(Limits).fields:
        assert isinstance(field.type, msgspec.inspect.Metadata), field.name
        assert field.type.extra_json_schema["description"].endswith("."), field.name
        assert field.type.type.ge == 1


def test_a_table_from_a_newer_version_can_be_read():
    encoded = msgspec.msgpack.encode({"event_bytes": 4096, "limit_of_next_year": 7})
    assert msgspec.msgpack.decode(encoded, type=Limits).event_bytes == 4096
