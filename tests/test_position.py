"""Positions and cursors as text: what was written is read, anything else is a typed error."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.errors import InvalidPositionError
from fedbus.position import LedgerId, Position, decode_cursor, encode_cursor

name = st.text("abc.-1", min_size=1, max_size=9)
ledgers = st.builds(LedgerId, name, name, st.integers(0, 2**40))
cursors = st.dictionaries(ledgers.map(str), st.integers(0, 2**60), max_size=5)


@given(ledgers, st.integers(0, 2**60))
def test_a_position_is_read_back(ledger, offset):
    position = Position(str(ledger), offset)
    assert Position.parse(str(position)) == position
    assert LedgerId.parse(str(ledger)) == ledger


@given(cursors)
def test_a_cursor_is_read_back(cursor):
    assert decode_cursor(encode_cursor(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    ["", "a/b/1", "a/b/1:", "a/b:1", "a/b/c:1", "a//1:1", "a/b/1:-1", "a/b/1:1.5", "a/b/٣:1", "a/b/1:²", "a/b/c/1:1",
     "a/b/1:" + "9" * 5000, "a/b/" + "9" * 5000 + ":1"],
)  # fmt: skip
def test_what_is_no_position_is_refused(text):
    with pytest.raises(InvalidPositionError):
        Position.parse(text)


@given(st.text())
def test_any_text_is_a_position_or_a_typed_error(text):
    for parse in (Position.parse, LedgerId.parse, decode_cursor):
        with contextlib.suppress(InvalidPositionError):
            parse(text)


@pytest.mark.parametrize("text", ["x", "!!", "gaFh_w", encode_cursor({"a": -1}), "é", "A" * 5])
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(InvalidPositionError):
        decode_cursor(text)
