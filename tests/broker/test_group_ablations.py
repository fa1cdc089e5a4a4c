"""Each rule of groups and of key slots taken away in turn: the simulations must notice."""

from collections.abc import Callable

import msgspec
import pytest

from fedbus.batch import Batch
from fedbus.broker import protocol as p
from fedbus.broker.barrier import Barrier
from fedbus.broker.dead_letter import DeadLetters
from fedbus.broker.deliveries import Deliveries
from fedbus.broker.dispatch import Dispatcher
from fedbus.broker.group import Group
from fedbus.broker.group_fold import GroupFold
from fedbus.broker.groups import Groups
from fedbus.broker.handover import Handovers
from fedbus.broker.in_flight import Portion
from fedbus.broker.queued_portions import QueuedPortions
from fedbus.broker.release import Ask, Releases
from fedbus.broker.slot_owners import SlotOwners
from fedbus.broker.state import GroupRecord
from tests.broker.handover_run import run_handover
from tests.broker.scenario import run_scenario

SEEDS = 300


def let_keys_move_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Barrier, "_look", lambda self: None)


def free_slots_in_any_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(QueuedPortions, "ready", lambda self, portions: self.waiting.extend(reversed(list(portions))))


def settle_dead_letters_before_they_are_stored(patch: pytest.MonkeyPatch) -> None:
    bury = DeadLetters._bury

    def eagerly(self: DeadLetters, spec: object, stored: object, portion: Portion, *rest: object) -> None:
        bury(self, spec, stored, portion, *rest)  # type: ignore[arg-type]
        self._settle(portion)

    patch.setattr(DeadLetters, "_bury", eagerly)


def believe_in_dead_letters_the_disk_refused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DeadLetters, "void", DeadLetters.rolled)


def deliver_poison_for_ever(patch: pytest.MonkeyPatch) -> None:
    again = Deliveries._again
    patch.setattr(Deliveries, "_again", lambda self, portion, reason, **_: again(self, portion, reason, counts=False))


def do_not_record_a_seek(patch: pytest.MonkeyPatch) -> None:
    record = Groups._record

    def recording(self: Groups, body: GroupRecord, *rest: object) -> int:
        return -1 if body.spec.generation > 1 else record(self, body, *rest)  # type: ignore[arg-type]

    patch.setattr(Groups, "_record", recording)


def keep_changes_the_disk_refused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Groups, "_put_back", lambda self, name: lambda: None)


def forget_the_deleted(patch: pytest.MonkeyPatch) -> None:
    group = GroupFold.group
    patch.setattr(GroupFold, "deleted", lambda self, deleted: None)
    patch.setattr(
        GroupFold, "group", lambda self, record, *state: None if record.deleted else group(self, record, *state)
    )


def deliver_while_paused(patch: pytest.MonkeyPatch) -> None:
    pump = Dispatcher.pump

    def pumping(self: Dispatcher, *rest: object) -> int:
        options = self.deliveries.options
        self.deliveries.options = msgspec.structs.replace(options, paused=False)
        sent = pump(self, *rest)  # type: ignore[arg-type]
        self.deliveries.options = options
        return sent

    patch.setattr(Dispatcher, "pump", pumping)


def let_members_keep_what_they_hold_after_a_seek(patch: pytest.MonkeyPatch) -> None:
    """The settlement goes on from where it was."""
    make = Groups._make

    def making(self: Groups, spec: object, now_ns: int) -> Group:
        before = self.get(spec.name)  # type: ignore[attr-defined]
        group = make(self, spec, now_ns)  # type: ignore[arg-type]
        if before is not None:
            group.settlement.restore(before.settlement.state())
        return group

    patch.setattr(Groups, "_make", making)


def wait_for_no_former_owner(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Handovers, "barred", lambda self, group, batch: 0)


def release_slots_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Releases, "_open", lambda self, group, mark: 0)


def release_slots_before_the_table_is_here(patch: pytest.MonkeyPatch) -> None:
    ask = Ask.__init__

    def asking(self: Ask, session: bytes, message: p.AskSlots) -> None:
        ask(self, session, p.AskSlots(message.request, 0, message.slots))

    patch.setattr(Ask, "__init__", asking)


def release_what_waits_for_its_turn(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Group, "first_tries", lambda self: iter(self.deliveries.in_flight))


def release_what_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Group, "first_tries", lambda self: iter(self.deliveries.queued))


def believe_that_no_table_was_missed(patch: pytest.MonkeyPatch) -> None:
    apply = Handovers.apply

    def applying(self: Handovers, version: int, route: object, now_ns: int) -> None:
        self._version = version - 1
        apply(self, version, route, now_ns)  # type: ignore[arg-type]

    patch.setattr(Handovers, "apply", applying)


def take_batches_placed_by_a_table_that_is_not_here(patch: pytest.MonkeyPatch) -> None:
    check = SlotOwners.check

    def checking(self: SlotOwners, batch: Batch, request: p.Publish, foreign: dict[int, str]) -> None:
        request = msgspec.structs.replace(request, table_version=min(self._version, request.table_version))
        check(self, batch, request, foreign)

    patch.setattr(SlotOwners, "check", checking)


def groups(seed: int) -> None:
    run_scenario("groups", seed, steps=300)


@pytest.mark.parametrize(
    ("ablation", "run"),
    [
        (let_keys_move_at_once, groups),
        (free_slots_in_any_order, groups),
        (settle_dead_letters_before_they_are_stored, groups),
        (believe_in_dead_letters_the_disk_refused, groups),
        (deliver_poison_for_ever, groups),
        (do_not_record_a_seek, groups),
        (keep_changes_the_disk_refused, groups),
        (forget_the_deleted, groups),
        (deliver_while_paused, groups),
        (let_members_keep_what_they_hold_after_a_seek, groups),
        (wait_for_no_former_owner, run_handover),
        (release_slots_at_once, run_handover),
        (release_slots_before_the_table_is_here, run_handover),
        (release_what_waits_for_its_turn, run_handover),
        (release_what_is_in_flight, run_handover),
        (believe_that_no_table_was_missed, run_handover),
        (take_batches_placed_by_a_table_that_is_not_here, run_handover),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_rule_taken_away_is_noticed(
    ablation: Callable[[pytest.MonkeyPatch], None], run: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
):
    ablation(monkeypatch)
    for seed in range(SEEDS):
        try:
            run(seed)
        except AssertionError as noticed:
            print(f"noticed with seed {seed}: {noticed}")
            monkeypatch.undo()
            run(seed)  # it was the rule that was missing, nothing else
            return
    pytest.fail(f"{SEEDS} runs without {ablation.__name__} were as good as with it")
