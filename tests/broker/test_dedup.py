"""The dedup window: exact within, an error below, bounded, and the same after a restart."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker.dedup import MAX_WRITERS, UNRECORDED, DedupState, DedupWindow, DedupWindows, LedgerNames
from fedbus.errors import RejectedTryError, SequenceError

L0, L1 = "r/a/0", "r/b/0"


def filled(windows: DedupWindows, producer: str, sequences, ledger: str = L0) -> DedupWindows:
    for number, sequence in enumerate(sequences):
        windows.of(ledger).remember(producer, sequence, ledger, sequence * 10, 10, number)
    return windows


def small(per_producer: int, producers: int) -> DedupWindows:
    return DedupWindows("r/a", per_producer, producers)


def again(windows: DedupWindows, per_producer: int = 10, producers: int = 10) -> DedupWindows:
    """What the snapshot of these windows makes."""
    restored = small(per_producer, producers)
    restored.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(windows.snapshot()), type=DedupState))
    return restored


def test_within_the_window_a_repeat_is_found_and_below_it_is_an_error():
    window = filled(small(4, 10), "p", range(1, 11))
    assert [window.seen("p", s).first_offset for s in (7, 10)] == [70, 100]
    assert window.ledger(window.seen("p", 10)) == L0
    assert window.seen("p", 11) is None
    assert window.seen("other", 1) is None
    for sequence in (0, 1, 6):
        with pytest.raises(SequenceError, match="forgotten up to 6"):
            window.seen("p", sequence)


def test_producers_beyond_the_bound_get_an_error_and_never_a_second_copy():
    window = small(4, 2)
    for producer in "abc":
        filled(window, producer, [1, 2])
    with pytest.raises(SequenceError):
        window.seen("a", 2)
    assert window.seen("a", 3) is None
    assert window.seen("c", 2) is not None


def test_entries_beyond_the_bound_go_from_the_longest_idle():
    window = DedupWindow("r/a", LedgerNames(), 100, 100, max_entries=10)
    for producer in ("idle", "busy"):
        for sequence in range(6):
            window.remember(producer, sequence, L0, sequence, 1, sequence)
    with pytest.raises(SequenceError):
        window.seen("idle", 5)
    assert window.seen("busy", 0) is not None


def test_what_was_never_stored_is_forgotten():
    windows = filled(small(10, 10), "p", range(5))
    filled(windows, "q", [3], L1)
    assert windows.own.forget_from(L0, 3) == [("p", 3), ("p", 4)]
    assert windows.seen("p", 3) is None
    assert windows.seen("p", 2) is not None
    assert windows.seen("q", 3) is not None


def test_a_writers_window_that_was_taken_over_is_its_own():
    """The same batch may be in both owners' ledgers, under the same sequence: each knows what it has."""
    ours = again(filled(filled(small(4, 10), "p", [1, 3, 5, 7]), "p", [5, 6], L1))
    assert {s: ours.ledger(ours.seen("p", s)) for s in (3, 5, 6, 7)} == {3: L0, 5: L0, 6: L1, 7: L0}
    assert ours.of(L1).seen("p", 5) is not None
    assert ours.of(L1).seen("p", 7) is None
    filled(ours, "p", range(7, 30), L1)
    assert ours.seen("p", 2) is None, "what their window forgot does not concern ours"
    with pytest.raises(SequenceError):
        ours.of(L1).seen("p", 5)


def test_of_many_writers_taken_over_the_first_are_forgotten_and_say_so():
    windows = small(4, 10)
    for n in range(MAX_WRITERS + 2):
        taken = DedupWindows(f"r/w{n}", 4, 10)
        windows.restore(filled(taken, "p", [n + 1], f"r/w{n}/3").snapshot())
    for ours in (windows, again(windows)):
        with pytest.raises(SequenceError):
            ours.of("r/w1/3").seen("p", 2)
        assert ours.of("r/w2/3").seen("p", 3) is not None
        assert ours.seen("p", 99) is None, "what others forgot is no error for the own producers"


def test_a_promise_never_to_store_a_try_survives_a_snapshot_and_a_full_disk():
    windows = small(4, 10)
    promise = windows.own.reject("p", 3, below=2)
    assert promise.number == UNRECORDED
    promise.number = 9
    windows.own.forget_from(L0, 9)
    assert promise.number == UNRECORDED, "its record is gone: to be written anew"
    for own in (windows.own, again(windows).own):
        with pytest.raises(RejectedTryError):
            own.check_not_rejected("p", 3, attempt=1)
        own.check_not_rejected("p", 3, attempt=2)
        own.check_not_rejected("p", 4, attempt=0)
    assert windows.own.reject("p", 3, below=1) is promise, "what was promised is not taken back"


def test_promises_are_bounded_and_what_goes_becomes_an_error():
    windows = small(3, 2)
    for sequence in range(1, 6):
        windows.own.reject("p", sequence, below=2)
    with pytest.raises(SequenceError):
        windows.own.seen("p", 2)
    assert windows.own.seen("p", 3) is None
    windows.own.reject("q", 1, below=2)
    windows.own.reject("r", 1, below=2)
    with pytest.raises(SequenceError):
        windows.own.seen("p", 5)


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.integers(0, 30)), max_size=60))
def test_a_snapshot_is_the_whole_state(published):
    def judge(windows: DedupWindows, producer: str, sequence: int) -> object:
        try:
            entry = windows.seen(producer, sequence)
        except SequenceError:
            return "below"
        return entry and (windows.ledger(entry), entry.first_offset)

    windows = small(5, 2)
    for number, (producer, sequence) in enumerate(published):
        if judge(windows, producer, sequence) is None:
            windows.own.remember(producer, sequence, L0, number, 1, number)
    restored = again(windows, 5, 2)
    for producer in "pqr":
        for sequence in range(31):
            assert judge(restored, producer, sequence) == judge(windows, producer, sequence)


def test_a_full_snapshot_stays_far_below_a_frame():
    windows = small(1024, 65_536)
    for producer in range(200):
        filled(windows, f"{producer:016x}", range(10**6, 10**6 + 700), "a-region.with-a-name/an-instance/123")
    assert len(msgspec.msgpack.encode(windows.snapshot())) < 4 * 1024 * 1024
