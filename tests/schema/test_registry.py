"""The registry's state machine: against a model, against other writers, and rebuilt from its rows."""

from __future__ import annotations

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fedbus.schema.commands import LEVELS, ClearLevel, DeleteSubject, DeleteVersion, SetLevel
from fedbus.schema.limits import SUBJECT_BYTES
from fedbus.schema.refusal import ContendedError, RegistryError
from fedbus.schema.registry import Registry
from fedbus.schema.rows import GLOBAL, Change
from fedbus.schema.state import LATEST, Which
from fedbus.schema.store import MemorySchemaStore

TEXTS = [json.dumps({"type": kind}) for kind in ("integer", "string", "object", "array")]
SUBJECTS = st.sampled_from(["orders-value", "orders/eu", "zoo"])


def code_of(call) -> int | None:
    try:
        call()
    except RegistryError as error:
        return error.error_code
    return None


class Model(RuleBasedStateMachine):
    """Two registries over one store, used in turn, against dictionaries."""

    def __init__(self):
        super().__init__()
        self.store = MemorySchemaStore()
        self.registries = [Registry(self.store), Registry(self.store)]
        self.turn = 0
        self.versions: dict[str, dict[int, tuple[str, bool]]] = {}  # subject → version → (text, deleted)
        self.ids: dict[str, int] = {}

    def registry(self) -> Registry:
        self.turn += 1
        return self.registries[self.turn % 2]

    @rule(subject=SUBJECTS, text=st.sampled_from(TEXTS))
    def register(self, subject, text):
        held = self.versions.setdefault(subject, {})
        living = [number for number, (other, deleted) in held.items() if other == text and not deleted]
        done = self.registry().register(subject, "JSON", text)
        assert done.created == (not living)
        assert done.version.version == (living[-1] if living else max(held, default=0) + 1)
        assert done.version.id == self.ids.setdefault(text, len(self.ids) + 1)
        held[done.version.version] = (text, False)

    @rule(subject=SUBJECTS, permanent=st.booleans())
    def delete_subject(self, subject, permanent):
        held = self.versions.get(subject, {})
        living = [number for number, (_, deleted) in held.items() if not deleted]
        call = lambda: self.registry().handle(DeleteSubject(subject, permanent))  # noqa: E731
        if not held:
            assert code_of(call) == 40401
        elif permanent and living:
            assert code_of(call) == 40405
        elif permanent:
            assert call() == sorted(held)
            del self.versions[subject]
        elif not living:
            assert code_of(call) == 40404
        else:
            assert call() == living
            self.versions[subject] = {number: (text, True) for number, (text, _) in held.items()}

    @rule(subject=SUBJECTS, version=st.integers(1, 4) | st.just(LATEST), permanent=st.booleans())
    def delete_version(self, subject, version, permanent):
        held = self.versions.get(subject, {})
        number = max(held, default=0) if version == LATEST else version
        call = lambda: self.registry().handle(DeleteVersion(subject, version, permanent))  # noqa: E731
        if not held:
            assert code_of(call) == 40401
        elif number not in held:
            assert code_of(call) == 40402
        elif held[number][1] != permanent:
            assert code_of(call) == (40407 if permanent else 40406)
        else:
            assert call() == number
            if permanent:
                del held[number]
            else:
                held[number] = (held[number][0], True)

    @invariant()
    def every_registry_says_the_same_as_the_model(self):
        for registry in (*self.registries, Registry(self.store)):
            state = registry.read()
            for subject, held in self.versions.items():
                living = [number for number, (_, deleted) in sorted(held.items()) if not deleted]
                assert [row.version for row in state.versions(subject)] == living
                assert [row.version for row in state.versions(subject, Which.ALL)] == sorted(held)
                for number, (text, _) in held.items():
                    row = state.version(subject, number, Which.ALL)
                    assert (row.id, state.text(row.id)) == (self.ids[text], text)
                if living:
                    assert state.latest()[subject].version == living[-1]
                else:
                    assert subject not in state.latest()
            used = {self.ids[text] for held in self.versions.values() for text, _ in held.values()}
            for schema_id in self.ids.values():
                assert (code_of(lambda s=state, i=schema_id: s.text(i)) is None) == (schema_id in used)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestModel = Model.TestCase


@pytest.fixture
def registry():
    return Registry(MemorySchemaStore())


def test_the_same_schema_has_one_id_in_all_subjects_and_spellings(registry):
    first = registry.register("a", "JSON", '{"type":"object","title":"x"}')
    again = registry.register("b", "JSON", '{ "title": "x", "type": "object" }')
    assert (again.version.id, again.version.version) == (first.version.id, 1)
    assert again.version.text == first.version.text


def test_an_id_is_never_given_to_another_schema(registry):
    first = registry.register("a", "JSON", TEXTS[0]).version.id
    registry.handle(DeleteSubject("a"))
    registry.handle(DeleteSubject("a", permanent=True))
    assert registry.register("a", "JSON", TEXTS[1]).version.id != first
    assert registry.register("a", "JSON", TEXTS[0]).version.id == first


class Racing(MemorySchemaStore):
    """A store in which somebody else commits first, ``losses`` times."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    def commit(self, expected_revision: int, change: Change) -> bool:
        if self.losses:
            self.losses -= 1
            other = Registry(MemorySchemaStore.__new__(MemorySchemaStore))
            other._store = _Direct(self)
            other.register(f"other{self.losses}", "JSON", json.dumps({"title": str(self.losses)}))
        return super().commit(expected_revision, change)


class _Direct:
    def __init__(self, store: Racing) -> None:
        self.revision, self.load = store.revision, store.load
        self.commit = lambda expected, change: MemorySchemaStore.commit(store, expected, change)


def test_a_lost_race_is_decided_again_on_what_the_winner_wrote():
    store = Racing(losses=3)
    done = Registry(store).register("mine", "JSON", TEXTS[0])
    assert done.version.id == 4
    assert Registry(store).read().subjects() == ["mine", "other0", "other1", "other2"]


def test_losing_again_and_again_is_a_retryable_refusal():
    store = Racing(losses=1000)
    with pytest.raises(ContendedError) as caught:
        Registry(store).register("mine", "JSON", TEXTS[0])
    assert caught.value.retryable
    assert "mine" not in Registry(store).read().subjects()


def test_levels_that_promise_checks_are_refused_until_the_checks_exist(registry):
    assert registry.read().level() == "NONE"
    for level in LEVELS:
        code = code_of(lambda level=level: registry.handle(SetLevel(GLOBAL, level)))
        assert code == (None if level == "NONE" else 42205)
    assert code_of(lambda: registry.handle(SetLevel("a", "SIDEWAYS"))) == 42203


def test_a_subjects_level_is_its_own_until_cleared(registry):
    assert code_of(lambda: registry.read().level("a")) == 40408
    assert registry.read().level("a", default_to_global=True) == "NONE"
    assert registry.handle(SetLevel("a", "none")) == "NONE"
    assert registry.read().level("a") == "NONE"
    assert registry.handle(ClearLevel("a")) == "NONE"
    assert code_of(lambda: registry.handle(ClearLevel("a"))) == 40408
    assert registry.handle(ClearLevel(GLOBAL)) == "NONE"


def test_deleting_a_subject_for_good_takes_its_level_along(registry):
    registry.register("a", "JSON", "true")
    registry.handle(SetLevel("a", "NONE"))
    registry.handle(DeleteSubject("a"))
    assert registry.read().level("a") == "NONE"
    registry.handle(DeleteSubject("a", permanent=True))
    assert code_of(lambda: registry.read().level("a")) == 40408


@pytest.mark.parametrize(
    "name", ["", "__GLOBAL", "__EMPTY", "*", ":.ctx:a", ":*:", "a\nb", "a\x00", "x" * (SUBJECT_BYTES + 1)]
)
def test_names_no_subject_may_have(registry, name):
    assert code_of(lambda: registry.register(name, "JSON", "true")) == 42208


def test_the_default_context_may_be_spelled_out(registry):
    assert registry.register(":.:a", "JSON", "true").version.subject == "a"


@pytest.mark.parametrize("name", ["orders-value", "a/b", "ä ö", "a%2Fb", "com.example.Order"])
def test_names_a_subject_may_have(registry, name):
    assert registry.register(name, "JSON", "true").version.subject == name


def test_nothing_is_stored_of_a_bad_schema(registry):
    assert code_of(lambda: registry.register("a", "JSON", '{"type": "strng"}')) == 42201
    assert registry.read().revision == 0
