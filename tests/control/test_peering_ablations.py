"""Peering without one of its rules: each is noticed, by the turmoil of the simulation or by a test of its own."""

from collections.abc import Callable

import msgspec
import pytest

from fedbus.control.membership import Membership
from fedbus.control.peer import Peer
from fedbus.control.peer_calls import IncomingCalls
from fedbus.control.peer_messages import Report
from fedbus.control.peering import PeeringCore
from fedbus.control.summary import RegionAddress
from tests.control import test_peering as whole
from tests.control.peering_world import Broken, turmoil

Patch = Callable[[pytest.MonkeyPatch], None]


def _ignore_generation(patch: pytest.MonkeyPatch) -> None:
    def supersede(peer: Peer, generation: int) -> bool:
        if generation != peer.generation:
            peer.generation, peer.heard = generation, 0
        return False

    patch.setattr(Peer, "has_superseded", supersede)


def _let_older_words_replace_newer(patch: pytest.MonkeyPatch) -> None:
    genuine = Peer.reported

    def reported(peer: Peer, report: Report, generation: int, now_ns: int) -> bool:
        peer.heard = 0
        return genuine(peer, report, generation, now_ns)

    patch.setattr(Peer, "reported", reported)


def _do_doubled_requests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IncomingCalls, "begin", lambda *_: True)


def _exchange_no_groups(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PeeringCore, "_exchange_groups", lambda *_: [])


def _redial_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Peer, "due_for_dial", lambda peer, _: peer.dialled_ns is None)


def _wait_for_answers_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("fedbus.control.peer_calls.OutgoingCalls.give_up", lambda *_: [])


@pytest.mark.parametrize(
    "ablation",
    [
        _ignore_generation,
        _let_older_words_replace_newer,
        _do_doubled_requests,
        _exchange_no_groups,
        _redial_nobody,
        _wait_for_answers_without_end,
    ],
)
def test_turmoil_notices_when_a_rule_is_left_out(ablation: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    ablation(monkeypatch)
    with pytest.raises(Broken):
        all(turmoil(seed) for seed in whole.SEEDS)


def _forget_tombstones(patch: pytest.MonkeyPatch) -> None:
    def remove(members: Membership, region: str) -> RegionAddress:
        address = members._addresses.pop(region)
        return msgspec.structs.replace(address, left=True)

    patch.setattr(Membership, "remove", remove)


def _take_hearing_for_being_heard(patch: pytest.MonkeyPatch) -> None:
    genuine = Peer.reported

    def reported(peer: Peer, report: Report, generation: int, now_ns: int) -> bool:
        sent = max(peer._sent_ns, default=1)
        echo = msgspec.structs.replace(report.echo, sequence=sent, held_ns=0) if report.echo is not None else None
        return genuine(peer, msgspec.structs.replace(report, echo=echo), generation, now_ns)

    patch.setattr(Peer, "reported", reported)


def _excuse_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Peer, "excuse", lambda *_: None)


@pytest.mark.parametrize(
    ("ablation", "noticed_by"),
    [
        (_forget_tombstones, whole.test_a_region_that_was_removed_stays_so_however_late_others_hear_of_it),
        (_take_hearing_for_being_heard, whole.test_a_one_way_cut_is_a_loss_for_both),
        (_excuse_nobody, whole.test_a_region_that_stood_still_itself_accuses_nobody),
    ],
)
def test_a_rule_left_out_is_noticed(
    ablation: Patch, noticed_by: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        noticed_by()
