"""The fleet without Ray: who is given up for lost, who is killed, and how the keeper sees the instances."""

from types import SimpleNamespace

import msgspec
import pytest
import ray

from fedbus.broker.status import BrokerStatus
from fedbus.clock import ManualClock
from fedbus.control.health import InstanceHealth
from fedbus.control.restarts import CALM_NS, MOST
from fedbus.options import FederationOptions
from fedbus.storage.store import Store
from fedbus_actors.fleet import FIRST_WORD_NS, Fleet, quarantine
from fedbus_actors.health_monitor import Vital
from fedbus_actors.pinned_instance import InstanceReport, Usage

REGION = "onprem.berlin"


class Provisioned:
    """A provisioner without a cluster."""

    def __init__(self):
        self.killed, self.ended = [], []

    def place(self, taken):
        return SimpleNamespace(host="n1", id="n1", address="127.0.0.1")

    def start(self, instance):
        return SimpleNamespace()

    def end(self, instance):
        self.ended.append(instance)

    def kill(self, instance, pid):
        self.killed.append((instance.id, pid))
        return True


@pytest.fixture
def made(tmp_path):
    store, clock, provisioner = Store(tmp_path / "store.db", 0), ManualClock(), Provisioned()
    unfinished = {"what": ""}
    fleet = Fleet(REGION, FederationOptions(), store, provisioner, clock, lambda *_: None, lambda _: unfinished["what"])
    fleet._real = clock
    member = fleet.create(None, "small")
    member.heard_ns = 0
    member.record = store.instances.swap(msgspec.structs.replace(member.record, state="serving"))
    member.report = InstanceReport(
        BrokerStatus(member.name, f"{member.name}/1", "serving", {}, [], [], {}, 0, {}),
        Usage(0.0, 0, 0.0, 0.0), 24000, 4711, "u1", 1, 1,
    )  # fmt: skip
    yield SimpleNamespace(fleet=fleet, clock=clock, member=member, provisioner=provisioner, unfinished=unfinished)
    store.close()


def test_a_process_that_was_silent_for_long_is_killed_once(made):
    made.clock.advance(30)
    made.fleet.give_up_lost()
    assert made.provisioner.killed == []
    made.clock.advance(31)
    made.fleet.give_up_lost()
    made.fleet.give_up_lost()
    assert made.provisioner.killed == [("b1", 4711)]
    assert made.fleet.members


def test_an_instance_is_given_up_only_when_others_hold_what_it_held(made):
    made.unfinished["what"] = "0 of 1 ledgers are complete elsewhere"
    made.clock.advance(200)
    made.fleet.give_up_lost()
    assert made.fleet.members
    made.unfinished["what"] = ""
    made.fleet.give_up_lost()
    assert made.fleet.members == {}
    assert made.provisioner.ended == ["b1"]


def test_the_keeper_is_told_since_when_an_instance_is_silent_and_how_far_it_drains(made):
    (kept,) = made.fleet.kept()
    assert (kept.name, kept.present, kept.silent_since_ns, kept.stage) == (f"{REGION}/b1", False, 0, "staying")
    made.member.present = True
    made.member.record = msgspec.structs.replace(made.member.record, state="draining")
    (kept,) = made.fleet.kept()
    assert (kept.silent_since_ns, kept.stage, kept.directory_uuid) == (None, "leaving", "u1")
    made.member.delivered = True
    assert made.fleet.kept()[0].stage == "closing"


def test_who_has_never_been_heard_by_this_manager_is_waited_for_longer(made):
    assert made.fleet.create(None, "small").heard_ns >= FIRST_WORD_NS


def test_a_process_that_has_ended_takes_no_events_whatever_the_probes_said_last(made):
    made.member.vital = Vital(InstanceHealth("healthy", 0), 1.0)
    assert made.member.state == "healthy"
    made.fleet._heard(made.member, ray.exceptions.ActorUnavailableError("gone", None))
    assert made.member.state == "starting"
    made.fleet._heard(made.member, made.member.report)
    assert made.member.state == "healthy"


def test_an_answer_that_failed_is_asked_for_again_and_one_that_is_late_is_waited_for(made):
    made.member.asked = call = object()
    made.fleet._heard(made.member, TimeoutError("late"))
    assert made.member.asked is call
    made.fleet._heard(made.member, ray.exceptions.RayTaskError("report", "…", TimeoutError()).as_instanceof_cause())
    assert made.member.asked is None


def siblings(made, count):
    """More serving members, as silent as the first."""
    for _ in range(count):
        member = made.fleet.create(None, "small")
        member.heard_ns = 0
        member.record = made.fleet._store.instances.swap(msgspec.structs.replace(member.record, state="serving"))
        member.report = msgspec.structs.replace(made.member.report)


def test_many_silent_at_once_are_neither_killed_nor_given_up_until_the_brake_lets_go(made):
    siblings(made, 2)
    made.clock.advance(200)
    made.fleet.give_up_lost()
    assert made.provisioner.killed == made.provisioner.ended == []
    assert len(made.fleet.members) == 3
    made.clock.advance(FederationOptions().manager.brake_ms / 1000)
    made.fleet.give_up_lost()
    assert made.fleet.members == {}


def test_one_of_several_is_given_up_without_a_brake(made):
    siblings(made, 2)
    made.clock.advance(200)
    for member in list(made.fleet.members.values())[1:]:
        member.present = True
    made.fleet.give_up_lost()
    assert list(made.fleet.members) == ["b2", "b3"]


def test_a_manager_that_was_stopped_blames_nobody_for_it(made, monkeypatch):
    monkeypatch.setattr("fedbus_actors.fleet.remote.ask", lambda *_: {})
    made.fleet.poll(None)
    made.clock.advance(2)
    made.fleet.poll(None)
    made.clock.advance(1000)
    made.fleet.poll(None)
    made.fleet.give_up_lost()
    (kept,) = made.fleet.kept()
    assert made.clock.monotonic_ns() - kept.silent_since_ns <= 2 * 10**9
    assert made.provisioner.killed == []


def test_who_answers_neither_the_manager_nor_a_monitor_that_is_gone_takes_no_events(made, monkeypatch):
    monkeypatch.setattr("fedbus_actors.fleet.remote.ask", lambda *_: {})
    made.member.vital = Vital(InstanceHealth("healthy", 0), 1.0)
    made.fleet.poll(None)
    assert made.member.state == "healthy"
    for _ in range(4):
        made.clock.advance(3)
        made.fleet.poll(None)
    assert made.member.state == "unreachable"
    assert "neither it nor the health monitor" in made.member.vital.health.reason


def judge(made):
    """What a poll does in the end."""
    quarantine(made.fleet.members.values(), 0.5, made.clock.monotonic_ns(), lambda *_: None)


def crash(made, member, times):
    """Its process ends and is started again, so many times, three seconds apart."""
    for _ in range(times):
        made.clock.advance(3)
        report = msgspec.structs.replace(member.report, started_ns=member.report.started_ns + 1)
        made.fleet._heard(member, report)
        judge(made)


def test_an_instance_that_dies_again_and_again_gets_no_events_until_it_has_stood_for_a_while(made):
    siblings(made, 2)
    for member in made.fleet.members.values():
        member.vital = Vital(InstanceHealth("healthy", 0), 1.0)
    crash(made, made.member, MOST - 1)
    assert made.member.state == "healthy"
    crash(made, made.member, 1)
    assert [member.state for member in made.fleet.members.values()] == ["unreachable", "healthy", "healthy"]
    made.clock.advance(CALM_NS / 1e9 + 1)
    judge(made)
    assert made.member.state == "healthy"


def test_if_many_die_again_and_again_none_is_taken_out_for_it(made):
    siblings(made, 2)
    for member in list(made.fleet.members.values())[:2]:
        member.vital = Vital(InstanceHealth("healthy", 0), 1.0)
        crash(made, member, MOST)
    assert [member.quarantined for member in made.fleet.members.values()] == [False, False, False]


def test_a_lone_instance_is_never_taken_out(made):
    made.member.vital = Vital(InstanceHealth("healthy", 0), 1.0)
    crash(made, made.member, 2 * MOST)
    assert made.member.state == "healthy"
