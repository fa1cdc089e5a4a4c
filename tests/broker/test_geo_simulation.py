"""Rule 20: what a topic wants in a second region is acknowledged and dispatched only when it is there.

Each rule is taken away in turn: the simulation must notice, else it does not test that rule.
"""

from collections.abc import Callable, Iterable

import pytest

from fedbus.broker.effects import Effect, Send, SendPeer
from fedbus.broker.geo_batches import GeoBatches
from fedbus.broker.geo_durability import GeoDurability
from fedbus.broker.geo_targets import GeoTargets, Target
from fedbus.broker.hidden import Hidden
from fedbus.broker.intake import Intake
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link_progress import LinkProgress
from fedbus.broker.record import Record
from fedbus.broker.withheld_portions import WithheldPortions
from tests.broker.geo_run import run_geo

SEEDS = 300


@pytest.mark.parametrize("seed", range(60))
def test_what_counts_is_in_a_second_region(seed: int):
    run_geo(seed)


def answer_before_a_second_region_has_it(patch: pytest.MonkeyPatch) -> None:
    def at_once(self: GeoDurability, answer: Send, number: int, batch: object, places: object) -> None:
        self._ledgers.answer_when_confirmed(number, answer)

    patch.setattr(GeoDurability, "answer", at_once)


def answer_a_retry_when_this_region_has_it(patch: pytest.MonkeyPatch) -> None:
    answer = GeoDurability.answer

    def retries(self: GeoDurability, published: Send, number: int, batch: object, places: Iterable[object]) -> None:
        duplicate = getattr(published.message, "duplicate", False)
        answer(self, published, number, batch, [] if duplicate else places)  # type: ignore[arg-type]

    patch.setattr(GeoDurability, "answer", retries)


def dispatch_before_a_second_region_has_it(patch: pytest.MonkeyPatch) -> None:
    def shown(self: Hidden, ledger: str, offset: int, *, link: bool = False) -> int:
        return self._withheld.until(ledger, offset)

    patch.setattr(Hidden, "until", shown)


def say_durable_before_the_disk_has_it(patch: pytest.MonkeyPatch) -> None:
    confirmed = Ledgers.answer_when_confirmed

    def at_once(self: Ledgers, number: int, answer: Effect) -> None:
        confirmed(self, -1 if isinstance(answer, SendPeer) else number, answer)

    patch.setattr(Ledgers, "answer_when_confirmed", at_once)


def pull_with_progress_the_disk_does_not_have(patch: pytest.MonkeyPatch) -> None:
    def running(self: LinkProgress, ledger: str, patterns: list[str]) -> int:
        return min((self.of(ledger).get(pattern, 0) for pattern in patterns), default=0)

    patch.setattr(LinkProgress, "durable_to", running)


def count_what_its_filters_do_not_take(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Target, "has", lambda self, topic, first, end: self.durable_to >= end)


def count_any_region(patch: pytest.MonkeyPatch) -> None:
    have = GeoTargets.have

    def any_region(self: GeoTargets, ledger: str, topic: str, first: int, end: int, chosen: object) -> bool:
        return have(self, ledger, topic, first, end, ())

    patch.setattr(GeoTargets, "have", any_region)


def count_one_topic_for_all_of_a_batch(patch: pytest.MonkeyPatch) -> None:
    stored = GeoBatches._add

    def first(self: GeoBatches, batch: object) -> None:
        del batch.topics[1:]  # type: ignore[attr-defined]
        stored(self, batch)  # type: ignore[arg-type]

    patch.setattr(GeoBatches, "_add", first)


def forget_what_waits_in_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GeoBatches, "restore", lambda self, state: None)


def forget_the_flag_of_records(patch: pytest.MonkeyPatch) -> None:
    fold = Intake.fold

    def plain(self: Intake, ledger: str, record: Record) -> None:
        stored, self._ledgers.geo.stored = self._ledgers.geo.stored, lambda *_: None  # type: ignore[method-assign]
        fold(self, ledger, record)
        self._ledgers.geo.stored = stored  # type: ignore[method-assign]

    patch.setattr(Intake, "fold", plain)


def do_without_when_no_region_is_there(patch: pytest.MonkeyPatch) -> None:
    asks = GeoDurability.concerns
    patch.setattr(GeoDurability, "check", lambda self, batch, now_ns: None)

    def there(self: GeoDurability, topics: Iterable[str]) -> bool:
        known = list(topics)
        return asks(self, known) and all(self.targets.regions(topic, (), "", self._now_ms * 10**6) for topic in known)

    patch.setattr(GeoDurability, "concerns", there)


def owe_answers_for_what_was_never_stored(patch: pytest.MonkeyPatch) -> None:
    def waits_on(self: GeoDurability) -> list[Send]:
        self._batches.drop(self._ledgers.current, self._ledgers.confirmed_offset)
        return []

    patch.setattr(GeoDurability, "void", waits_on)


def keep_what_was_never_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GeoBatches, "drop", lambda self, ledger, start: None)


def let_the_key_of_a_hidden_batch_go_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WithheldPortions, "slots_before", lambda self, turn: 0)


def hide_it_from_links_too(patch: pytest.MonkeyPatch) -> None:
    def hidden(self: Hidden, ledger: str, offset: int, *, link: bool = False) -> int:
        return max(self._withheld.until(ledger, offset), self._geo.until(ledger, offset))

    patch.setattr(Hidden, "until", hidden)


@pytest.mark.parametrize(
    "ablation",
    [
        answer_before_a_second_region_has_it,
        answer_a_retry_when_this_region_has_it,
        dispatch_before_a_second_region_has_it,
        say_durable_before_the_disk_has_it,
        pull_with_progress_the_disk_does_not_have,
        count_what_its_filters_do_not_take,
        count_any_region,
        count_one_topic_for_all_of_a_batch,
        forget_what_waits_in_a_snapshot,
        forget_the_flag_of_records,
        do_without_when_no_region_is_there,
        owe_answers_for_what_was_never_stored,
        keep_what_was_never_stored,
        let_the_key_of_a_hidden_batch_go_on,
        hide_it_from_links_too,
    ],
    ids=lambda value: value.__name__,
)
def test_a_rule_taken_away_is_noticed(ablation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch):
    ablation(monkeypatch)
    for seed in range(SEEDS):
        try:
            run_geo(seed)
        except AssertionError as noticed:
            print(f"noticed with seed {seed}: {noticed}")
            monkeypatch.undo()
            run_geo(seed)  # it was the rule that was missing, nothing else
            return
    pytest.fail(f"{SEEDS} runs without {ablation.__name__} were as good as with it")
