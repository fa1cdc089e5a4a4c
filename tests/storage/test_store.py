"""The metadata store on a real file: compare-and-swap, crashes, versions, and one manager at a time."""

import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import sqlalchemy as sa

from fedbus.broker.group_spec import GroupRecord, GroupSpec
from fedbus.broker.protocol import GroupOptions, Start
from fedbus.errors import ConflictError, DamagedRecordError, EnvironmentUnusableError, NotFoundError, StorageError
from fedbus.ledger_record import Fragment, LedgerRecord, Member
from fedbus.schema.registry import Registry
from fedbus.schema.store import SchemaStore
from fedbus.storage.store import Group, Instance, Store
from fedbus.storage.store.database import metadata

NOW_NS = 1_700_000_000_000_000_000
PORTS = (24000, 24003)

RAISE_EPOCH = """
import sys
from pathlib import Path
import msgspec
from fedbus.errors import ConflictError
from fedbus.storage.store import Store
store = Store(Path(sys.argv[1]), 0)
won = 0
while won < int(sys.argv[2]):
    record = store.instances.get("b1")
    try:
        store.instances.swap(msgspec.structs.replace(record, epoch=record.epoch + 1))
        won += 1
    except ConflictError:
        pass
"""

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from fedbus.storage.store import Store
store = Store(Path(sys.argv[1]), 0)
while True:
    print(store.status_log.append("r", "decision", "text", 0).number, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def store(path):
    opened = Store(path, NOW_NS)
    yield opened
    opened.close()


def changed(record, **values):
    return type(record)(**{name: getattr(record, name) for name in record.__struct_fields__} | values)


def test_what_was_written_is_there_after_reopening(path, store):
    instance = store.instances.create("onprem.berlin", "small", PORTS, NOW_NS)
    identity = store.database.uuid
    store.close()
    again = Store(path, NOW_NS + 1)
    assert again.instances.get("b1") == instance
    assert (again.database.uuid, again.database.term) == (identity, 1)
    assert again.database.raise_term() == 2
    again.close()


def test_every_commit_is_on_disk_before_it_returns(store):
    with store.database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_an_unknown_schema_version_is_refused(path, store):
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE store_meta SET schema_version = 99")
    raw.close()
    with pytest.raises(EnvironmentUnusableError, match="store schema 99 is unknown"):
        Store(path, NOW_NS)


def test_a_database_of_others_is_refused(path):
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    with pytest.raises(EnvironmentUnusableError, match="not a store of fedbus"):
        Store(path, NOW_NS)


def test_a_damaged_file_is_reported_as_such(path):
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(DamagedRecordError, match="damaged"):
        Store(path, NOW_NS)


def test_a_place_that_cannot_be_opened_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="unable to open"):
        Store(tmp_path / "missing" / "store.db", NOW_NS)


def test_the_second_of_two_changes_to_one_record_loses(path, store):
    store.instances.create("onprem.berlin", "small", PORTS, NOW_NS)
    other = Store(path, NOW_NS)
    mine, theirs = store.instances.get("b1"), other.instances.get("b1")
    assert store.instances.swap(changed(mine, state="serving")).version == 2
    with pytest.raises(ConflictError, match="at version 2, not 1"):
        other.instances.swap(changed(theirs, state="draining"))
    assert other.instances.get("b1").state == "serving"
    other.close()


def test_changing_or_reading_what_is_not_there_is_refused(store):
    ghost = Instance(id="b9", region="r", size="s", state="lost", port=1, created_ns=0, updated_ns=0)
    with pytest.raises(NotFoundError):
        store.instances.swap(ghost)
    with pytest.raises(NotFoundError):
        store.instances.get("b9")


def test_processes_that_race_lose_no_change(path, store):
    store.instances.create("onprem.berlin", "small", PORTS, NOW_NS)
    racers = [subprocess.Popen([sys.executable, "-c", RAISE_EPOCH, str(path), "25"]) for _ in range(2)]
    assert [racer.wait(timeout=60) for racer in racers] == [0, 0]
    assert (store.instances.get("b1").epoch, store.instances.get("b1").version) == (50, 51)


def test_threads_get_ids_and_ports_of_their_own(store):
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: store.instances.create("r", "small", PORTS, NOW_NS), range(4)))
    assert sorted(instance.id for instance in made) == ["b1", "b2", "b3", "b4"]
    assert sorted(instance.port for instance in made) == [24000, 24001, 24002, 24003]
    with pytest.raises(EnvironmentUnusableError, match="all ports 24000-24003 are given out"):
        store.instances.create("r", "small", PORTS, NOW_NS)


def test_a_stopped_instance_gives_its_port_back_but_never_its_id(store):
    first = store.instances.create("r", "small", PORTS, NOW_NS)
    store.instances.swap(changed(first, state="stopped"))
    second = store.instances.create("r", "small", PORTS, NOW_NS)
    assert (second.id, second.port) == ("b2", first.port)
    assert store.instances.living("r") == [second]


def test_what_a_killed_writer_was_told_is_stored_is_stored(path, store):
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE) as writer:
        while int(writer.stdout.readline()) < 20:
            pass
        writer.send_signal(signal.SIGKILL)
        told = [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    newest = store.status_log.recent(1)[0].number
    assert newest >= max(told, default=20)
    assert store.status_log.append("r", "decision", "after", NOW_NS).number == newest + 1


def test_an_older_manager_can_no_longer_write(path, store):
    assert store.lease.take("r", "first", NOW_NS) == 1
    store.status_log.append("r", "decision", "acts", NOW_NS)
    successor = Store(path, NOW_NS)
    assert successor.lease.take("r", "second", NOW_NS) == 2
    with pytest.raises(ConflictError, match="manager epoch 1 is over, 2 acts now"):
        store.status_log.append("r", "decision", "stale", NOW_NS)
    successor.status_log.append("r", "decision", "acts", NOW_NS)
    assert [entry.message for entry in store.status_log.recent(10)] == ["acts", "acts"]
    assert store.lease.current("r").holder == "second"
    successor.close()


def a_ledger(epoch=1):
    me = Member("r/b1", "d1")
    return LedgerRecord(
        id=f"r/b1/{epoch}", writer=me, fragments=(Fragment(0, (me,)),), dispatcher="r/b1", created_ns=NOW_NS
    )


def test_a_fenced_ledger_takes_no_ensemble_change(store):
    replace = msgspec.structs.replace
    ledger = store.ledgers.add(a_ledger())
    other = Fragment(7, (Member("r/b1", "d1"), Member("r/b2", "d2")))
    (moved,) = store.ledgers.swap(replace(ledger, fragments=(*ledger.fragments, other)))
    assert moved.version == ledger.version + 1
    (fenced,) = store.ledgers.swap(replace(moved, state="RECOVERING", term=1))
    with pytest.raises(ConflictError, match="at term 1"):
        store.ledgers.swap(replace(moved, state="RECOVERING"))
    with pytest.raises(ConflictError, match="RECOVERING and cannot become OPEN"):
        store.ledgers.swap(replace(fenced, state="OPEN"))
    (closed,) = store.ledgers.swap(replace(fenced, state="CLOSED", end_number=9, end_offset=8))
    assert store.ledgers.get("r/b1/1") == closed
    (elsewhere,) = store.ledgers.swap(replace(closed, dispatcher="r/b2"))
    assert store.ledgers.all() == [elsewhere]
    with pytest.raises(ConflictError, match="is CLOSED"):
        store.ledgers.swap(replace(elsewhere, state="RECOVERING"))


def test_several_ledgers_change_together_or_not_at_all(store):
    first, second = store.ledgers.add(a_ledger(1)), store.ledgers.add(a_ledger(2))
    closing = [msgspec.structs.replace(each, state="CLOSED", end_number=0, end_offset=0) for each in (first, second)]
    with pytest.raises(ConflictError, match="version"):
        store.ledgers.swap(closing[0], msgspec.structs.replace(closing[1], version=7))
    assert store.ledgers.all() == [first, second]
    assert [each.state for each in store.ledgers.swap(*closing)] == ["CLOSED", "CLOSED"]


def test_only_a_ledger_that_is_over_can_be_forgotten(store):
    ledger = store.ledgers.add(a_ledger())
    with pytest.raises(ConflictError):
        store.ledgers.delete(ledger)
    (closed,) = store.ledgers.swap(msgspec.structs.replace(ledger, state="CLOSED", end_number=0, end_offset=0))
    (expired,) = store.ledgers.swap(msgspec.structs.replace(closed, state="EXPIRED"))
    with pytest.raises(ConflictError):
        store.ledgers.delete(closed)
    store.ledgers.delete(expired)
    assert store.ledgers.all() == []


def test_a_ledger_id_is_used_once(store):
    store.ledgers.add(a_ledger())
    with pytest.raises(ConflictError, match="exists already"):
        store.ledgers.add(a_ledger())


def test_the_records_of_a_store_that_replaces_a_lost_one_are_newer_than_all_before(store):
    before = store.ledgers.add(a_ledger(1))
    for _ in range(3):
        (before,) = store.ledgers.swap(before)
    store.database.raise_term()
    assert store.ledgers.add(a_ledger(2)).version > before.version + 1_000_000


def test_a_link_changes_hands_under_a_new_term(store):
    first = store.link_assignments.assign("r2/b1/1", "b1", NOW_NS)
    second = store.link_assignments.assign("r2/b1/1", "b2", NOW_NS, before=first)
    assert (second.term, store.link_assignments.find("r2/b1/1")) == (2, second)
    with pytest.raises(ConflictError):
        store.link_assignments.assign("r2/b1/1", "b3", NOW_NS, before=first)
    with pytest.raises(ConflictError):
        store.link_assignments.assign("r2/b1/1", "b3", NOW_NS)
    assert store.link_assignments.find("r2/b9/1") is None


def group(name, *, deleted=False, created_ns=NOW_NS):
    spec = GroupSpec(name, ["a", "b"], Start("latest"), GroupOptions(paused=True), {"r/b1/0": 7}, created_ns=created_ns)
    return Group(name=name, definition=GroupRecord(spec, deleted), home_region="r")


def test_a_groups_definition_comes_back_as_it_was(store):
    store.groups.add(group("billing"))
    assert store.groups.get("billing") == group("billing")
    with pytest.raises(ConflictError):
        store.groups.add(group("billing"))
    swapped = store.groups.swap(group("billing", deleted=True))
    assert swapped.version == 2
    with pytest.raises(ConflictError):
        store.groups.swap(group("billing"))


def test_of_many_groups_all_are_changed_or_none(store):
    for name in ("a", "b"):
        store.groups.add(group(name))
    swapped = store.groups.swap_all([group("a"), group("b", deleted=True)])
    assert [each.version for each in swapped] == [2, 2]
    with pytest.raises(ConflictError):
        store.groups.swap_all([swapped[0], group("b")])
    assert [each.version for each in store.groups.all()] == [2, 2]


def test_of_deleted_groups_the_newest_are_kept(store):
    for number in range(4):
        store.groups.add(group(f"g{number}", deleted=number != 1, created_ns=NOW_NS + number))
    store.groups.forget_deleted(1)
    assert [each.name for each in store.groups.all()] == ["g1", "g3"]


def test_the_schema_registry_finds_its_schemas_again(path, store):
    schemas: SchemaStore = store.schemas
    registered = Registry(schemas).register("orders-value", "JSON", '{"type": "object"}')
    other = Store(path, NOW_NS)
    again = Registry(other.schemas)
    assert again.register("orders-value", "JSON", '{ "type": "object" }').version.id == registered.version.id
    assert again.register("other", "JSON", "true").version.id != registered.version.id
    assert Registry(store.schemas).read() is not None
    assert store.schemas.revision() == other.schemas.revision() > 0
    assert len(store.schemas.load(0).schemas) == 2
    other.close()


def test_a_lost_race_between_registries_changes_nothing(store):
    Registry(store.schemas).register("s", "JSON", "true")
    before = store.schemas.load(0)
    assert store.schemas.commit(before.revision - 1, type("Empty", (), {"schemas": ()})()) is False
    assert store.schemas.load(0) == before


def test_statements_are_not_bound_to_one_database():
    for table in metadata.sorted_tables:
        ddl = str(sa.schema.CreateTable(table).compile(dialect=sa.dialects.postgresql.dialect()))
        assert ddl.strip().startswith("CREATE TABLE")


def test_a_full_disk_refuses_the_write_and_keeps_the_rest(store):
    store.status_log.append("r", "decision", "before", NOW_NS)
    with store.database.writing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite's own "disk full"
    with pytest.raises(StorageError, match="full"):
        store.status_log.append("r", "decision", "x" * 1_000_000, NOW_NS)
    assert [entry.message for entry in store.status_log.recent(10)] == ["before"]
