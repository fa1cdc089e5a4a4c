"""What an instance sends and keeps no account of: live subscriptions, and the links that other regions pull."""

from __future__ import annotations

from collections.abc import Iterator

from fedbus.broker import protocol as p
from fedbus.broker.effects import Send
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link_source import LinkSource
from fedbus.broker.live import Live
from fedbus.broker.memberships import Key
from fedbus.errors import NotFoundError, UnavailableError


class Streams:
    """All of an instance, by session and number. ``events_out``: sent by them since the start."""

    def __init__(self, ledgers: Ledgers) -> None:
        self.events_out = 0
        self._ledgers = ledgers
        self._streams: dict[Key, Live | LinkSource] = {}

    def __iter__(self) -> Iterator[Live | LinkSource]:
        return iter(self._streams.values())

    def add(self, stream: Live | LinkSource) -> None:
        """Another one; it takes the place of one of that session and number."""
        self._streams[stream.session, stream.number] = stream

    def credit(self, key: Key, events: int, most: int) -> bool:
        """More events (up to ``most``) may be sent; returns whether it is one of these."""
        stream = self._streams.get(key)
        if stream is None:
            return False
        stream.grant(events, most)
        self.events_out += stream.pump(self._ledgers, self._ledgers.effects)
        return True

    def pump(self) -> None:
        """Deliver whatever can be delivered now."""
        effects = self._ledgers.effects
        for stream in self._streams.values():
            self.events_out += stream.pump(self._ledgers, effects)

    def rolled(self) -> None:
        """Another ledger is being written: live ones scan it too, from its beginning."""
        for stream in self._streams.values():
            if isinstance(stream, Live) and self._ledgers.current:
                stream.cursor.positions.setdefault(self._ledgers.current, 0)

    def live_filters(self) -> list[str]:
        """What live subscriptions ask for."""
        live = [stream for stream in self._streams.values() if isinstance(stream, Live)]
        return sorted({pattern for stream in live for pattern in stream.filters.patterns})

    # -- the end of them -----------------------------------------------------------------------------------------------

    def discard(self, key: Key) -> None:
        """One ends, as its session wishes."""
        self._streams.pop(key, None)

    def discard_link(self, session: bytes, ledger: str) -> None:
        """A session pulls this ledger anew."""
        for key, older in list(self._streams.items()):
            if key[0] == session and isinstance(older, LinkSource) and older.ledger == ledger:
                del self._streams[key]

    def session_ended(self, session: bytes) -> None:
        """All of a session's end."""
        self._streams = {key: stream for key, stream in self._streams.items() if key[0] != session}

    def end_all(self, detail: str) -> None:
        """The instance hands nothing out any more."""
        for key in self._streams:
            self._ended(key, UnavailableError.code, detail)
        self._streams.clear()

    def end_live(self, detail: str) -> None:
        """Live ones are to start anew."""
        for key, stream in list(self._streams.items()):
            if isinstance(stream, Live):
                del self._streams[key]
                self._ended(key, UnavailableError.code, detail)

    def ledger_expired(self, ledger: str) -> None:
        """Nobody can pull it any more."""
        for key, stream in list(self._streams.items()):
            if isinstance(stream, LinkSource) and stream.ledger == ledger:
                del self._streams[key]
                self._ended(key, NotFoundError.code, f"ledger {ledger} has expired")

    def _ended(self, key: Key, code: str, detail: str) -> None:
        self._ledgers.effects.append(Send(key[0], p.Ended(key[1], code, detail)))
