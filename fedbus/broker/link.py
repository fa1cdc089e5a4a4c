"""Links: one region pulls from another the topics that somebody there wants (protocol rules 18, 19).

For each origin ledger the receiver remembers, per filter, how far it was scanned. The origin sends the event at offset
o exactly if some filter that takes it was scanned no further than o and none was scanned beyond it; so each event
crosses once, also when filters are added later and backfilled. Only events that were born in the origin's region are
offered (one hop). The receiver's own ledger carries origin positions and progress, so a restarted link goes on where it
was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from fedbus.batch import Batch, Buffer
from fedbus.broker import protocol as p
from fedbus.broker.effects import Effect, PeerLink, Send, SendPeer
from fedbus.broker.feed import Feed
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link_progress import LinkProgress
from fedbus.broker.peers import BEAT_NS, SILENCE_NS, Peers
from fedbus.broker.record import EventsMeta, Kind, Origin, encode_body
from fedbus.broker.stored import Stored
from fedbus.errors import ProtocolError
from fedbus.topic import FilterSet

LINK_CREDIT_EVENTS = 20_000
EMPTY_STEP_EVENTS = 10_000  # without matches a link reports progress at least this often
MAX_FILTERS = 4096  # of one pull: each is matched against every topic
NO_PULL = 0
TOPICS_REMEMBERED = 16_384  # of one pull


class LinkSource:
    """The origin's side of one link: streams one of its ledgers from where the receiver's filters were scanned to."""

    def __init__(self, session: bytes, pull: p.Pull, feed: Feed, window_bytes: int) -> None:
        if len(pull.filters) > MAX_FILTERS or any(each.scanned_to < 0 for each in pull.filters):
            raise ProtocolError(f"a pull has up to {MAX_FILTERS} filters, scanned to 0 or beyond")
        self.session = session
        self.number = pull.subscription
        self.credit = max(0, pull.credit)
        self.ledger = pull.ledger
        self._window_bytes = window_bytes
        self._under_way: deque[tuple[int, int]] = deque()  # (events, bytes) of what was sent and not credited again
        self._under_way_bytes = 0
        self._filters = [(FilterSet([f.pattern], remembered=1), f.scanned_to, f.wanted) for f in pull.filters]
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
        """Send what can be sent now; returns how many events."""
        end = ledgers.end(self.ledger)
        sent = 0
        while self.credit > 0 and self._under_way_bytes < self._window_bytes and self._next < end:
            stored = self._feed.at(self.ledger, self._next)
            if stored is None:
                blank = self._feed.blank_until(self.ledger, self._next)
                if blank == self._next:
                    break
                self._next = blank
                continue
            chosen = self._chosen(stored)
            places = chosen[: self.credit]
            whole = len(places) == len(chosen)
            after = stored.next_offset if whole else stored.first_offset + places[-1] + 1
            if places:
                sent += len(places)
                self._send(effects, stored, places, after)
            self._next = after
            if self._next - self._reported >= EMPTY_STEP_EVENTS:
                self._report(effects)
        if self._next == end and self._reported < self._next:
            self._report(effects)
        return sent

    def _chosen(self, stored: Stored) -> list[int]:
        if stored.origin is not None:  # linked here from elsewhere: one hop only
            return []
        topics, topic_of = stored.batch.topics, stored.batch.topic_of
        since = [self._since(topic) for topic in topics]
        first = stored.first_offset
        return [
            place
            for place in range(max(0, self._next - first), stored.batch.count)
            if 0 <= since[topic_of[place]] <= first + place
        ]

    def _since(self, topic: str) -> int:
        """From which offset on events of this topic are to be forwarded; -1: they are not wanted."""
        known = self._since_of.get(topic)
        if known is not None:
            return known
        matching = [(scanned, wanted) for filters, scanned, wanted in self._filters if filters.matches(topic)]
        since = max(scanned for scanned, _ in matching) if any(wanted for _, wanted in matching) else -1
        if len(self._since_of) >= TOPICS_REMEMBERED:
            self._since_of.clear()
        self._since_of[topic] = since
        return since

    def _send(self, effects: list[Effect], stored: Stored, places: list[int], after: int) -> None:
        batch, ranges = stored.batch.select(places), stored.ranges(places)
        self.credit -= batch.count
        self._under_way.append((batch.count, len(batch.payload)))
        self._under_way_bytes += len(batch.payload)
        deliver = p.Deliver(self.number, self.ledger, ranges, after, scanned_from=self._reported, flags=stored.flags)
        effects.append(Send(self.session, deliver, (batch.index_bytes, batch.payload)))
        self._reported = after

    def _report(self, effects: list[Effect]) -> None:
        deliver = p.Deliver(self.number, self.ledger, [], self._next, scanned_from=self._reported)
        effects.append(Send(self.session, deliver, (b"", b"")))
        self._reported = self._next


class LinkTarget:
    """The receiver's side of one link.

    ``expected``: from where the next deliver must have scanned. ``since``: per filter, from where on the next record
    will answer for the origin (in between nothing was found); unknown before the first pull.
    """

    def __init__(self, link: PeerLink, number: int) -> None:
        self.link = link
        self.number = number
        self.expected = 0
        self.since: dict[str, int] = {}
        self.patterns = [want.pattern for want in link.wants]
        self.heard_ns = 0


class LinkTargets:
    """All links this instance holds."""

    def __init__(self, ledgers: Ledgers, peers: Peers) -> None:
        self.linked_events = 0
        self.progress = LinkProgress()
        self._ledgers = ledgers
        self._peers = peers
        self._targets: dict[str, LinkTarget] = {}
        self._numbers = 0
        self._stalled: set[str] = set()  # to be pulled again when there is room
        self._known_topics: set[str] = set()
        self._next_beat_ns = 0

    def apply(self, links: Sequence[PeerLink], now_ns: int) -> None:
        """Hold exactly these links from now on."""
        wanted = {link.ledger: link for link in links}
        for ledger, target in list(self._targets.items()):
            if wanted.get(ledger) != target.link:
                del self._targets[ledger]
                self._peers.send(target.link.endpoint, p.Unsubscribe(0, target.number))
        for ledger, link in wanted.items():
            if ledger not in self._targets:
                self._numbers += 1
                self._targets[ledger] = target = LinkTarget(link, self._numbers)
                self._peers.dial(link.endpoint, now_ns)
                self._pull(target, now_ns)
        self._peers.keep("links", {target.link.endpoint for target in self._targets.values()}, now_ns)

    def received(self, endpoint: str, message: p.FromInstance, frames: Sequence[Buffer], now_ns: int) -> None:
        """A message from an origin instance; raises :class:`ProtocolError` on what it may not say."""
        if isinstance(message, p.Welcome):
            for target in self._at(endpoint):
                self._pull(target, now_ns)
        elif isinstance(message, p.Deliver):
            for target in self._at(endpoint):
                if target.number == message.subscription:
                    self._take(target, message, frames, now_ns)

    def _take(self, target: LinkTarget, deliver: p.Deliver, frames: Sequence[Buffer], now_ns: int) -> None:
        ledger = target.link.ledger
        target.heard_ns = now_ns
        if ledger in self._stalled:
            return
        if deliver.ledger != ledger or deliver.scanned_from != target.expected:
            self._pull(target, now_ns)  # something was lost on the way: say again from where to go on
            return
        if (
            self._ledgers.full or not self._ledgers.writable
        ):  # bounded memory: leave it at the origin and pull again later
            self._stalled.add(ledger)
            return
        try:
            count = self._checked(deliver, frames)
        except ProtocolError:
            self._stalled.add(ledger)
            raise
        target.expected = deliver.next_offset
        if count:
            self._append(target, deliver, count, frames, now_ns)
        else:
            self.progress.advance(ledger, target.patterns, deliver.next_offset)

    def _checked(self, deliver: p.Deliver, frames: Sequence[Buffer]) -> int:
        """How many events came; raises :class:`ProtocolError` unless they are where the deliver says."""
        ends = [deliver.scanned_from, *(at for each in deliver.ranges for at in each), deliver.next_offset]
        count = sum(end - start for start, end in deliver.ranges)
        stored = Batch.checked(frames[1], frames[2], self._known_topics).count if count else 0
        if ends != sorted(ends) or stored != count:
            raise ProtocolError(f"a link of {deliver.ledger} brought {stored} events for the offsets {deliver.ranges}")
        return count

    def _append(
        self, target: LinkTarget, deliver: p.Deliver, count: int, frames: Sequence[Buffer], now_ns: int
    ) -> None:
        since, scanned_to = target.since, deliver.next_offset
        scanned_from = min(deliver.scanned_from, *since.values())
        origin = Origin(deliver.ledger, deliver.ranges, scanned_from, scanned_to, since)
        meta = EventsMeta(origin=origin, flags=deliver.flags & p.POSSIBLE_DUPLICATE)
        record = self._ledgers.append(
            Kind.EVENTS, now_ns, count=count, meta=encode_body(meta), index=frames[1], payload=frames[2]
        )
        # Only behind the record: a snapshot that went before it must not say that it is there.
        self.progress.recorded(record.number, deliver.ledger, target.patterns, scanned_to)
        target.since = {pattern: max(at, scanned_to) for pattern, at in since.items()}
        again = SendPeer(target.link.endpoint, p.Credit(target.number, count))
        self._ledgers.answer_when_confirmed(record.number, again)
        self.linked_events += count

    def void(self, now_ns: int) -> None:
        """What was unconfirmed was never stored: go back to what is, and pull from there."""
        for ledger in self.progress.void():
            self._stalled.add(ledger)
            if ledger in self._targets:
                self._targets[ledger].since = {}
        self._repull(now_ns)

    def _repull(self, now_ns: int) -> None:
        if self._stalled and self._ledgers.writable and not self._ledgers.full:
            stalled, self._stalled = self._stalled, set()
            for target in self._targets.values():
                if target.link.ledger in stalled:
                    self._pull(target, now_ns)

    def tick(self, now_ns: int) -> None:
        """Heartbeats, pulls that were answered by nothing, and progress that no event carried."""
        self._repull(now_ns)
        if now_ns < self._next_beat_ns:
            return
        self._next_beat_ns = now_ns + BEAT_NS
        for target in self._targets.values():
            if now_ns - target.heard_ns > SILENCE_NS:  # nothing is new, or something got lost
                self._pull(target, now_ns)
        if self._ledgers.writable and (scanned := self.progress.take_dirty()):
            self._ledgers.append(Kind.SCANNED, now_ns, payload=encode_body(scanned))

    def _pull(self, target: LinkTarget, now_ns: int) -> None:
        """Ask for what is missing, if a session stands; delivers of an earlier pull are known by their number."""
        ledger, endpoint = target.link.ledger, target.link.endpoint
        target.number = NO_PULL  # what is still on its way is not expected any more
        if not self._peers.ready(endpoint):
            return
        reached = self.progress.of(ledger)
        for want in target.link.wants:
            reached.setdefault(want.pattern, want.scanned_to)
        self._numbers += 1
        target.number = self._numbers
        target.expected = min((reached[pattern] for pattern in target.patterns), default=0)
        target.since = target.since or self.progress.answers_from(ledger, target.patterns)
        target.heard_ns = now_ns
        filters = [p.LinkFilter(pattern, reached[pattern]) for pattern in target.patterns]
        dropped = self.progress.dropped(ledger, target.patterns)
        filters += [p.LinkFilter(pattern, at, wanted=False) for pattern, at in dropped.items()]
        self._peers.send(endpoint, p.Pull(target.number, target.number, ledger, filters, LINK_CREDIT_EVENTS))

    def _at(self, endpoint: str) -> list[LinkTarget]:
        return [target for target in self._targets.values() if target.link.endpoint == endpoint]
