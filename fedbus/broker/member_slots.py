"""Which member of a group takes the events of which key slots, and how a batch falls apart by that.

Looking up events costs little: a table over the low half of a key hash translates a whole key column at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from operator import itemgetter

from fedbus.broker.member import Member
from fedbus.broker.slot_mask import mask_of, slots_in
from fedbus.broker.stored import Stored
from fedbus.keys import SLOTS, assign_slots, slot_of

Share = tuple[Member, Sequence[int]]

_ALIASES = 0x10000 // SLOTS  # a table over the low 16 bits of a hash: they are read from the key column without masking
_UNSURE = 254  # slot 0 of a table: either the slot or "no key"
_BARRED = 255
_TABLE_MEMBERS = 254
_NOBODY: Sequence[int] = ()


class MemberSlots:
    """The key slots of these members, by rendezvous hashing over their ids; what is derived is made when it is asked.

    When other members take events there is another one of this.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._slots: Sequence[int] | None = None
        self._tables: tuple[int, bytes] | None = None  # what is barred, and the table for it

    def masks(self) -> dict[Member, int]:
        """Per member its key slots, as a set."""
        slots: dict[int, list[int]] = {}
        for slot, place in enumerate(self._owners()):
            slots.setdefault(place, []).append(slot)
        return {member: mask_of(slots.get(place, ())) for place, member in enumerate(self._members)}

    def _owners(self) -> Sequence[int]:
        if self._slots is None:
            self._slots = assign_slots([member.name for member in self._members])
        return self._slots

    def split(
        self, stored: Stored, places: Sequence[int], barred: int
    ) -> tuple[list[Share], Sequence[int], Sequence[int]]:
        """Per member its places; those of barred slots; those without a key."""
        if not places:
            return [], _NOBODY, _NOBODY
        if len(self._members) > _TABLE_MEMBERS:
            return self._split_one_by_one(stored, places, barred)
        low: Sequence[int] = stored.low_keys
        if len(places) == 1:
            low = (low[places[0]],)
        elif len(places) < stored.batch.count:
            low = itemgetter(*places)(low)
        owners = bytes(map(self._table(barred).__getitem__, low))
        if _UNSURE in owners:
            return self._split_one_by_one(stored, places, barred)
        shares: list[Share] = [
            (member, list(compress(places, owners.translate(_is(at)))))
            for at, member in enumerate(self._members)
            if at in owners
        ]
        held = list(compress(places, owners.translate(_is(_BARRED)))) if barred and _BARRED in owners else _NOBODY
        return shares, held, _NOBODY

    def _split_one_by_one(
        self, stored: Stored, places: Sequence[int], barred: int
    ) -> tuple[list[Share], Sequence[int], Sequence[int]]:
        keys, owners = stored.batch.keys, self._owners()
        shares: dict[int, list[int]] = {}
        free: list[int] = []
        held: list[int] = []
        for place in places:
            if not (key := keys[place]):
                free.append(place)
            elif barred >> slot_of(key) & 1:
                held.append(place)
            else:
                shares.setdefault(owners[slot_of(key)], []).append(place)
        found: list[Share] = [(self._members[at], share) for at, share in sorted(shares.items())]
        return found, held, free

    def _table(self, barred: int) -> bytes:
        """Per low half of a key hash whose it is."""
        if self._tables is None or self._tables[0] != barred:
            table = bytearray(list(self._owners()))  # the items of the array, not its bytes
            for slot in slots_in(barred):
                table[slot] = _BARRED
            whole = bytearray(table * _ALIASES)
            whole[0] = _UNSURE
            self._tables = barred, bytes(whole)
        return self._tables[1]


@lru_cache(maxsize=256)
def _is(value: int) -> bytes:
    """A translation that makes 1 of this byte and 0 of all others."""
    return bytes(int(byte == value) for byte in range(256))
