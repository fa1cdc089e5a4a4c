"""What a trigger makes one expect: one occurrence, and the load in each slot of it, with the words that explain it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from fedbus.control.load import NS_PER_S
from fedbus.control.wish import clock_time, rate

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Where the load comes from: what people said, what earlier occurrences brought, or a burst that nobody announced.
Origin = Literal["announced", "learned", "detected"]


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The load of one occurrence from ``start_ns`` on: ``eps`` has events/s per slot of ``slot_s``, 0 where none.

    It is a floor for what is provided (a margin for noise included), never a reason to provide less. ``confidence``
    is 1 for what was announced.
    """

    trigger: str
    title: str
    origin: Origin
    start_ns: int
    slot_s: int
    eps: tuple[float, ...]
    why: str
    confidence: float = 1.0

    def between(self, start_ns: int, end_ns: int) -> tuple[float, int]:
        """The largest load of the slots that touch [start_ns, end_ns), and when that begins; (0, start) if none."""
        slot_ns = self.slot_s * NS_PER_S
        first = max(0, (start_ns - self.start_ns) // slot_ns)
        last = min(len(self.eps), -(-(end_ns - self.start_ns) // slot_ns))
        if first >= last:
            return 0.0, start_ns
        slot = max(range(first, last), key=self.eps.__getitem__)
        return self.eps[slot], max(start_ns, self.start_ns + slot * slot_ns)


def largest(expected: Iterable[Expected], start_ns: int, end_ns: int) -> tuple[float, int, str] | None:
    """The largest load expected in [start_ns, end_ns): events/s, when, and why; None if no trigger asks for any."""
    found = [(*each.between(start_ns, end_ns), each) for each in expected]
    if not found:
        return None
    eps, at_ns, decisive = max(found, key=lambda entry: (entry[0], -entry[1], entry[2].trigger))
    if eps <= 0:
        return None
    why = f"trigger {decisive.title!r} is expected to bring {rate(eps)} at {clock_time(at_ns)} ({decisive.why})"
    return eps, at_ns, why
