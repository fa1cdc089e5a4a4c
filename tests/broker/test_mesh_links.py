"""Links between regions under faults (protocol rules 18, 19): what is wanted crosses once and in order, pins hold.

Each rule is also taken away in turn: the simulation must notice, else it does not test that rule.
"""

from collections.abc import Callable, Iterable, Sequence

import pytest

from fedbus.broker import link_spans
from fedbus.broker.link import LinkTargets
from fedbus.broker.link_progress import LinkProgress
from fedbus.broker.link_share import LinkShare
from fedbus.broker.link_source import LinkSource
from fedbus.broker.policies import Policies
from fedbus.broker.protocol import LinkFilter
from fedbus.broker.record import Kind, Record
from fedbus.broker.recovery import FoldedState
from fedbus.broker.state import Snapshot
from fedbus.broker.stored import Stored
from fedbus.control import links
from fedbus.control.links import LinkPlanner
from fedbus.control.summary import LedgerSummary
from tests.broker.mesh_run import Region, run_mesh

SEEDS = 300


@pytest.mark.parametrize("seed", range(12))
def test_what_is_wanted_crosses_once_and_in_order_whatever_fails(seed: int):
    run_mesh(seed)


def forget_progress_on_recovery(patch: pytest.MonkeyPatch) -> None:
    fold, snapshot = FoldedState._fold, FoldedState._fold_snapshot

    def folding(self: FoldedState, ledger: str, record: Record) -> None:
        if record.kind is Kind.SNAPSHOT:
            fold(self, ledger, record)

    patch.setattr(FoldedState, "_fold", folding)
    patch.setattr(FoldedState, "_fold_snapshot", lambda self, s: snapshot(self, Snapshot(s.producers, s.groups, [])))


def take_whatever_comes(patch: pytest.MonkeyPatch) -> None:
    take = LinkTargets._take

    def blindly(self: LinkTargets, target: object, deliver: object, *rest: object) -> None:
        target.expected = deliver.scanned_from  # type: ignore[attr-defined]
        take(self, target, deliver, *rest)  # type: ignore[arg-type]

    patch.setattr(LinkTargets, "_take", blindly)


def backfill_what_other_filters_had(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LinkProgress, "dropped", lambda self, turn: {})


def let_a_filter_answer_for_what_it_never_had(patch: pytest.MonkeyPatch) -> None:
    turn_of = LinkProgress.turn

    def turn(self: LinkProgress, ledger: str, wants: Sequence[LinkFilter]) -> object:
        for want in wants:
            self.of(ledger).setdefault(want.pattern, want.scanned_to)
        return turn_of(self, ledger, wants)

    patch.setattr(LinkProgress, "turn", turn)


def go_on_where_other_spans_begin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(link_spans, "_next", lambda start, keys: 0)


def offer_what_was_born_elsewhere(patch: pytest.MonkeyPatch) -> None:
    chosen = LinkSource._chosen

    def choose(self: LinkSource, stored: Stored, end: int) -> object:
        origin, stored.origin = stored.origin, None
        places = chosen(self, stored, end)
        stored.origin = origin
        return places

    patch.setattr(LinkSource, "_chosen", choose)


def change_receivers_without_passing_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Region, "pass_on", lambda self, gone, heir: None)


def pull_each_ledger_for_itself(patch: pytest.MonkeyPatch) -> None:
    def alone(ledgers: Iterable[LedgerSummary]) -> list[list[LedgerSummary]]:
        return [[each] for each in ledgers]

    patch.setattr(links, "_by_instance", alone)


def wait_for_no_ledger_that_nobody_serves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LinkPlanner, "_to_be_waited_for", lambda self, ledger, now_ns: False)


def let_pinned_topics_go(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Policies, "stored_in", lambda self, topic, region: True)


def let_links_fill_the_queue(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LinkShare, "full", property(lambda self: False))
    patch.setattr(LinkShare, "window_bytes", lambda self, links: 10**6)


@pytest.mark.parametrize(
    "ablation",
    [
        forget_progress_on_recovery,
        take_whatever_comes,
        backfill_what_other_filters_had,
        let_a_filter_answer_for_what_it_never_had,
        go_on_where_other_spans_begin,
        offer_what_was_born_elsewhere,
        change_receivers_without_passing_on,
        pull_each_ledger_for_itself,
        wait_for_no_ledger_that_nobody_serves,
        let_pinned_topics_go,
        let_links_fill_the_queue,
    ],
    ids=lambda value: value.__name__,
)
def test_a_link_rule_taken_away_is_noticed(
    ablation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
):
    ablation(monkeypatch)
    for seed in range(SEEDS):
        try:
            run_mesh(seed)
        except AssertionError as noticed:
            print(f"noticed with seed {seed}: {noticed}")
            monkeypatch.undo()
            run_mesh(seed)  # it was the rule that was missing, nothing else
            return
    pytest.fail(f"{SEEDS} runs without {ablation.__name__} were as good as with it")
