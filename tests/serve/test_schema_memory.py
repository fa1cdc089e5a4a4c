"""What a gateway remembers of schemas across its restarts."""

from fedbus.schema.state import SubjectVersion
from fedbus_serve.schema_memory import FILE, SchemaMemory

NEWEST = {"a-value": SubjectVersion("a-value", 2, 7, '{"type": "object"}')}


def test_what_was_kept_is_recalled_by_the_next_one(tmp_path):
    SchemaMemory(tmp_path).keep(NEWEST)
    assert SchemaMemory(tmp_path).recall() == {"a-value": (2, 7, '{"type": "object"}')}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_schema_that_is_gone_is_forgotten(tmp_path):
    memory = SchemaMemory(tmp_path)
    memory.keep(NEWEST)
    memory.keep({})
    assert SchemaMemory(tmp_path).recall() == {}


def test_the_file_is_written_only_when_something_changed(tmp_path):
    memory = SchemaMemory(tmp_path)
    memory.keep(NEWEST)
    (tmp_path / FILE).unlink()
    memory.keep(dict(NEWEST))
    assert list(tmp_path.iterdir()) == []


def test_without_the_regions_directory_or_with_a_broken_file_nothing_is_remembered(tmp_path):
    memory = SchemaMemory(tmp_path / "elsewhere")
    memory.keep(NEWEST)
    assert (memory.recall(), list(tmp_path.iterdir())) == ({}, [])
    (tmp_path / FILE).write_text('{"a-value": 5}')
    assert SchemaMemory(tmp_path).recall() == {}
