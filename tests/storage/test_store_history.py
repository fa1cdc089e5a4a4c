"""What the control plane keeps: load, metrics, forecasts, directives, the log, and named documents."""

from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.broker.policies import TopicRule
from fedbus.control.directive import Directive
from fedbus.control.forecast.protocol import Forecast
from fedbus.control.load import LoadSample
from fedbus.control.sla import Sla
from fedbus.control.trigger import Trigger
from fedbus.errors import ConflictError, DamagedRecordError, NotFoundError
from fedbus.limits import Limits
from fedbus.storage.store import CapacityStep, ResourceMetrics, ResourceSlot, Store
from fedbus.storage.store.roll_up import ROLL_UPS_S, coarser

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS


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
    assert [len(store.load_history.slots("b", slot_s, 0, minutes * MINUTE_NS)) for slot_s in ROLL_UPS_S] == [
        minutes // 5, minutes // 60, 14,
    ]  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 3 * 1440), st.integers(0, 1000)), min_size=1, max_size=30),
    st.sampled_from([10, 60, 300, 600, 1200]),
)
@settings(max_examples=30, deadline=None)
def test_a_coarser_slot_adds_up_what_was_measured_of_it_in_whatever_order_it_came(written, slot_s):
    slot_ns = slot_s * SECOND_NS
    with closing(Store("sqlite://", 0)) as store:
        for number, events in written:
            store.load_history.record("r", slot_s, [LoadSample(number * slot_ns, float(events), 3.0 * events)])
        measured = dict(written)
        for coarse_s in coarser(slot_s):
            parts = {}
            for number, events in measured.items():
                parts.setdefault(number * slot_s // coarse_s, []).append(events)
            found = store.load_history.slots("r", coarse_s, 0, 2**62)
            assert [each.time_ns for each in found] == [start * coarse_s * SECOND_NS for start in sorted(parts)]
            for each, start in zip(found, sorted(parts), strict=True):
                assert (each.events, each.bytes) == (sum(parts[start]), 3.0 * sum(parts[start]))
                assert each.measured_s == slot_s * len(parts[start])
                assert each.peak_eps == pytest.approx(max(parts[start]) / slot_s)
                assert each.peak_event_bytes == (3.0 if any(parts[start]) else 0.0)


def test_events_have_a_mean_size_where_there_were_any(store):
    store.load_history.record("r", 60, [LoadSample(0, 60.0, 6000.0), LoadSample(MINUTE_NS, 0.0, 0.0)])
    full, empty = store.load_history.slots("r", 60, 0, 2 * MINUTE_NS)
    assert (full.rate_eps, full.event_bytes, empty.event_bytes) == (1.0, 100.0, None)
    (both,) = store.load_history.slots("r", 300, 0, MINUTE_NS)
    assert (both.measured_s, both.rate_eps, both.event_bytes) == (120, 0.5, 100.0)


def test_each_resolution_is_kept_for_as_long_as_was_asked(store):
    day = 1440
    store.load_history.record("r", 60, [LoadSample(n * MINUTE_NS, 1.0) for n in range(4 * day)])
    kept_ns = {60: day * MINUTE_NS, 300: 2 * day * MINUTE_NS, 3_600: 3 * day * MINUTE_NS}
    now_ns = (4 * day + 7) * MINUTE_NS
    assert store.load_history.retain(now_ns, kept_ns) == 3 * day + 5 + 2 * day // 5 + day // 60
    assert store.load_history.retain(now_ns, kept_ns) == 0
    oldest = {s: store.load_history.slots("r", s, 0, now_ns)[0].time_ns for s in (60, *ROLL_UPS_S)}
    # Five minutes that are still looked at are made of all their minutes.
    assert oldest == {60: (3 * day + 5) * MINUTE_NS, 300: 2 * day * MINUTE_NS, 3_600: day * MINUTE_NS, 86_400: 0}
    (first, *_) = store.load_history.slots("r", 86_400, 0, now_ns)
    assert first.events == day


def test_recording_nothing_is_allowed(store):
    store.load_history.record("a", 60, [])
    store.resource_metrics.record(60, [])


def reading(cpu_share, memory_bytes, scope="instance/b1"):
    return ResourceMetrics(
        scope=scope, time_ns=0, cpu_share=cpu_share, memory_bytes=memory_bytes, received_bytes_per_s=10 * cpu_share
    )


def test_resource_metrics_are_rolled_up_by_their_readings(store):
    first = ResourceSlot.of(0, [reading(0.2, 100), reading(0.4, 300)])
    second = ResourceSlot.of(MINUTE_NS, [reading(0.9, 200)])
    other = ResourceSlot.of(0, [reading(0.1, 50, "region/r")])
    assert (first.readings, first.cpu_share_peak, first.memory_bytes) == (2, 0.4, 200.0)
    assert first.cpu_share == pytest.approx(0.3)
    store.resource_metrics.record(60, [first, other, second])
    assert store.resource_metrics.between("instance/b1", 60, 0, 2 * MINUTE_NS) == [first, second]
    (five,) = store.resource_metrics.between("instance/b1", 300, 0, 1)
    assert (five.readings, five.cpu_share_peak, five.memory_bytes_peak) == (3, 0.9, 300.0)
    assert (five.cpu_share, five.received_bytes_per_s) == (pytest.approx(0.5), pytest.approx(5.0))
    assert store.resource_metrics.between("region/r", 86_400, 0, 1) == [other]
    assert store.resource_metrics.retain(10 * MINUTE_NS, {60: 0}) == 3


def test_capacity_in_service_is_known_for_any_time_it_was_recorded(store):
    for minute, instances in ((0, 1), (10, 2), (20, 1)):
        store.capacity_steps.record("r", CapacityStep(minute * MINUTE_NS, 100.0 * instances, instances))
    store.capacity_steps.record("other", CapacityStep(5 * MINUTE_NS, 7.0, 7))
    found = store.capacity_steps.between("r", 12 * MINUTE_NS, 30 * MINUTE_NS)
    assert [(step.time_ns // MINUTE_NS, step.instances) for step in found] == [(10, 2), (20, 1)]
    assert store.capacity_steps.between("r", 0, MINUTE_NS) == [CapacityStep(0, 100.0, 1)]
    assert store.capacity_steps.between("nowhere", 0, MINUTE_NS) == []
    assert store.capacity_steps.drop_before(10 * MINUTE_NS) == 2


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
