"""Each rule of the core taken away in turn: the simulation must notice, else it does not test that rule."""

from collections.abc import Callable

import pytest

from fedbus.broker import settlement
from fedbus.broker.cursor import Cursor
from fedbus.broker.dedup import DedupWindow
from fedbus.broker.dispatch import Dispatcher
from fedbus.broker.group import Group
from fedbus.broker.group_fold import GroupFold
from fedbus.broker.groups import Groups
from fedbus.broker.in_flight import InFlight
from fedbus.broker.intake import Intake
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link import LinkTargets
from fedbus.broker.link_progress import LinkProgress
from fedbus.broker.link_source import LinkSource
from fedbus.broker.publish_order import PublishOrder
from fedbus.broker.queued_portions import QueuedPortions
from fedbus.broker.recovery import FoldedState
from fedbus.broker.settlement import Settlement
from fedbus.broker.state import GroupState, Snapshot
from fedbus.broker.stored import Stored
from tests.broker.scenario import run_scenario

SEEDS = 300


def acknowledge_before_the_disk_has_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledgers, "answer_when_confirmed", lambda self, number, answer: self.effects.append(answer))


def forget_duplicates_on_recovery(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Intake, "fold", lambda self, ledger, record: None)
    patch.setattr(DedupWindow, "restore", lambda self, part, ledgers: None)


def remember_batches_that_were_never_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DedupWindow, "forget_from", lambda self, ledger, number: [])


def take_what_came_behind_a_refused_batch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PublishOrder, "hold", lambda self, producer, order, slots, now_ns: None)


def forget_acknowledgements_on_recovery(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupFold, "settled", lambda self, parts: None)


def forget_what_waits_in_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    def state(self: Group, ledgers: Ledgers) -> GroupState:
        low = {name: self.cursor.position(name, ledgers) for name in ledgers.names()}
        return GroupState(self.spec, self.settlement.state(), low)

    patch.setattr(Group, "state", state)


def answer_a_group_before_it_is_recorded(patch: pytest.MonkeyPatch) -> None:
    make = Groups._make

    def making(self: Groups, *request: object) -> Group:
        group = make(self, *request)  # type: ignore[arg-type]
        group.recorded = -1
        return group

    patch.setattr(Groups, "_make", making)


def let_no_deadline_pass(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(InFlight, "take_due", lambda self, now_ns: [])


def leave_what_a_lost_member_held(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(InFlight, "take_of", lambda self, member: [])
    let_no_deadline_pass(patch)


def send_past_what_is_parked(patch: pytest.MonkeyPatch) -> None:
    park = QueuedPortions.park

    def past(self: QueuedPortions, member: object, portion: object, *, front: bool = False) -> None:
        park(self, member, portion, front=front)  # type: ignore[arg-type]
        member.behind = 0  # type: ignore[attr-defined]

    patch.setattr(QueuedPortions, "park", past)


def scan_past_what_waits(patch: pytest.MonkeyPatch) -> None:
    waiting = Dispatcher._dispatch_waiting

    def dispatch(self: Dispatcher, *rest: object) -> bool:
        waiting(self, *rest)  # type: ignore[arg-type]
        return True

    patch.setattr(Dispatcher, "_dispatch_waiting", dispatch)


def begin_a_ledger_before_the_last_is_done(patch: pytest.MonkeyPatch) -> None:
    def behind(self: Cursor, ledgers: Ledgers) -> list[str]:
        return [name for name in self.positions if self.positions[name] < ledgers.end(name)]

    patch.setattr(Cursor, "behind", behind)


def settle_what_other_filters_forwarded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "_answered_from", lambda origin, filters: origin.scanned_from)


def settle_what_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    dispatching = Settlement.dispatching

    def settle(self: Settlement, stored: Stored, places: object) -> object:
        places = dispatching(self, stored, places)  # type: ignore[arg-type]
        self._done[stored.origin_ledger].add(stored.scanned_from, stored.scanned_to)
        return places

    patch.setattr(Settlement, "dispatching", settle)


def start_links_from_zero(patch: pytest.MonkeyPatch) -> None:
    fold = FoldedState._fold_snapshot
    patch.setattr(LinkTargets, "_pull", _forgetting(LinkTargets._pull))
    patch.setattr(FoldedState, "_fold_snapshot", lambda self, s: fold(self, Snapshot(s.producers, s.groups, [])))


def _forgetting(pull: Callable[..., None]) -> Callable[..., None]:
    """Progress that was not made by this incarnation is unknown to it."""

    def forgetful(self: LinkTargets, target: object, now_ns: int) -> None:
        if not self.linked_events:
            self.progress.scanned.clear()
        pull(self, target, now_ns)

    return forgetful


def note_progress_before_its_record(patch: pytest.MonkeyPatch) -> None:
    append = LinkTargets._append

    def early(self: LinkTargets, target: object, deliver: object, *rest: object) -> None:
        self.progress.fold(deliver.ledger, dict.fromkeys(target.turn.spans, deliver.next_offset))  # type: ignore[attr-defined]
        append(self, target, deliver, *rest)  # type: ignore[arg-type]

    patch.setattr(LinkTargets, "_append", early)


def keep_progress_the_disk_refused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LinkProgress, "void", lambda self: set())


def forget_filters_no_longer_wanted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LinkProgress, "dropped", lambda self, turn: {})


def take_links_with_a_gap(patch: pytest.MonkeyPatch) -> None:
    take = LinkTargets._take

    def blindly(self: LinkTargets, target: object, deliver: object, *rest: object) -> None:
        target.expected = deliver.scanned_from  # type: ignore[attr-defined]
        take(self, target, deliver, *rest)  # type: ignore[arg-type]

    patch.setattr(LinkTargets, "_take", blindly)


def forward_more_than_one_hop(patch: pytest.MonkeyPatch) -> None:
    chosen = LinkSource._chosen

    def choose(self: LinkSource, stored: Stored, end: int) -> object:
        origin, stored.origin = stored.origin, None
        places = chosen(self, stored, end)
        stored.origin = origin
        return places

    patch.setattr(LinkSource, "_chosen", choose)


@pytest.mark.parametrize(
    ("ablation", "kind"),
    [
        (acknowledge_before_the_disk_has_it, "faults"),
        (forget_duplicates_on_recovery, "faults"),
        (remember_batches_that_were_never_stored, "faults"),
        (take_what_came_behind_a_refused_batch, "faults"),
        (forget_acknowledgements_on_recovery, "faults"),
        (forget_what_waits_in_a_snapshot, "faults"),
        (answer_a_group_before_it_is_recorded, "faults"),
        (let_no_deadline_pass, "faults"),
        (leave_what_a_lost_member_held, "faults"),
        (send_past_what_is_parked, "faults"),
        (scan_past_what_waits, "faults"),
        (begin_a_ledger_before_the_last_is_done, "faults"),
        (settle_what_is_in_flight, "faults"),
        (settle_what_other_filters_forwarded, "links"),
        (start_links_from_zero, "links"),
        (note_progress_before_its_record, "links"),
        (keep_progress_the_disk_refused, "links"),
        (forget_filters_no_longer_wanted, "links"),
        (take_links_with_a_gap, "links"),
        (forward_more_than_one_hop, "mutual"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_rule_taken_away_is_noticed(
    ablation: Callable[[pytest.MonkeyPatch], None], kind: str, monkeypatch: pytest.MonkeyPatch
):
    ablation(monkeypatch)
    for seed in range(SEEDS):
        try:
            run_scenario(kind, seed, steps=300)
        except AssertionError as noticed:
            print(f"noticed with seed {seed}: {noticed}")
            monkeypatch.undo()
            run_scenario(kind, seed, steps=300)  # it was the rule that was missing, nothing else
            return
    pytest.fail(f"{SEEDS} runs without {ablation.__name__} were as good as with it")
