"""What the control plane keeps: load, metrics, forecasts, directives, the log, and named documents."""

import pytest

from fedbus.broker.policies import TopicRule
from fedbus.control.directive import Directive
from fedbus.control.forecast.protocol import Forecast
from fedbus.control.load import LoadSample
from fedbus.control.sla import Sla
from fedbus.control.trigger import Trigger
from fedbus.errors import ConflictError, DamagedRecordError, NotFoundError
from fedbus.limits import Limits
from fedbus.storage.store import ResourceMetrics, Store

MINUTE_NS = 60_000_000_000


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "store.db", 0, Limits(store_log_rows=3, store_forecasts=2, store_directives=2))
    yield opened
    opened.close()


def a_forecast(made_at_ns, region="r"):
    return Forecast(
        region=region,
        made_at_ns=made_at_ns,
        start_ns=0,
        slot_s=60,
        model="seasonal",
        basis="model",
        point_eps=(1.0, 2.5),
        quantiles={0.5: (1.0, 2.0), 0.95: (3.0, 4.0)},
        normal_eps=(1.0, 1.0),
    )


def a_directive(number, ordered_at_ns=0):
    return Directive(
        id=f"d{number}",
        region="r",
        action="create",
        instance=None,
        size="small",
        cause="forecast",
        reason="load is coming",
        ordered_at_ns=ordered_at_ns,
        plan_generation=1,
    )


def test_two_weeks_of_history_are_kept_per_region_and_slot(store):
    minutes = 14 * 1440
    for region in ("a", "b", "c"):
        store.load_history.record(region, 60, [LoadSample(n * MINUTE_NS, float(n), 2.5 * n) for n in range(minutes)])
    store.load_history.record("a", 60, [LoadSample(0, 99.0, 1.0)])
    found = store.load_history.between("a", 60, 0, 2 * MINUTE_NS)
    assert found == [LoadSample(0, 99.0, 1.0), LoadSample(MINUTE_NS, 1.0, 2.5)]
    assert len(store.load_history.between("b", 60, 0, minutes * MINUTE_NS)) == minutes
    assert store.load_history.between("b", 300, 0, minutes * MINUTE_NS) == []
    assert store.load_history.drop_before((minutes - 1) * MINUTE_NS) == 3 * (minutes - 1)
    assert len(store.load_history.between("c", 60, 0, minutes * MINUTE_NS)) == 1


def test_recording_nothing_is_allowed(store):
    store.load_history.record("a", 60, [])
    store.resource_metrics.record([])


def test_resource_metrics_are_kept_until_they_are_dropped(store):
    readings = [ResourceMetrics(scope="node/n1", time_ns=n, cpu_share=0.5, memory_bytes=n) for n in range(5)]
    store.resource_metrics.record(readings)
    assert store.resource_metrics.between("node/n1", 1, 3) == readings[1:3]
    assert store.resource_metrics.drop_before(4) == 4


def test_the_newest_forecasts_are_kept_as_they_were(store):
    for made_at_ns in (1, 2, 3):
        store.forecasts.record(a_forecast(made_at_ns))
    store.forecasts.record(a_forecast(1, region="other"))
    assert store.forecasts.latest("r") == a_forecast(3)
    assert [forecast.made_at_ns for forecast in store.forecasts.recent("r", 10)] == [3, 2]
    assert store.forecasts.latest("other") == a_forecast(1, region="other")
    assert store.forecasts.latest("nowhere") is None


def test_an_unfinished_directive_survives_until_it_is_settled(store):
    store.directives.order([a_directive(1), a_directive(2, 5)])
    assert store.directives.step("d1", "start", 7).status == "applying"
    assert [each.id for each in store.directives.unfinished("r")] == ["d1", "d2"]
    assert store.directives.step("d1", "finish", 9, "b1 serves").outcome == "b1 serves"
    assert [each.id for each in store.directives.unfinished("r")] == ["d2"]
    with pytest.raises(ConflictError, match="illegal"):
        store.directives.step("d1", "start", 10)
    with pytest.raises(NotFoundError):
        store.directives.step("d9", "start", 10)


def test_directives_are_ordered_all_or_none(store):
    store.directives.order([a_directive(1)])
    with pytest.raises(ConflictError):
        store.directives.order([a_directive(2), a_directive(1)])
    assert [each.id for each in store.directives.recent("r", 10)] == ["d1"]


def test_only_old_finished_directives_are_forgotten(store):
    store.directives.order([a_directive(0)])
    for number in range(1, 6):
        store.directives.order([a_directive(number, number)])
        store.directives.step(f"d{number}", "fail", number)
    store.directives.order([a_directive(6, 6)])
    assert [each.id for each in store.directives.recent("r", 10)] == ["d6", "d5", "d4", "d0"]


def test_the_log_keeps_the_newest_entries(store):
    for number in range(1, 6):
        store.status_log.append("r", "decision" if number % 2 else "health", f"entry {number}", number, {"n": number})
    assert [entry.message for entry in store.status_log.recent(10)] == ["entry 5", "entry 4", "entry 3"]
    assert [entry.detail for entry in store.status_log.recent(10, kind="decision")] == [{"n": 5}, {"n": 3}]
    assert store.status_log.recent(10, region="elsewhere") == []


def test_documents_change_by_version(store):
    first = store.slas.put("orders.>", Sla("orders.>", 100), 1)
    assert store.slas.put("orders.>", Sla("orders.>", 200), 2, expected_version=first.version).version == 2
    with pytest.raises(ConflictError, match="at version 2, not 1"):
        store.slas.put("orders.>", Sla("orders.>", 300), 3, expected_version=1)
    assert store.slas.get("orders.>").max_latency_ms == 200
    store.slas.delete("orders.>")
    with pytest.raises(NotFoundError):
        store.slas.get("orders.>")


def test_the_file_adds_what_is_missing_and_changes_nothing(store):
    store.slas.put("a", Sla("a", 100), 1)
    store.slas.add_missing({"a": Sla("a", 900), "b": Sla("b", 900)}, 2)
    assert {document.name: document.body.max_latency_ms for document in store.slas.all()} == {"a": 100, "b": 900}


def test_kinds_of_documents_do_not_mix(store):
    store.triggers.put("a", Trigger(id="a", start_ns=0, end_ns=1), 1)
    store.topics.put("a", TopicRule(filter="a"), 1)
    assert store.slas.all() == []
    assert store.triggers.get("a").end_ns == 1
    assert store.topics.get("a") == TopicRule(filter="a")


def test_versions_of_the_topic_policies_only_grow(tmp_path):
    given = []
    for _ in range(3):
        opened = Store(tmp_path / "versions.db", 1)
        given += [opened.topics.next_version(), opened.topics.next_version()]
        opened.close()
    assert given == sorted(set(given))


def test_a_document_that_cannot_be_read_is_reported(store):
    store.topics.put("x", TopicRule(filter="x"), 1)
    with store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE documents SET kind = 'sla', body = '{}'")
    with pytest.raises(DamagedRecordError, match="sla x cannot be read"):
        store.slas.all()
