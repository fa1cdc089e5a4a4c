"""A store that an earlier version wrote goes on: ``store_2.sql`` is the dump of one, as schema 2 wrote it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from fedbus.control.load import LoadSample
from fedbus.storage.store import ResourceSlot, Store

DUMP = Path(__file__).parent / "store_2.sql"
MINUTE_NS = 60_000_000_000
DAY_NS = 1_700_000_000_000_000_000 // (1440 * MINUTE_NS) * (1440 * MINUTE_NS)
EVER = (0, 2**62)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "store.db"
    with closing(sqlite3.connect(file)) as raw:
        raw.executescript(DUMP.read_text())
    return file


@pytest.fixture
def store(path):
    with closing(Store(path, DAY_NS)) as opened:
        yield opened


def columns(opened):
    inspector = sa.inspect(opened.database._engine)
    return {
        table: [(column["name"], column["nullable"]) for column in inspector.get_columns(table)]
        for table in inspector.get_table_names()
    }


def test_its_tables_are_those_of_a_new_one(store, tmp_path):
    with closing(Store(tmp_path / "new.db", DAY_NS)) as new:
        assert columns(store) == columns(new)


def test_its_load_is_rolled_up_as_if_it_had_been_measured_now(store, tmp_path):
    with closing(Store(tmp_path / "new.db", DAY_NS)) as new:
        for region, slot_s in (("r", 60), ("coarse", 600)):
            samples = store.load_history.between(region, slot_s, *EVER)
            assert samples
            new.load_history.record(region, slot_s, samples)
            for length_s in (60, 300, 600, 3_600, 86_400):
                found = store.load_history.slots(region, length_s, *EVER)
                assert found == new.load_history.slots(region, length_s, *EVER)
    assert store.load_history.between("r", 60, *EVER)[0] == LoadSample(DAY_NS + 55 * MINUTE_NS, 115.0, 1150.0)


def test_its_resource_metrics_are_rolled_up(store):
    first, second = store.resource_metrics.between("instance/b1", 60, *EVER)
    assert first == ResourceSlot(
        scope="instance/b1", time_ns=DAY_NS, readings=3, cpu_share=pytest.approx(0.2),
        cpu_share_peak=pytest.approx(0.3), memory_bytes=2000.0, memory_bytes_peak=3000.0, received_bytes_per_s=5.0,
        sent_bytes_per_s=1.0,
    )  # fmt: skip
    (day,) = store.resource_metrics.between("instance/b1", 86_400, *EVER)
    assert (day.readings, day.memory_bytes, day.cpu_share_peak) == (7, 4000.0, second.cpu_share_peak)


def test_what_else_it_holds_is_read_as_before(store):
    assert store.forecasts.latest("r").model == "arima"
    assert [each.id for each in store.directives.unfinished("r")] == ["d1"]
    assert store.triggers.get("sale").expected_factor == 2.0
    assert store.slas.get(">").availability == 0.999
    assert store.memories.get("r").target == 2
    assert store.overrides.get("r").instances == 3


def test_it_is_migrated_once(path, store):
    identity = store.database.uuid
    store.close()
    with closing(Store(path, DAY_NS + 1)) as again:
        assert again.database.uuid == identity
        assert len(again.load_history.slots("r", 300, *EVER)) == 3
