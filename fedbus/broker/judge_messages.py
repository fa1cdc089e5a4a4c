"""What instances say about earlier tries of batches that one of them withholds (protocol rule 10)."""

from __future__ import annotations

import msgspec

from fedbus.broker.message import Message

NOT_STORED, STORED, FORGOTTEN, WAITING = 0, 1, 2, 3
"""Fates. Forgotten: below the dedup window, nobody knows any more; waiting: stored, but no second region has it yet
(rule 20), so that it does not count: ask again."""


class Try(msgspec.Struct, frozen=True, array_like=True):
    """A batch as whoever withholds a later copy asks about it: was a try with an attempt below ``below`` stored."""

    producer: str
    sequence: int
    below: int


class Reject(Message, frozen=True):
    """From an instance that withholds batches: store none of these tries from now on, and say which were stored.

    ``ledger``: where they may be; only who serves it answers (``Judged``), when that is durable.
    """

    request: int
    ledger: str
    tries: list[Try]


class Judged(Message, frozen=True):
    """What became of the tries of a ``Reject``, in order: one of the fates each."""

    request: int
    fates: list[int]
