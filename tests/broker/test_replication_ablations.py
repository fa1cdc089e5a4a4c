"""Each rule of replication taken away in turn: the simulation must notice, else it does not test that rule."""

from collections.abc import Callable

import pytest

from fedbus.broker import copies
from fedbus.broker import protocol as p
from fedbus.broker.adoption import Adoption
from fedbus.broker.copy import Copy
from fedbus.broker.ensemble import Ensemble
from fedbus.broker.feed import Feeds
from fedbus.broker.fetches import Fetches
from fedbus.control import ledger_recovery, replication
from fedbus.control.holders import Holders
from fedbus.ledger_record import LedgerRecord
from tests.broker.replica_disk import ReplicaDisk
from tests.broker.replicated_run import run_replicated

SEEDS = 300


def acknowledge_when_the_own_disk_has_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ensemble, "confirmable", lambda self: self.own_number - 1)


def go_on_without_a_silent_member_before_the_store_knows(patch: pytest.MonkeyPatch) -> None:
    def confirmable(self: Ensemble) -> int:
        there = [follower.has for follower in self.followers if not follower.failed]
        return min([self.own_number, *there]) - 1

    patch.setattr(Ensemble, "confirmable", confirmable)


def confirm_while_a_change_is_asked_for(patch: pytest.MonkeyPatch) -> None:
    def confirmable(self: Ensemble) -> int:
        return min([self.own_number, *(follower.has for follower in self.followers)]) - 1

    patch.setattr(Ensemble, "confirmable", confirmable)


def take_appends_of_a_writer_that_is_over(patch: pytest.MonkeyPatch) -> None:
    def refusal(append: p.Append, copy: Copy | None, *_: object) -> p.AppendRefused | None:
        return None if copy is not None and copy.record is not None else p.AppendRefused(append.ledger, "unknown")

    patch.setattr(copies, "refusal_of", refusal)


def forget_the_fence_in_a_crash(patch: pytest.MonkeyPatch) -> None:
    note = ReplicaDisk.note

    def forget(self: ReplicaDisk, record: LedgerRecord) -> object:
        before = self.notes.get(record.id)
        answer = note(self, record)
        if record.state != "OPEN" and before is not None:
            self.notes[record.id] = before
        return answer

    patch.setattr(ReplicaDisk, "note", forget)


def end_at_the_shortest_copy(patch: pytest.MonkeyPatch) -> None:
    def shortest(record: LedgerRecord, holders: Holders) -> object:
        ends = [
            ledger_recovery.End(held.end_number, held.end_offset)
            for _, held in holders.held(record)
            if held.term >= record.term
        ]
        return min(ends, key=lambda end: end.number) if ends else ledger_recovery.Undecided("nobody", stuck=False)

    patch.setattr(replication, "find_end", shortest)


def end_without_a_fence(patch: pytest.MonkeyPatch) -> None:
    def anyhow(record: LedgerRecord, holders: Holders) -> object:
        ends = [ledger_recovery.End(held.end_number, held.end_offset) for _, held in holders.held(record)]
        return max(ends, key=lambda end: end.number) if ends else ledger_recovery.Undecided("nobody", stuck=False)

    patch.setattr(replication, "find_end", anyhow)


def leave_what_lies_beyond_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReplicaDisk, "cut", lambda self, ledger, end_number: None)


def use_numbers_again_after_a_full_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ensemble, "refused", lambda self, detail, now_ns: False)


def serve_what_is_not_whole(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Copy, "whole", property(lambda self: True))


def take_over_before_the_own_ledgers_are_closed(patch: pytest.MonkeyPatch) -> None:
    advance = Adoption.advance
    patch.setattr(Adoption, "advance", lambda self, *, complete: advance(self, complete=True))


def forget_what_a_predecessor_remembered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReplicaDisk, "state", lambda self, ledgers: [])


def pass_over_damage_that_others_could_repair(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fetches, "repairable", lambda self, ledger: False)
    patch.setattr(Feeds, "repairable", lambda self, ledger: False, raising=False)


def never_repair(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fetches, "_repair", lambda self, asked, records, answer: False)


def fetch_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Copy, "missing", lambda self, me: None)


@pytest.mark.parametrize(
    "ablation",
    [
        acknowledge_when_the_own_disk_has_it,
        go_on_without_a_silent_member_before_the_store_knows,
        confirm_while_a_change_is_asked_for,
        take_appends_of_a_writer_that_is_over,
        forget_the_fence_in_a_crash,
        end_at_the_shortest_copy,
        end_without_a_fence,
        leave_what_lies_beyond_the_end,
        use_numbers_again_after_a_full_disk,
        serve_what_is_not_whole,
        take_over_before_the_own_ledgers_are_closed,
        forget_what_a_predecessor_remembered,
        pass_over_damage_that_others_could_repair,
        never_repair,
        fetch_nothing,
    ],
    ids=lambda value: value.__name__,
)
def test_a_rule_of_replication_taken_away_is_noticed(
    ablation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
):
    ablation(monkeypatch)
    for seed in range(SEEDS):
        try:
            run_replicated(seed)
        except AssertionError as noticed:
            print(f"noticed with seed {seed}: {noticed}")
            monkeypatch.undo()
            run_replicated(seed)  # it was the rule that was missing, nothing else
            return
    pytest.fail(f"{SEEDS} runs without {ablation.__name__} were as good as with it")
