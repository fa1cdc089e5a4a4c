"""Positions: where an event is, everywhere and for ever.

An event's position is (ledger, offset) of the ledger it was *born* in; it keeps that position in every region it is
linked to. A cursor is one position per ledger: what a stream of several ledgers needs to go on.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from fedbus.errors import InvalidPositionError

_LEDGER_PARTS = 3  # region/instance/epoch
_MAX_DIGITS = 19  # what fits 63 bits
_cursor_decoder = msgspec.msgpack.Decoder(dict[str, int])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


class LedgerId(NamedTuple):
    """The name of a ledger, ``region/instance/epoch``; an instance writes one ledger in each incarnation."""

    region: str
    instance: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.region}/{self.instance}/{self.epoch}"

    @classmethod
    def parse(cls, text: str) -> LedgerId:
        """Read ``region/instance/epoch``; raises :class:`InvalidPositionError`."""
        parts = text.split("/")
        if len(parts) != _LEDGER_PARTS or not all(parts) or not _is_number(parts[2]):
            raise InvalidPositionError(f"{text!r} is not a ledger: expected region/instance/epoch")
        return cls(parts[0], parts[1], int(parts[2]))


class Position(NamedTuple):
    """(ledger, offset); offsets count events from 0. Text form ``region/instance/epoch:offset``."""

    ledger: str
    offset: int

    def __str__(self) -> str:
        return f"{self.ledger}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the text form; raises :class:`InvalidPositionError`."""
        ledger, colon, offset = text.rpartition(":")
        if not colon or not _is_number(offset):
            raise InvalidPositionError(f"{text!r} is not a position: expected region/instance/epoch:offset")
        return cls(str(LedgerId.parse(ledger)), int(offset))


def encode_cursor(offsets: Mapping[str, int]) -> str:
    """An opaque, URL-safe text for the next offset wanted of each ledger."""
    return urlsafe_b64encode(msgspec.msgpack.encode(dict(sorted(offsets.items())))).decode().rstrip("=")


def decode_cursor(text: str) -> dict[str, int]:
    """The next offset of each ledger; raises :class:`InvalidPositionError` on what is no :func:`encode_cursor` text."""
    try:
        offsets = _cursor_decoder.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise InvalidPositionError(f"{text[:60]!r} is not a cursor of this bus ({error})") from None
    if any(offset < 0 for offset in offsets.values()):
        raise InvalidPositionError(f"{text[:60]!r} is not a cursor of this bus (an offset is negative)")
    return offsets
