"""The origin's side of a link: one of its ledgers, streamed from where the receiver's filters were scanned to.

The receiver says per filter how far the ledger was scanned; sent is the event at offset o exactly if some wanted filter
that takes it was scanned no further than o and none was scanned beyond it. Only events that were born in this ledger
are offered (one hop), and none of a topic that is pinned to other regions (protocol rules 18, 19).
"""

from __future__ import annotations

from collections import deque

from fedbus.broker import protocol as p
from fedbus.broker.effects import Effect, Send
from fedbus.broker.feed import Feed
from fedbus.broker.ledger import Ledgers
from fedbus.broker.policies import Policies
from fedbus.broker.stored import Stored
from fedbus.errors import ProtocolError
from fedbus.topic import FilterSet

EMPTY_STEP_EVENTS = 10_000  # without matches a link reports progress at least this often
MAX_FILTERS = 4096  # of one pull: each is matched against every topic
TOPICS_REMEMBERED = 16_384  # of one pull
MAX_OFFSET = 2**63
TURN_BYTES = 1024 * 1024  # what one link sends before it is others' turn


class LinkSource:
    """One pull of a session. ``region``: of the session; what is pinned elsewhere is not offered to it."""

    def __init__(
        self, session: bytes, pull: p.Pull, feed: Feed, window_bytes: int, policies: Policies, region: str
    ) -> None:
        if len(pull.filters) > MAX_FILTERS or any(each.scanned_to < 0 for each in pull.filters):
            raise ProtocolError(f"a pull has up to {MAX_FILTERS} filters, scanned to 0 or beyond")
        self.session = session
        self.number = pull.subscription
        self.credit = max(0, pull.credit)
        self.ledger = pull.ledger
        self._until = pull.until
        self._window_bytes = min(window_bytes, pull.window_bytes) if pull.window_bytes > 0 else window_bytes
        self._under_way: deque[tuple[int, int]] = deque()  # (events, bytes) of what was sent and not credited again
        self._under_way_bytes = 0
        self._filters = [(FilterSet([f.pattern], remembered=1), f.scanned_to, f.wanted) for f in pull.filters]
        self._policies = policies
        self._policies_version = policies.version
        self._region = region
        self._since_of: dict[str, int] = {}  # by topic, a bounded number
        self._feed = feed
        self._next = self._reported = min((f.scanned_to for f in pull.filters if f.wanted), default=0)

    @property
    def reached(self) -> int:
        """Everything before this offset was sent."""
        return self._next

    def grant(self, events: int, most: int) -> None:
        """More credit: the receiver has so many events in its ledger."""
        self.credit = min(most, self.credit + events)
        while self._under_way and events >= self._under_way[0][0]:
            count, size_bytes = self._under_way.popleft()
            events -= count
            self._under_way_bytes -= size_bytes

    def pump(self, ledgers: Ledgers, effects: list[Effect]) -> int:
        """Send what can be sent now, up to one turn's worth; returns how many events."""
        end = min(ledgers.end(self.ledger), self._until or MAX_OFFSET)
        sent = 0
        turn_bytes = self._under_way_bytes + TURN_BYTES
        while self.credit > 0 and self._under_way_bytes < min(self._window_bytes, turn_bytes) and self._next < end:
            stored = self._feed.at(self.ledger, self._next)
            if stored is None:
                blank = self._feed.blank_until(self.ledger, self._next)
                if blank == self._next:
                    break
                ledgers.hidden.unreadable(self.ledger, self._next, blank)
                self._next = blank
                continue
            if stored.first_offset > self._next:
                ledgers.hidden.unreadable(self.ledger, self._next, stored.first_offset)
            chosen = self._chosen(stored, end)
            places = chosen[: self.credit]
            whole = len(places) == len(chosen)
            after = min(stored.next_offset, end) if whole else stored.first_offset + places[-1] + 1
            if places:
                sent += len(places)
                self._send(effects, stored, places, after)
            self._next = after
            if self._next - self._reported >= EMPTY_STEP_EVENTS:
                self._report(effects)
        if self._next == end and self._reported < self._next:
            self._report(effects)
        return sent

    def _chosen(self, stored: Stored, end: int) -> range | list[int]:
        if stored.origin is not None or stored.stays:  # linked here from elsewhere: one hop only
            return []
        topics, first = stored.batch.topics, stored.first_offset
        since = [self._since(topic) for topic in topics]
        start, stop = max(0, self._next - first), min(stored.batch.count, end - first)
        if min(since) >= 0 and max(since) <= first + start:
            return range(start, stop)
        if max(since) < 0:
            return []
        topic_of = stored.batch.topic_of
        return [place for place in range(start, stop) if 0 <= since[topic_of[place]] <= first + place]

    def _since(self, topic: str) -> int:
        """From which offset on events of this topic are to be forwarded; -1: they are not wanted, or not offered."""
        if self._policies_version != self._policies.version:
            self._policies_version = self._policies.version
            self._since_of.clear()
        known = self._since_of.get(topic)
        if known is not None:
            return known
        matching = [(scanned, wanted) for filters, scanned, wanted in self._filters if filters.matches(topic)]
        since = max(scanned for scanned, _ in matching) if any(wanted for _, wanted in matching) else -1
        if not self._policies.stored_in(topic, self._region):
            since = -1
        if len(self._since_of) >= TOPICS_REMEMBERED:
            self._since_of.clear()
        self._since_of[topic] = since
        return since

    def _send(self, effects: list[Effect], stored: Stored, places: range | list[int], after: int) -> None:
        batch, ranges = stored.batch.select(places), stored.ranges(places)
        self.credit -= batch.count
        size_bytes = len(batch.payload) + len(batch.index_bytes)
        self._under_way.append((batch.count, size_bytes))
        self._under_way_bytes += size_bytes
        deliver = p.Deliver(
            self.number, self.ledger, ranges, after, scanned_from=self._reported, flags=stored.flags,
            time_ms=stored.time_ms,
        )  # fmt: skip
        effects.append(Send(self.session, deliver, (batch.index_bytes, batch.payload)))
        self._reported = after

    def _report(self, effects: list[Effect]) -> None:
        deliver = p.Deliver(self.number, self.ledger, [], self._next, scanned_from=self._reported)
        effects.append(Send(self.session, deliver, (b"", b"")))
        self._reported = self._next
