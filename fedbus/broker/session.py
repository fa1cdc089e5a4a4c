"""Sessions: who is connected to an instance, and for how long they may be silent."""

from __future__ import annotations

from collections.abc import Iterator

from fedbus.broker import protocol as p
from fedbus.errors import OverloadedError, ProtocolError, TooLargeError

SESSION_TIMEOUT_MS = 10_000


class Session:
    """One connection that has said hello."""

    __slots__ = ("hello", "id", "last_heard_ns", "peer")

    def __init__(self, session: bytes, hello: p.Hello, peer: str, now_ns: int) -> None:
        self.id = session
        self.hello = hello
        self.peer = peer  # the region it has proven to belong to; empty within the own one
        self.last_heard_ns = now_ns


class Sessions:
    """All sessions of an instance, bounded; the silent ones expire."""

    def __init__(self, most: int, name_bytes: int, timeout_ms: int = SESSION_TIMEOUT_MS) -> None:
        self._most = most
        self._name_bytes = name_bytes
        self._sessions: dict[bytes, Session] = {}
        self.timeout_ms = timeout_ms

    def open(self, session: bytes, hello: p.Hello, now_ns: int, peer: str = "") -> int:
        """Begin (or begin anew); returns the protocol version both speak."""
        if peer and hello.region != peer:
            raise ProtocolError(f"{hello.name} says that it is of {hello.region}, and its key that it is of {peer}")
        if max(len(hello.name), len(hello.kind), len(hello.region)) > self._name_bytes:
            raise TooLargeError(f"the names in a hello have up to {self._name_bytes} bytes")
        version = min(hello.newest_version, p.PROTOCOL_VERSION)
        if version < max(hello.oldest_version, p.OLDEST_PROTOCOL_VERSION):
            raise ProtocolError(
                f"{hello.name} speaks protocol {hello.oldest_version}..{hello.newest_version}, this instance "
                f"{p.OLDEST_PROTOCOL_VERSION}..{p.PROTOCOL_VERSION}: upgrade the older side"
            )
        if session not in self._sessions and len(self._sessions) >= self._most:
            raise OverloadedError(f"this instance already has its {self._most} sessions", retry_after_ms=1000)
        self._sessions[session] = Session(session, hello, peer, now_ns)
        return version

    def heard(self, session: bytes, now_ns: int) -> Session | None:
        """The session a message came from, its silence ended; ``None`` if it never said hello."""
        known = self._sessions.get(session)
        if known is not None:
            known.last_heard_ns = now_ns
        return known

    def heard_ns(self, session: bytes) -> int:
        """When a session was heard last; 0: there is none."""
        known = self._sessions.get(session)
        return known.last_heard_ns if known is not None else 0

    def close(self, session: bytes) -> bool:
        """Forget it; whether it was known."""
        return self._sessions.pop(session, None) is not None

    def expired(self, now_ns: int) -> list[bytes]:
        """Sessions that were silent for too long."""
        limit_ns = now_ns - self.timeout_ms * 1_000_000
        return [session.id for session in self._sessions.values() if session.last_heard_ns < limit_ns]

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def __len__(self) -> int:
        return len(self._sessions)
