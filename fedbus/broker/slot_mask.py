"""Sets of key slots as integers of 4,096 bits: joined and compared at once, 512 bytes on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fedbus.keys import SLOTS, slot_of

NO_SLOTS = 0
ALL_SLOTS = (1 << SLOTS) - 1
MASK_BYTES = SLOTS // 8


def mask_of(slots: Iterable[int]) -> int:
    """The set of these slots."""
    bits = bytearray(MASK_BYTES)
    for slot in slots:
        bits[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(bits, "little")


def mask_of_keys(keys: Iterable[int]) -> int:
    """The slots of these key hashes; 0 (no key) has none."""
    return mask_of(slot_of(key) for key in set(keys) if key)


def slots_in(mask: int) -> Iterator[int]:
    """The slots of a set, ascending."""
    for at, byte in enumerate(mask.to_bytes(MASK_BYTES, "little")):
        if byte:
            yield from (at * 8 + bit for bit in range(8) if byte >> bit & 1)


def to_bytes(mask: int) -> bytes:
    """As it travels."""
    return mask.to_bytes(MASK_BYTES, "little")


def from_bytes(data: bytes) -> int:
    """What :func:`to_bytes` made; of longer ones the rest is ignored."""
    return int.from_bytes(data[:MASK_BYTES], "little")
