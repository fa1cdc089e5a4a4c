"""Calls between managers: a request and its answer, at most so many under way, none waited for without end.

A request is sent once. No answer in time means that what became of it is unknown, unless the error says otherwise.
What a method means is left to the shell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from fedbus.control import peering_effects as e
from fedbus.control.peer import Peer
from fedbus.control.peer_messages import Answer, Request
from fedbus.control.peer_voice import Voice
from fedbus.errors import FedbusError, NotFoundError, OverloadedError, UnavailableError, from_code

REMEMBERED = 256


class Waiting(msgspec.Struct, frozen=True):
    """A call under way to a region."""

    region: str
    method: str
    deadline_ns: int


class OutgoingCalls:
    """What this region has asked others, by call."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[int, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, call: int, waiting: Waiting) -> FedbusError | None:
        """Remember a call; the error if there are too many of that region."""
        if sum(each.region == waiting.region for each in self._waiting.values()) >= self._most:
            return OverloadedError(
                f"{self._most} calls to region {waiting.region} are under way; nothing was asked", retry_after_ms=500
            )
        self._waiting[call] = waiting
        return None

    def end(self, call: int, region: str) -> bool:
        """An answer of that region; False if nobody waits for it (any more)."""
        waiting = self._waiting.get(call)
        if waiting is None or waiting.region != region:
            return False
        del self._waiting[call]
        return True

    def give_up(self, reason: Callable[[Waiting], str]) -> list[tuple[int, FedbusError]]:
        """End those for which there is a reason to wait no longer."""
        ended: list[tuple[int, FedbusError]] = []
        for call, waiting in list(self._waiting.items()):
            if why := reason(waiting):
                del self._waiting[call]
                detail = f"{waiting.method} at region {waiting.region}: {why}; whether it was done is unknown"
                ended.append((call, UnavailableError(detail, retry_after_ms=1000)))
        return ended


class IncomingCalls:
    """What one peer has asked and waits for; a request that arrives twice counts once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._generation = 0
        self._working: set[int] = set()
        self._seen: deque[int] = deque(maxlen=REMEMBERED)

    def begin(self, generation: int, call: int) -> bool | None:
        """Whether the call is to be carried out; ``None``: there are too many."""
        if generation != self._generation:
            self._generation = generation
            self._working.clear()
            self._seen.clear()
        if call in self._seen:
            return False
        self._seen.append(call)
        if len(self._working) >= self._most:
            return None
        self._working.add(call)
        return True

    def end(self, generation: int, call: int) -> bool:
        """Whether the one that asked still waits for this."""
        if generation != self._generation or call not in self._working:
            return False
        self._working.remove(call)
        return True


class PeerCalls:
    """All calls of one region, its own and those of its ``peers``; ``most`` under way each way with each of them."""

    def __init__(self, voice: Voice, peers: Mapping[str, Peer], most: int) -> None:
        self._voice = voice
        self._peers = peers
        self._most = most
        self._outgoing = OutgoingCalls(most)
        self._incoming: dict[str, IncomingCalls] = {}

    def call(self, call: e.Call, now_ns: int) -> list[e.Effect]:
        """Ask another region, or say at once why that is no use."""
        try:
            self._check_present(call.region)
            request = self._voice.say(call.region, Request(call.call, call.method, call.arguments))
        except FedbusError as error:
            return [e.Answered(call.call, error=error)]
        waiting = Waiting(call.region, call.method, now_ns + call.timeout_ns)
        refused = self._outgoing.begin(call.call, waiting)
        return [e.Answered(call.call, error=refused)] if refused is not None else [request]

    def _check_present(self, region: str) -> None:
        peer = self._peers.get(region)
        if peer is None:
            known = ", ".join(sorted(self._peers)) or "no other"
            raise NotFoundError(f"region {self._voice.region} knows no region {region}; it knows {known}")
        if not peer.present:
            raise UnavailableError(f"region {region} does not answer; nothing was asked", retry_after_ms=1000)

    def give_up(self, now_ns: int) -> list[e.Effect]:
        """End the calls to which no answer will come, or none in time."""

        def reason(waiting: Waiting) -> str:
            peer = self._peers.get(waiting.region)
            if peer is None or peer.lost_since_ns is not None:
                return "the region is lost"
            return "no answer in time" if now_ns >= waiting.deadline_ns else ""

        return [e.Answered(call, error=error) for call, error in self._outgoing.give_up(reason)]

    def answered(self, region: str, answer: Answer) -> e.Answered | None:
        """An answer arrived; ``None``: nobody waits for it (any more)."""
        if answer.generation != self._voice.generation or not self._outgoing.end(answer.call, region):
            return None
        if answer.code:
            error = from_code(answer.code, answer.detail, retry_after_ms=answer.retry_after_ms)
            return e.Answered(answer.call, error=error)
        return e.Answered(answer.call, answer.value)

    def requested(self, region: str, generation: int, request: Request) -> e.Effect | None:
        """Another region asks; ``None``: it has asked that before."""
        begun = self._incoming.setdefault(region, IncomingCalls(self._most)).begin(generation, request.call)
        if begun is None:
            busy = OverloadedError(f"region {self._voice.region} is answering others", retry_after_ms=500)
            return self._voice.say(region, _failure(generation, request.call, busy))
        if not begun:
            return None
        return e.Perform(region, generation, request.call, request.method, request.arguments)

    def performed(self, done: e.Performed, _: int) -> list[e.Effect]:
        """The answer to one that has asked, if it is still there."""
        asked = self._incoming.get(done.region)
        if asked is None or not asked.end(done.generation, done.call) or done.region not in self._peers:
            return []
        try:
            if done.error is not None:
                raise done.error
            return [self._voice.say(done.region, Answer(done.generation, done.call, done.value))]
        except FedbusError as error:
            return [self._voice.say(done.region, _failure(done.generation, done.call, error))]


def _failure(generation: int, call: int, error: FedbusError) -> Answer:
    return Answer(generation, call, code=error.code, detail=error.detail, retry_after_ms=error.retry_after_ms)
