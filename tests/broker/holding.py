"""Who holds which keyed event of a group, as seen from outside: what was delivered and not settled, given back or late.

Protocol rule 11: no two sessions hold events of one key at once, except for events that were given back in between.
"""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[str, int]  # origin ledger, offset


@dataclass
class Held:
    session: bytes
    key: int
    until_ns: int


class Holding:
    """One group's."""

    def __init__(self, deadline_ms: int) -> None:
        self._deadline_ns = deadline_ms * 1_000_000
        self._held: dict[Place, Held] = {}

    def delivered(self, place: Place, key: int, session: bytes, now_ns: int) -> None:
        """Keyed events only."""
        self._held[place] = Held(session, key, now_ns + self._deadline_ns)

    def others(self, key: int, session: bytes, now_ns: int) -> list[tuple[bytes, Place]]:
        """What sessions other than this one hold of the key."""
        others = [(place, held) for place, held in self._held.items() if held.key == key and held.session != session]
        return [(held.session, place) for place, held in others if held.until_ns > now_ns]

    def settled(self, session: bytes, places: list[Place]) -> None:
        """Acknowledged (by anybody), or given back by who has it."""
        for place in places:
            self._held.pop(place, None)

    def given_back(self, session: bytes, places: list[Place]) -> None:
        """By this session."""
        for place in places:
            if (held := self._held.get(place)) is not None and held.session == session:
                del self._held[place]

    def extended(self, places: list[Place], now_ns: int) -> None:
        """More time."""
        for place in places:
            if (held := self._held.get(place)) is not None and held.until_ns > now_ns:
                held.until_ns = now_ns + self._deadline_ns

    def gone(self, session: bytes) -> None:
        """The session has ended (or soon will: nobody hears it any more)."""
        self._held = {place: held for place, held in self._held.items() if held.session != session}

    def clear(self) -> None:
        """All of it is void."""
        self._held.clear()
