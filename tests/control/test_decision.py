"""Decisions are kept in the store with their directives: what another version wrote must stay readable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from fedbus.control.decision import Decision, Level, SizeConsidered
from fedbus.control.directive import Directive

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = [(msgspec.json.encode, msgspec.json.decode), (msgspec.msgpack.encode, msgspec.msgpack.decode)]
FULL = Decision(
    target=3,
    size="small",
    levels=(Level("forecast", 3, "the load grows"), Level("reactive", 2, "seen")),
    sizes=(SizeConsidered(size="small", instances=3, cost_per_hour=0.3, holds=True, chosen=True),),
)


@pytest.mark.parametrize(("encode", "decode"), FORMATS)
@pytest.mark.parametrize("kind", [Decision, Level, SizeConsidered])
def test_a_decision_of_a_version_that_knew_fewer_fields_is_readable(
    encode: Callable[[object], bytes], decode: Callable[..., object], kind: type[msgspec.Struct]
) -> None:
    full = msgspec.to_builtins({Decision: FULL, Level: FULL.levels[0], SizeConsidered: FULL.sizes[0]}[kind])
    for field in kind.__struct_fields__:
        older = {name: value for name, value in full.items() if name != field}
        assert isinstance(decode(encode(older), type=kind), kind), field
    assert decode(encode({}), type=kind) == kind()


@pytest.mark.parametrize(("encode", "decode"), FORMATS)
def test_a_directive_carries_its_decision_through_the_store(
    encode: Callable[[object], bytes], decode: Callable[..., object]
) -> None:
    directive = Directive(
        id="d1", region="r", action="create", instance=None, size="small", cause="forecast", reason="growth",
        ordered_at_ns=1, plan_generation=1, decision=FULL,
    )  # fmt: skip
    assert decode(encode(directive), type=Directive) == directive
    newer = {**msgspec.to_builtins(directive), "decision": {**msgspec.to_builtins(FULL), "of_a_newer_version": 1}}
    assert decode(encode(newer), type=Directive) == directive


def test_the_largest_wish_decides_and_without_any_there_is_none() -> None:
    assert FULL.decisive.cause == "forecast"
    assert Decision().decisive == Level()
