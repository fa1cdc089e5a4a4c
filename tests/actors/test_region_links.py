"""The links of a region as its manager keeps them: assigned in the store, told to instances, passed on, forgotten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fedbus.broker.policies import TopicRule
from fedbus.broker.protocol import LinkFilter
from fedbus.clock import NS_PER_S, ManualClock
from fedbus.control.links import ORDER_WAIT_NS, Interest
from fedbus.control.summary import LedgerSummary, LinkLag, RegionSummary
from fedbus.ledger_record import Fragment, Held, LedgerRecord, Member
from fedbus.storage.store import Store
from fedbus_actors.region_links import RegionLinks

NOW_NS = 1_772_452_800_000_000_000
FIRST, SECOND = "there/b1/0", "there/b1/1"
WANTED = Interest(durable=frozenset({"a.>"}))


class Instance:
    """An instance as its manager has it; ``links`` and ``admitted``: what it was told last."""

    def __init__(self, name: str) -> None:
        self.record = SimpleNamespace(id=name, state="serving")
        self.name = f"here/{name}"
        self.handle = self
        self.links: list[Any] = []
        self.gone: list[str] = []
        self.admitted: list[dict[str, str]] = []
        self.started_ns = 1
        self.scanned: dict[str, dict[str, int]] = {}
        self.held: list[Held] = []
        self.topics: dict[str, dict[str, int]] = {}
        self.apply_links = SimpleNamespace(remote=self._apply)
        self.apply_peers = SimpleNamespace(remote=self.admitted.append)

    def _apply(self, links: list[Any], gone: list[str]) -> None:
        self.links, self.gone = links, gone

    @property
    def report(self) -> Any:
        status = SimpleNamespace(
            ledger=f"here/x/{self.started_ns}", links=self.scanned, held=self.held, link_topics=self.topics
        )
        return SimpleNamespace(status=status, started_ns=self.started_ns, directory_uuid="disk")


@pytest.fixture
def region(tmp_path):
    made = SimpleNamespace(store=Store(tmp_path / "store.db", NOW_NS), clock=ManualClock(NOW_NS))
    made.fleet = SimpleNamespace(members={name: Instance(name) for name in ("b1", "b2")})
    made.links = RegionLinks("here", made.store, made.clock, made.clock)
    made.at_ns = 0

    def step(*ledgers, interest=WANTED, rules=(), keys=None, records=()):
        made.at_ns += 1
        peer = RegionSummary(
            "there", 1, made.at_ns, 0.0, 0.0, 0.0, 0.0, 0.0, [], list(ledgers), link_key="key"
        )  # fmt: skip
        made.links.step(made.fleet, {"there": peer}, records, interest, rules, keys or {})

    made.step = step
    yield made
    made.store.close()


def ledger(name: str, end: int = 10, *, is_open: bool = True) -> LedgerSummary:
    return LedgerSummary(name, end, "tcp://there:1", is_open)


def told(region) -> dict[str, list[str]]:
    return {name: [link.ledger for link in member.links] for name, member in region.fleet.members.items()}


def test_a_ledger_has_one_receiver_which_the_store_remembers(region):
    region.step(ledger(FIRST))
    assert told(region) == {"b1": [FIRST], "b2": []}
    assert region.fleet.members["b1"].links[0].key == "key"
    assert region.store.link_assignments.get(FIRST).receiver == "b1"
    again = RegionLinks("here", region.store, region.clock, region.clock)
    again.step(region.fleet, {}, [], WANTED, (), {})
    assert region.store.link_assignments.get(FIRST).term == 1


def test_the_next_ledger_follows_to_the_same_receiver_when_the_first_is_through(region):
    region.step(ledger(FIRST, is_open=False), ledger(SECOND))
    assert told(region)["b1"] == [FIRST]
    region.fleet.members["b1"].scanned = {FIRST: {"a.>": 10}}
    region.step(ledger(FIRST, is_open=False), ledger(SECOND))
    assert told(region) == {"b1": [SECOND], "b2": []}


def test_who_takes_over_the_dispatch_receives_on_and_if_all_is_lost_another_begins_anew(region):
    region.step(ledger(FIRST))
    with region.store.database.writing() as connection:
        region.store.link_assignments.pass_on(connection, "b1", "b2", NOW_NS)
    del region.fleet.members["b1"]
    region.step(ledger(FIRST))
    assert told(region) == {"b2": [FIRST]}
    assert region.store.link_assignments.get(FIRST).term == 2
    region.fleet.members = {"b3": Instance("b3")}
    region.step(ledger(FIRST))
    assert told(region) == {"b3": [FIRST]}
    assert region.store.link_assignments.get(FIRST).term == 3


@pytest.mark.parametrize("state", ["OPEN", "RECOVERING", "CLOSED"])
def test_who_does_not_serve_what_it_dispatched_before_does_not_begin_to_pull(region, state):
    region.step(ledger(FIRST))
    b1 = region.fleet.members["b1"]
    b1.links, b1.started_ns = [], 2
    before = LedgerRecord(
        id="here/b1/0", writer=(here := Member("here/b1", "disk")), fragments=(Fragment(0, (here,)),),
        dispatcher="here/b1", dispatcher_uuid="disk", state=state,
    )  # fmt: skip
    on_disk = Held(ledger=before.id, version=1, term=0, first_number=0, end_number=9, end_offset=9, confirmed=9)
    for held in ([], [on_disk]):
        b1.held = held
        region.step(ledger(FIRST), records=[before])
        assert told(region) == {"b1": [], "b2": []}, "it would pull anew what is in there"
    b1.held = [msgspec.structs.replace(on_disk, serving=True)]
    b1.scanned = {FIRST: {"a.>": 7}}
    region.step(ledger(FIRST), records=[before])
    assert told(region) == {"b1": [FIRST], "b2": []}


def test_links_do_not_wait_for_ever_for_a_ledger_that_is_not_served_nor_for_one_on_another_disk(region):
    here = Member("here/b1", "former disk")
    lost = LedgerRecord(id="here/b1/0", writer=here, fragments=(Fragment(0, (here,)),), dispatcher="here/b1")
    region.step(ledger(FIRST), records=[msgspec.structs.replace(lost, dispatcher_uuid="former disk")])
    assert told(region)["b1"] == [FIRST]
    region.fleet.members["b1"].links = []
    region.fleet.members["b1"].started_ns = 2
    region.step(ledger(FIRST), records=[lost])
    assert told(region)["b1"] == []
    region.clock.advance(ORDER_WAIT_NS / NS_PER_S + 1)
    region.step(ledger(FIRST), records=[lost])
    assert told(region)["b1"] == [FIRST]


def test_a_new_incarnation_is_told_again_and_policies_count_as_interest(region):
    rules = [TopicRule(filter="all.>", forward="all")]
    region.step(ledger(FIRST), interest=Interest(), rules=rules, keys={"there": "k"})
    b1 = region.fleet.members["b1"]
    assert [link.wants for link in b1.links] == [[LinkFilter("all.>", 0)]]
    b1.links, b1.started_ns = [], 2
    region.step(ledger(FIRST), interest=Interest(), rules=rules, keys={"there": "k"})
    assert len(b1.links) == 1
    assert b1.admitted == [{"there": "k"}, {"there": "k"}]
    region.step(ledger(FIRST), interest=Interest(), rules=rules, keys={})
    assert b1.admitted[-1] == {}, "a region that left is let in no more"


def test_what_has_expired_at_its_origin_is_forgotten(region):
    region.step(ledger(FIRST, is_open=False), ledger(SECOND))
    b1 = region.fleet.members["b1"]
    b1.scanned = {FIRST: {"a.>": 10}, SECOND: {"a.>": 3}}
    region.step(ledger(SECOND))
    assert b1.gone == [FIRST]
    assert region.store.link_assignments.find(FIRST) is None
    region.step()
    assert region.store.link_assignments.find(SECOND) is not None, "a region that says nothing has not dropped anything"


def test_lag_is_measured_by_origin_region(region):
    b1 = region.fleet.members["b1"]
    b1.topics = {"there": {"a.x": 4}}
    region.step(ledger(FIRST, 10))
    b1.scanned = {FIRST: {"a.>": 7}}
    region.step(ledger(FIRST, 10))
    assert region.links.lags == {"there": LinkLag(3, 4, {"a.x": 4})}
    region.clock.advance(60)
    region.step(ledger(FIRST, 10))
    assert region.links.lags["there"].lag_ms == 60_000
