"""A group with a home and standbys under cuts, lost regions and restless managers; each rule taken away is noticed."""

from collections.abc import Callable
from typing import Any

import pytest

from fedbus.broker import sharing
from fedbus.broker.following import Following
from fedbus.broker.group import Group
from fedbus.broker.group_homes import GroupHomes
from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.memberships import Memberships
from fedbus.broker.protocol import Settled, Shared, Taken
from fedbus.broker.settlement import Settlement
from fedbus.broker.sharing import Follower, Sharing
from fedbus.broker.standbys import Standbys
from fedbus.ranges import RangeSet
from tests.broker.homes_run import run_homes

SEEDS = 300


@pytest.mark.parametrize("seed", range(1000, 1060))
def test_acknowledgements_outlive_the_loss_of_the_home(seed):
    run_homes(seed)


def dispatch_at_standbys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupHomes, "here", lambda self, spec: True)


def ignore_the_term(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupSpec, "age", property(lambda self: (*self.identity, self.version)))


def go_on_behind_what_was_in_flight(patch: pytest.MonkeyPatch) -> None:
    def low(self: Group, ledgers: Any) -> dict[str, int]:
        return {each: self.cursor.position(each, ledgers) for each in ledgers.names()}

    patch.setattr(Group, "low", low)


def do_not_record_what_others_tell(patch: pytest.MonkeyPatch) -> None:
    take = Settlement.take_dirty
    patch.setattr(Settlement, "take_dirty", lambda self: (take(self)[0], []))


def say_that_it_is_durable_at_once(patch: pytest.MonkeyPatch) -> None:
    take = Following._take

    def taking(self: Following, endpoint: str, shared: Shared, now_ns: int) -> None:
        take(self, endpoint, shared, now_ns)
        self._peers.send(endpoint, Taken(shared.subscription, shared.number))

    patch.setattr(Following, "_take", taking)


def put_what_others_tell_in_place_of_what_is_known(patch: pytest.MonkeyPatch) -> None:
    learn = Settlement.learn

    def learning(self: Settlement, settled: list[Settled], *, tell: bool) -> None:
        learn(self, settled, tell=tell)
        for part in settled:
            self._done[part.ledger] = RangeSet(part.ranges)

    patch.setattr(Settlement, "learn", learning)


def tell_no_news(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sharing, "_note", lambda self, part: None)


def tell_only_news(patch: pytest.MonkeyPatch) -> None:
    new = sharing._Open.__init__

    def beginning(self: Any, now_ns: int) -> None:
        new(self, now_ns)
        self.whole = False

    patch.setattr(sharing._Open, "__init__", beginning)


def tell_each_piece_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sharing, "REPEAT_NS", 1 << 62)


def do_not_wait_until_a_piece_is_taken(patch: pytest.MonkeyPatch) -> None:
    send = Follower.send

    def sending(self: Follower, *rest: Any) -> None:
        self._under_way = None
        send(self, *rest)

    patch.setattr(Follower, "send", sending)


def tell_nothing_anew_when_somebody_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sharing, "tell_all", lambda self: None)


def tell_nothing_on(patch: pytest.MonkeyPatch) -> None:
    learn = Settlement.learn
    patch.setattr(Settlement, "learn", lambda self, settled, *, tell: learn(self, settled, tell=False))


def pass_over_what_is_not_settled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Settlement, "is_settled", lambda self, ledger, ranges: True)


def do_not_follow_with_the_cursor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Standbys, "tick", lambda self, now_ns: None)


def hear_no_late_acknowledgements(patch: pytest.MonkeyPatch) -> None:
    sweep = Memberships.sweep

    def sweeping(self: Memberships, **how: bool) -> None:
        sweep(self, **how)
        self._former.clear()

    patch.setattr(Memberships, "sweep", sweeping)


ABLATIONS = [
    dispatch_at_standbys, ignore_the_term,
    go_on_behind_what_was_in_flight, do_not_record_what_others_tell, say_that_it_is_durable_at_once,
    put_what_others_tell_in_place_of_what_is_known, tell_no_news, tell_only_news, tell_each_piece_once,
    do_not_wait_until_a_piece_is_taken,
    tell_nothing_anew_when_somebody_is_lost, tell_nothing_on, pass_over_what_is_not_settled,
    do_not_follow_with_the_cursor, hear_no_late_acknowledgements,
]  # fmt: skip


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda each: each.__name__)
def test_a_rule_taken_away_is_noticed(ablation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch):
    ablation(monkeypatch)
    for seed in range(SEEDS):
        try:
            run_homes(seed)
        except AssertionError as noticed:
            print(f"noticed with seed {seed}: {noticed}")
            monkeypatch.undo()
            run_homes(seed)  # it was the rule that was missing, nothing else
            return
    pytest.fail(f"{SEEDS} runs without {ablation.__name__} were as good as with it")
