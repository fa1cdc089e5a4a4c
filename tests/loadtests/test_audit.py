"""The audit tells lost events from late, doubtful and doubled ones."""

from hypothesis import given
from hypothesis import strategies as st

from fedbus_loadtests.demo.audit import Audit, percentiles

MS = 1_000_000
Step = st.tuples(st.sampled_from(["ack", "fail", "deliver"]), st.integers(0, 19))


@given(st.lists(Step))
def test_the_accounts_add_up_whatever_happens(steps):
    audit = Audit(["a", "b"])
    acknowledged, delivered, deliveries, failed = set(), set(), 0, set()
    for event in range(20):
        audit.sent(event, "ab"[event % 2], 0)
    for kind, event in steps:
        if kind == "ack" and event not in acknowledged | failed:
            acknowledged.add(event)
            audit.acked(event, "region", 1)
        elif kind == "fail" and event not in acknowledged | failed:
            failed.add(event)
            audit.failed(event)
        elif kind == "deliver":
            delivered.add(event)
            deliveries += 1
            audit.delivered("ab"[event % 2], event, 2)
    counts = audit.groups()
    assert audit.missing == sum(group.lost for group in counts.values()) == len(acknowledged - delivered)
    assert audit.duplicates == deliveries - len(delivered)
    assert audit.acknowledged == len(acknowledged)
    assert audit.refused == len(failed)
    assert audit.published == 20


def test_an_event_whose_fate_is_unknown_is_not_lost_and_may_arrive():
    audit = Audit(["a"])
    audit.sent(1, "a", 0)
    audit.failed(1)
    assert audit.missing == 0
    audit.delivered("a", 1, 5)
    assert audit.groups()["a"].delivered == 0
    assert audit.delivered_total == 1


def test_an_event_may_arrive_before_its_publisher_knows():
    audit = Audit(["a"])
    audit.sent(1, "a", 0)
    audit.delivered("a", 1, 3 * MS)
    audit.acked(1, "r", 5 * MS)
    assert audit.missing == 0
    assert audit.delivery_latency().p50_ms == 3
    assert audit.publish_latency().p50_ms == 5


def test_the_longest_wait_is_that_of_the_region_and_the_time_asked_for():
    audit = Audit(["a"])
    for event, (site, sent_ms, acked_ms) in enumerate(
        [("x", 0, 900), ("x", 100, 160), ("y", 100, 800), ("x", 130, 140)]
    ):
        audit.sent(event, "a", sent_ms * MS)
        audit.acked(event, site, acked_ms * MS)
    assert audit.longest_wait_ms("x", 50 * MS, 200 * MS) == 60
    assert audit.first_ack_after_ms("x", 90 * MS) == 50
    assert audit.longest_wait_ms("z", 0, 1000 * MS) is None
    assert audit.first_ack_after_ms("x", 1000 * MS) is None


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_percentiles_are_values_in_order(values):
    found = percentiles(values)
    assert found.p50_ms <= found.p99_ms <= found.worst_ms
    assert found.worst_ms == round(max(values), 2)


def test_nothing_has_no_percentiles():
    assert percentiles([]) is None
