"""V5 across owners: with idempotent producers each event counts once, whoever stored tries of it; rules 9 and 10.

Each rule is taken away in turn: the simulation must notice, else it does not test that rule.
"""

from collections.abc import Callable

import msgspec
import pytest

from fedbus.broker import protocol as p
from fedbus.broker.dedup import DedupState, DedupWindow, DedupWindows, ProducerWindow
from fedbus.broker.effects import Send
from fedbus.broker.judge import Judge
from fedbus.broker.withheld import Copy, Withheld, WithheldState
from fedbus.broker.withheld_portions import WithheldPortions
from fedbus.client.parcel import Parcel
from tests.broker.owners import run_owners

SEEDS = 300


@pytest.mark.parametrize("seed", range(60))
def test_each_event_counts_once(seed: int):
    run_owners(seed)


def dispatch_before_it_is_certain(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Withheld, "stored", lambda self, ledger, record: None)


def forget_promises_on_restart(patch: pytest.MonkeyPatch) -> None:
    restore = DedupWindow.restore
    patch.setattr(Judge, "fold", lambda self, ledger, tries: None)

    def without(self: DedupWindow, part: ProducerWindow, ledgers: list[str]) -> None:
        restore(self, msgspec.structs.replace(part, rejected=[]), ledgers)

    patch.setattr(DedupWindow, "restore", without)


def store_what_was_rejected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DedupWindow, "check_not_rejected", lambda self, producer, sequence, attempt: None)


def release_what_was_found_elsewhere(patch: pytest.MonkeyPatch) -> None:
    judged = Withheld.judged

    def release(self: Withheld, copy: Copy, tried: p.Tried, fate: int) -> None:
        judged(self, copy, tried, p.NOT_STORED)

    patch.setattr(Withheld, "judged", release)


def let_later_copies_count_as_earlier(patch: pytest.MonkeyPatch) -> None:
    judge = Judge.judge

    def any_copy(self: Judge, ledger: str, tries: list[p.Try], now_ns: int) -> tuple[list[int], int]:
        return judge(self, ledger, [p.Try(each.producer, each.sequence, 10**6) for each in tries], now_ns)

    patch.setattr(Judge, "judge", any_copy)


def answer_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    def at_once(self: Judge, session: bytes, request: p.Reject, now_ns: int) -> None:
        if self.serves(request.ledger):
            fates, _ = self.judge(request.ledger, request.tries, now_ns)
            self._ledgers.effects.append(Send(session, p.Judged(request.request, fates)))

    patch.setattr(Judge, "answer", at_once)


def answer_for_ledgers_of_others(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Judge, "serves", lambda self, ledger: True)


def forget_what_is_void_on_restart(patch: pytest.MonkeyPatch) -> None:
    restore = Withheld.restore
    patch.setattr(Withheld, "restore", lambda self, state: restore(self, WithheldState(state.copies)))


def forget_what_is_withheld_on_restart(patch: pytest.MonkeyPatch) -> None:
    restore = Withheld.restore
    patch.setattr(Withheld, "restore", lambda self, state: restore(self, WithheldState([], state.void)))


def forget_the_window_of_who_was_taken_over(patch: pytest.MonkeyPatch) -> None:
    restore = DedupWindows.restore

    def own(self: DedupWindows, state: DedupState) -> None:
        restore(self, DedupState(state.ledgers, [part for part in state.windows if part.writer == self._own]))

    patch.setattr(DedupWindows, "restore", own)


def name_only_the_parts_own_tries(patch: pytest.MonkeyPatch) -> None:
    part_of = Parcel._part

    def part(self: Parcel, chosen: list[int]) -> Parcel:
        made = part_of(self, chosen)
        made.tried = []
        return made

    patch.setattr(Parcel, "_part", part)


def name_only_the_last_try(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Parcel, "tried_besides", lambda self, ledger: [t for t in self.tried[-1:] if t.ledger != ledger])


def let_the_key_of_a_withheld_batch_go_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WithheldPortions, "slots_before", lambda self, turn: 0)


@pytest.mark.parametrize(
    "ablation",
    [
        dispatch_before_it_is_certain,
        forget_promises_on_restart,
        store_what_was_rejected,
        release_what_was_found_elsewhere,
        let_later_copies_count_as_earlier,
        answer_before_it_is_durable,
        answer_for_ledgers_of_others,
        forget_what_is_void_on_restart,
        forget_what_is_withheld_on_restart,
        forget_the_window_of_who_was_taken_over,
        name_only_the_parts_own_tries,
        name_only_the_last_try,
        let_the_key_of_a_withheld_batch_go_on,
    ],
    ids=lambda value: value.__name__,
)
def test_a_rule_taken_away_is_noticed(ablation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch):
    ablation(monkeypatch)
    for seed in range(SEEDS):
        try:
            run_owners(seed)
        except AssertionError as noticed:
            print(f"noticed with seed {seed}: {noticed}")
            monkeypatch.undo()
            run_owners(seed)  # it was the rule that was missing, nothing else
            return
    pytest.fail(f"{SEEDS} runs without {ablation.__name__} were as good as with it")
