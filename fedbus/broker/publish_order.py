"""Order per key in spite of refusals: what a producer sent behind a refused batch is refused until that came again.

The order is that in which the batches were made: a part of a batch, cut off later, has the place of the whole, and ends
the waiting for its own keys. Only what has key slots in common with the refused batch waits for it, and only for a
moment: a producer may also give that batch up, or send it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.errors import OverloadedError
from fedbus.keys import slot_of

RETRY_MS = 50
HOLD_NS = 5_000_000_000  # a client on a busy machine comes again late; whoever gave the batch up delays its own keys
ALL_SLOTS = -1
MAX_HELD = 64  # refused batches of one producer; beyond that the first of them stands for all

Hold = tuple[int, int]  # key slots (a bit each), until when


class PublishOrder:
    """Of each producer its refused batches, by their place in its order. ``most``: producers kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, dict[int, Hold]] = {}

    def check(self, producer: str, order: int, keys: Iterable[int], now_ns: int) -> None:
        """Raise :class:`OverloadedError` if another batch of this producer comes first."""
        held = self._held.get(producer)
        if held is None:
            return
        slots = slots_of(keys)
        for first, (waiting, until_ns) in held.items():
            if first < order and waiting & slots and now_ns < until_ns:
                detail = f"batch {first} of this producer was refused and comes first"
                raise OverloadedError(detail, retry_after_ms=RETRY_MS)
        waiting, until_ns = held.pop(order, (0, 0))
        if waiting != ALL_SLOTS and waiting & ~slots:  # another part of the same batch may still come
            held[order] = (waiting & ~slots, until_ns)
        if not held:
            del self._held[producer]

    def hold(self, producer: str, order: int, slots: int, now_ns: int) -> None:
        """A batch with keys in these slots was refused and may come again."""
        held = _waiting(self._held.get(producer, {}), now_ns)
        held[order] = (held.get(order, (0, 0))[0] | slots, now_ns + HOLD_NS)
        self._held[producer] = held if len(held) <= MAX_HELD else {min(held): (ALL_SLOTS, now_ns + HOLD_NS)}
        if len(self._held) > self._most:
            self._held = {name: left for name, held in self._held.items() if (left := _waiting(held, now_ns))}


def slots_of(keys: Iterable[int]) -> int:
    """The slots of these key hashes (0: no key), a bit each."""
    slots = 0
    for slot in {slot_of(hashed) for hashed in set(keys) if hashed}:
        slots |= 1 << slot
    return slots


def _waiting(held: dict[int, Hold], now_ns: int) -> dict[int, Hold]:
    return {order: hold for order, hold in held.items() if hold[1] > now_ns}
