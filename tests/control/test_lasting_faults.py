"""Faults that do not go away: the plan neither grows with them nor stands still for ever."""

import msgspec
import pytest

from fedbus.control.replication import Grant, answer, plan
from tests.control.ledger_world import SECOND
from tests.control.test_replication import NOW, SILENT, ensemble, held, holder, kinds, record, view


def test_a_member_that_comes_and_goes_does_not_lengthen_the_record_for_ever():
    known = record()
    for turn in range(40):
        silent = ("r/b2",) if turn % 2 == 0 else ()
        holders = [holder("b1"), holder("b2", present=turn % 2 == 1)]
        got = answer(
            view([known], holders), "r/b1", msgspec.structs.replace(ensemble(7 + turn, *silent), version=known.version)
        )
        assert isinstance(got, Grant)
        known = msgspec.structs.replace(got.record, version=known.version + 1)
    assert len(known.fragments) < 10
    assert all(known.writer in fragment.members for fragment in known.fragments)
    assert known.last.first_number == 46


@pytest.mark.parametrize(("back_soon", "expected"), [(True, []), (False, ["dispatch"])])
def test_damage_that_nobody_can_repair_does_not_keep_a_dispatchers_ledgers_from_everybody(back_soon, expected):
    ledgers = [record("b1", epoch, state="CLOSED", end_number=9, end_offset=9) for epoch in (1, 2)]
    rotten, sound = held(ledgers[0].id, 9, damaged=1), held(ledgers[1].id, 9)
    away = {"present": False, "silent_since_ns": NOW - SECOND} if back_soon else SILENT
    planned = plan(view(ledgers, [holder("b1", **away), holder("b2", rotten, sound)], replicas=1))
    assert [kind for kind in kinds(planned) if kind == "dispatch"] == expected
