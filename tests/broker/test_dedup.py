"""The dedup window: exact within, an error below, bounded, and the same after a restart."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker.dedup import DedupState, DedupWindow
from fedbus.errors import SequenceError

L0, L1 = "r/a/0", "r/b/0"


def filled(window: DedupWindow, producer: str, sequences, ledger: str = L0) -> DedupWindow:
    for number, sequence in enumerate(sequences):
        window.remember(producer, sequence, ledger, sequence * 10, 10, number)
    return window


def test_within_the_window_a_repeat_is_found_and_below_it_is_an_error():
    window = filled(DedupWindow(4, 10), "p", range(1, 11))
    assert [window.seen("p", s).first_offset for s in (7, 10)] == [70, 100]
    assert window.ledger(window.seen("p", 10)) == L0
    assert window.seen("p", 11) is None
    assert window.seen("other", 1) is None
    for sequence in (0, 1, 6):
        with pytest.raises(SequenceError, match="forgotten up to 6"):
            window.seen("p", sequence)


def test_producers_beyond_the_bound_get_an_error_and_never_a_second_copy():
    window = DedupWindow(4, 2)
    for producer in "abc":
        filled(window, producer, [1, 2])
    with pytest.raises(SequenceError):
        window.seen("a", 2)
    assert window.seen("a", 3) is None
    assert window.seen("c", 2) is not None


def test_entries_beyond_the_bound_go_from_the_longest_idle():
    window = DedupWindow(100, 100, max_entries=10)
    for producer in ("idle", "busy"):
        filled(window, producer, range(6))
    with pytest.raises(SequenceError):
        window.seen("idle", 5)
    assert window.seen("busy", 0) is not None


def test_what_was_never_stored_is_forgotten():
    window = filled(DedupWindow(10, 10), "p", range(5))
    filled(window, "q", [3], L1)
    assert window.forget_from(L0, 3) == {"p": 3}
    assert window.seen("p", 3) is None
    assert window.seen("p", 2) is not None
    assert window.seen("q", 3) is not None


def test_of_two_owners_the_highest_sequences_stay():
    ours = filled(DedupWindow(4, 10), "p", [1, 3, 5, 7])
    ours.restore(filled(DedupWindow(4, 10), "p", [2, 4, 6, 8], L1).snapshot())
    assert {s: ours.ledger(ours.seen("p", s)) for s in (5, 6, 7, 8)} == {5: L0, 6: L1, 7: L0, 8: L1}
    with pytest.raises(SequenceError):
        ours.seen("p", 4)
    filled(ours, "p", [9])
    assert ours.seen("p", 6) is not None


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.integers(0, 30)), max_size=60))
def test_a_snapshot_is_the_whole_state(published):
    def judge(window: DedupWindow, producer: str, sequence: int) -> object:
        try:
            entry = window.seen(producer, sequence)
        except SequenceError:
            return "below"
        return entry and (window.ledger(entry), entry.first_offset)

    window = DedupWindow(5, 2)
    for number, (producer, sequence) in enumerate(published):
        if judge(window, producer, sequence) is None:
            window.remember(producer, sequence, L0, number, 1, number)
    again = DedupWindow(5, 2)
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(window.snapshot()), type=DedupState))
    for producer in "pqr":
        for sequence in range(31):
            assert judge(again, producer, sequence) == judge(window, producer, sequence)


def test_a_full_snapshot_stays_far_below_a_frame():
    window = DedupWindow(1024, 65_536)
    for producer in range(200):
        filled(window, f"{producer:016x}", range(10**6, 10**6 + 700), "a-region.with-a-name/an-instance/123")
    assert len(msgspec.msgpack.encode(window.snapshot())) < 4 * 1024 * 1024
