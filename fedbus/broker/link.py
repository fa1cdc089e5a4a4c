"""Links: one region pulls from another the topics that somebody there wants (protocol rules 18, 19).

For each origin ledger the receiver remembers, per filter, how far it was scanned. The origin sends the event at offset o
exactly if some filter that takes it was scanned no further than o and none was scanned beyond it; so each event crosses
once, also when filters are added later and backfilled. Only events that were born in the origin's region are offered (one
hop). The receiver's own ledger carries origin positions and progress, so a restarted link goes on where it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from fedbus.batch import Batch, Buffer
from fedbus.broker import protocol as p
from fedbus.broker.effects import Dial, Effect, HangUp, PeerLink, Send, SendPeer
from fedbus.broker.feed import Feed
from fedbus.broker.ledger import Ledgers
from fedbus.broker.record import EventsMeta, Kind, Origin, encode_body
from fedbus.broker.state import LinkScanned
from fedbus.broker.stored import Stored
from fedbus.errors import ProtocolError
from fedbus.topic import FilterSet

LINK_CREDIT_EVENTS = 20_000
EMPTY_STEP_EVENTS = 10_000  # without matches a link reports progress at least this often
SILENCE_MS = 3_000


class LinkSource:
    """The origin's side of one link: streams one of its ledgers from where the receiver's filters were scanned to."""

    def __init__(self, session: bytes, pull: p.Pull, feed: Feed) -> None:
        self.session = session
        self.number = pull.subscription
        self.credit = pull.credit
        self.ledger = pull.ledger
        self._filters = [(FilterSet([f.pattern]), f.scanned_to) for f in pull.filters]
        self._feed = feed
        self._next = self._reported = min((f.scanned_to for f in pull.filters), default=0)

    def pump(self, ledgers: Ledgers, effects: list[Effect]) -> int:
        """Send what can be sent now; returns how many events."""
        end = ledgers.end(self.ledger)
        sent = 0
        while self.credit > 0 and self._next < end:
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
                self._send(effects, stored.batch.select(places), stored.ranges(places), after)
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
        matching = [[scanned for filters, scanned in self._filters if filters.matches(topic)] for topic in topics]
        first = stored.first_offset
        return [
            place
            for place in range(max(0, self._next - first), stored.batch.count)
            if (scanned := matching[topic_of[place]]) and max(scanned) <= first + place
        ]

    def _send(self, effects: list[Effect], batch: Batch, ranges: list[tuple[int, int]], after: int) -> None:
        self.credit -= batch.count
        deliver = p.Deliver(self.number, self.ledger, ranges, after, scanned_from=self._reported)
        effects.append(Send(self.session, deliver, (batch.index_bytes, batch.payload)))
        self._reported = after

    def _report(self, effects: list[Effect]) -> None:
        deliver = p.Deliver(self.number, self.ledger, [], self._next, scanned_from=self._reported)
        effects.append(Send(self.session, deliver, (b"", b"")))
        self._reported = self._next


class LinkTarget:
    """The receiver's side of one link. ``expected``: from where the next deliver must have scanned."""

    def __init__(self, link: PeerLink, number: int) -> None:
        self.link = link
        self.number = number
        self.expected = 0
        self.patterns: list[str] = []
        self.pulled_ns = 0


class LinkTargets:
    """All links this instance holds, and how far each origin ledger was scanned (also of links it no longer holds)."""

    def __init__(self, name: str, region: str, ledgers: Ledgers) -> None:
        self._name = name
        self._region = region
        self._ledgers = ledgers
        self._targets: dict[str, LinkTarget] = {}
        self._numbers = 0
        self._heard_ns: dict[str, int] = {}
        self._welcomed: set[str] = set()
        self.scanned: dict[str, dict[str, int]] = {}
        self.linked_events = 0
        self._dirty: set[str] = set()
        self._stalled: set[str] = set()
        self._undo: deque[tuple[int, str, dict[str, int]]] = deque()  # record number, ledger, progress before it
        self._known_topics: set[str] = set()

    def apply(self, links: Sequence[PeerLink], now_ns: int) -> None:
        """Hold exactly these links from now on."""
        wanted = {link.ledger: link for link in links}
        for ledger in [each for each in self._targets if each not in wanted]:
            target = self._targets.pop(ledger)
            self._to(target.link.endpoint, p.Unsubscribe(0, target.number))
        for ledger, link in wanted.items():
            held = self._targets.get(ledger)
            if held is None or held.link != link:
                self._numbers += 1
                self._targets[ledger] = target = LinkTarget(link, self._numbers)
                self._dial(link.endpoint, now_ns)
                if link.endpoint in self._welcomed:
                    self._pull(target, now_ns)
        in_use = {target.link.endpoint for target in self._targets.values()}
        for endpoint in [each for each in self._heard_ns if each not in in_use]:
            del self._heard_ns[endpoint]
            self._welcomed.discard(endpoint)
            self._ledgers.effects.append(HangUp(endpoint))

    def received(self, endpoint: str, frames: Sequence[Buffer], now_ns: int) -> None:
        """A message from an origin instance."""
        if endpoint not in self._heard_ns:
            return
        self._heard_ns[endpoint] = now_ns
        message = p.decode_from_instance(frames)
        if isinstance(message, p.Welcome):
            self._welcomed.add(endpoint)
            for target in self._at(endpoint):
                self._pull(target, now_ns)
        elif isinstance(message, p.Deliver):
            for target in self._at(endpoint):
                if target.number == message.subscription:
                    self._take(target, message, frames, now_ns)
        elif isinstance(message, p.Refused) and message.code == "unknown_session":
            self._hello(endpoint)

    def _take(self, target: LinkTarget, deliver: p.Deliver, frames: Sequence[Buffer], now_ns: int) -> None:
        ledger = target.link.ledger
        if deliver.ledger != ledger or deliver.scanned_from != target.expected:
            self._pull(target, now_ns)  # something was lost on the way: say again from where to go on
            return
        if self._ledgers.full:  # bounded memory: leave it at the origin and pull again later
            self._stalled.add(ledger)
            target.expected = -1
            return
        before = dict(self.scanned.setdefault(ledger, {}))
        count = sum(end - start for start, end in deliver.ranges)
        if count and Batch.checked(frames[1], frames[2], self._known_topics).count != count:
            raise ProtocolError(
                f"link from {target.link.endpoint}: the batch does not hold the {count} events announced"
            )
        target.expected = deliver.next_offset
        for pattern in target.patterns:
            self.scanned[ledger][pattern] = max(before.get(pattern, 0), deliver.next_offset)
        if not count:
            self._dirty.add(ledger)
            return
        origin = Origin(ledger, deliver.ranges, deliver.scanned_from, deliver.next_offset, target.patterns)
        again = SendPeer(target.link.endpoint, p.Credit(target.number, count))
        record = self._ledgers.append(
            Kind.EVENTS, now_ns, count=count, meta=encode_body(EventsMeta(origin=origin)),
            index=frames[1], payload=frames[2], then=again,
        )  # fmt: skip
        self._undo.append((record.number, ledger, before))
        self.linked_events += count

    def confirmed(self, number: int) -> None:
        """Records up to ``number`` are durable: their progress is final."""
        while self._undo and self._undo[0][0] <= number:
            self._undo.popleft()

    def void(self, now_ns: int) -> None:
        """What was unconfirmed was never stored (disk full): go back to what is, and pull from there."""
        while self._undo:
            _, ledger, before = self._undo.pop()
            self.scanned[ledger] = before
            self._stalled.add(ledger)
        self._repull(now_ns)

    def _repull(self, now_ns: int) -> None:
        for ledger in self._stalled:
            target = self._targets.get(ledger)
            if target is not None and target.link.endpoint in self._welcomed:
                self._pull(target, now_ns)
        self._stalled.clear()

    def tick(self, now_ns: int) -> None:
        """Heartbeats, reconnection after silence, and progress that no event carried."""
        for endpoint, heard_ns in self._heard_ns.items():
            if now_ns - heard_ns > SILENCE_MS * 1_000_000:
                self._heard_ns[endpoint] = now_ns
                self._welcomed.discard(endpoint)
                self._hello(endpoint)
            elif endpoint in self._welcomed:
                self._to(endpoint, p.Ping())
        if self._stalled and not self._ledgers.full:
            self._repull(now_ns)
        if self._dirty:
            body = [LinkScanned(ledger, self.scanned[ledger]) for ledger in sorted(self._dirty)]
            self._dirty.clear()
            self._ledgers.append(Kind.SCANNED, now_ns, payload=encode_body(body))

    def fold(self, ledger: str, scanned_to: dict[str, int]) -> None:
        """Recovery: progress found in a record."""
        reached = self.scanned.setdefault(ledger, {})
        for pattern, offset in scanned_to.items():
            reached[pattern] = max(reached.get(pattern, 0), offset)

    def state(self) -> list[LinkScanned]:
        """Its part of a snapshot."""
        return [LinkScanned(ledger, dict(scanned)) for ledger, scanned in self.scanned.items()]

    def _pull(self, target: LinkTarget, now_ns: int) -> None:
        reached = self.scanned.setdefault(target.link.ledger, {})
        for want in target.link.wants:
            reached.setdefault(want.pattern, want.scanned_to)
        self._numbers += 1
        target.number = self._numbers  # delivers of an earlier pull are recognised by their number
        target.patterns = [want.pattern for want in target.link.wants]
        target.expected = min((reached[pattern] for pattern in target.patterns), default=0)
        target.pulled_ns = now_ns
        filters = [p.LinkFilter(pattern, reached[pattern]) for pattern in target.patterns]
        self._to(
            target.link.endpoint,
            p.Pull(target.number, target.number, target.link.ledger, filters, LINK_CREDIT_EVENTS),
        )

    def _dial(self, endpoint: str, now_ns: int) -> None:
        if endpoint not in self._heard_ns:
            self._heard_ns[endpoint] = now_ns
            self._ledgers.effects.append(Dial(endpoint))
            self._hello(endpoint)

    def _hello(self, endpoint: str) -> None:
        self._to(endpoint, p.Hello(p.OLDEST_PROTOCOL_VERSION, p.PROTOCOL_VERSION, "link", self._name, self._region))

    def _at(self, endpoint: str) -> list[LinkTarget]:
        return [target for target in self._targets.values() if target.link.endpoint == endpoint]

    def _to(self, endpoint: str, message: p.Message) -> None:
        self._ledgers.effects.append(SendPeer(endpoint, message))
