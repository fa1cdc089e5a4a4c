"""Keys, slots and rendezvous hashing: which owner an event with a key goes to.

A key hashes to 32 bits (0 is kept for "no key"), the hash to one of 4,096 slots, and a slot to the owner with the
highest pseudo-random score (rendezvous hashing; Thaler & Ravishankar 1998), so that a change of owners moves only the
slots of those that came or went. Everybody who knows the owners' names computes the same answer without talking.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b, shake_128

SLOTS = 4096
NO_OWNER = 0xFFFF


def key_hash(key: str) -> int:
    """32-bit hash of a key; never 0, which means "no key"."""
    return zlib.crc32(key.encode()) or 1


def identity_hash(source: str, id: str) -> int:
    """64-bit hash of an event's identity; its low 32 bits are not 0 either, so that they can stand for a key."""
    digest = blake2b(f"{len(source)}:{source}{id}".encode(), digest_size=8).digest()
    hashed = int.from_bytes(digest, "little")
    return hashed if hashed & 0xFFFFFFFF else hashed | 1


def slot_of(hashed: int) -> int:
    """The slot (0..4095) of a non-zero key hash."""
    return hashed & (SLOTS - 1)


@lru_cache(maxsize=4096)
def _scores(owner: str) -> array[int]:
    """One 64-bit score per slot. One call into C per owner instead of one hash per (owner, slot)."""
    return array("Q", shake_128(owner.encode()).digest(SLOTS * 8))


def assign_slots(owners: Sequence[str]) -> array[int]:
    """For each slot the index (into ``owners``) of its owner, as unsigned 16-bit; all ``NO_OWNER`` without owners.

    Depends on the set of names, not on their order: ties go to the smaller name.
    """
    if not owners:
        return array("H", [NO_OWNER]) * SLOTS
    order = sorted(range(len(owners)), key=lambda i: owners[i])
    columns = [_scores(owners[i]) for i in order]
    return array("H", [order[max(range(len(order)), key=row.__getitem__)] for row in zip(*columns, strict=True)])


def best_owner(slot: int, owners: Sequence[str]) -> int:
    """Which of ``owners`` (its index; at least one) :func:`assign_slots` would give this slot to."""
    return min(range(len(owners)), key=lambda i: (-_scores(owners[i])[slot], owners[i]))
