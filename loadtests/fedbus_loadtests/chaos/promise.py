"""The promise: what a run holds the bus to. A region of one copy promises less than one of two, and says so."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]


class Promise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Recorded as the first entry of a run, so that a history can be judged by itself.

    ``replicas``: with 1, events on a disk that was lost or damaged may be missing, if that was reported.
    ``synchronous``: filters of topics of which a region that is lost takes nothing with it. ``share_s``: other regions
    know of an acknowledgement after so long, and ``meet_s`` after a healing of all there were meanwhile. ``heal_s``: so
    many seconds after a healing publishing succeeds again (of a region: there). ``settle_s``: so long after a fault or
    a healing others may still take over, and count deliveries anew. Fewer events, deliveries or faults than
    ``least_…`` prove nothing.
    """

    replicas: Literal[1, 2, 3] = 1
    synchronous: tuple[str, ...] = ()
    share_s: float = 0.0
    meet_s: float = 0.0
    heal_s: float = 30.0
    settle_s: float = 0.0
    least_published: Count = 100
    least_delivered: Count = 100
    least_faults: Count = 0

    def encode(self) -> str:
        """As the detail of an entry."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> Promise:
        """Of an entry's detail."""
        return msgspec.json.decode(text, type=cls)
