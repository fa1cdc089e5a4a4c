"""The receiver's side of links: one region pulls from another what somebody here wants (protocol rules 18, 19).

For each origin ledger the receiver remembers, per filter, how far it was scanned, and says so when it pulls; so each
event crosses once, also when filters are added later and backfilled (``link_source.py`` is the other side). The
receiver's own ledger carries origin positions and progress, so a restarted link goes on where it was. All links
together fill only a share of what may be unconfirmed, and take turns when that is used up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedbus.batch import Batch, Buffer
from fedbus.broker import protocol as p
from fedbus.broker.effects import PeerLink, SendPeer
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link_lag import LinkLags
from fedbus.broker.link_progress import LinkProgress
from fedbus.broker.link_share import LinkShare
from fedbus.broker.link_spans import Turn, begun_of, pattern_of
from fedbus.broker.peers import BEAT_NS, SILENCE_NS, Peers
from fedbus.broker.policies import Policies
from fedbus.broker.record import EventsMeta, Kind, Origin, encode_body
from fedbus.broker.stored import as_ranges
from fedbus.errors import ProtocolError
from fedbus.limits import Limits
from fedbus.position import LedgerId

LINK_CREDIT_EVENTS = 20_000
NO_PULL = 0
NS_PER_MS = 1_000_000


class LinkTarget:
    """The receiver's side of one link.

    ``region``: where the ledger was born. ``turn``: what it pulls now. ``expected``: from where the next deliver must
    have scanned. ``since``: per span of the turn, from where on the next record will answer for the origin (in between
    nothing was found).
    """

    def __init__(self, link: PeerLink, number: int) -> None:
        self.link = link
        self.number = number
        self.region = LedgerId.parse(link.ledger).region
        self.expected = 0
        self.since: dict[str, int] = {}
        self.turn = Turn({}, {}, 0)
        self.heard_ns = 0


class LinkTargets:
    """All links this instance holds. ``region``: its own; ``policies``: what may be stored here."""

    def __init__(self, ledgers: Ledgers, peers: Peers, policies: Policies, region: str, limits: Limits) -> None:
        self.linked_events = 0
        self.linked_bytes = 0
        self.progress = LinkProgress()
        self.lags = LinkLags()
        self.share = LinkShare(limits)
        self._ledgers = ledgers
        self._peers = peers
        self._policies = policies
        self._region = region
        self._targets: dict[str, LinkTarget] = {}
        self._numbers = 0
        self._stalled: dict[str, None] = {}  # to be pulled again when there is room, in this order
        self._known_topics: set[str] = set()
        self._next_beat_ns = 0

    def apply(self, links: Sequence[PeerLink], now_ns: int, gone: Iterable[str] = ()) -> None:
        """Hold exactly these links from now on; what was born here never comes back.

        ``gone``: ledgers that have expired at their origin; how far they were pulled matters no more.
        """
        wanted = {link.ledger: link for link in links if LedgerId.parse(link.ledger).region != self._region}
        for ledger, target in list(self._targets.items()):
            if wanted.get(ledger) != target.link:
                del self._targets[ledger]
                self._peers.send(target.link.endpoint, p.Unsubscribe(0, target.number))
        added = [link for ledger, link in wanted.items() if ledger not in self._targets]
        for link in added:
            self._numbers += 1
            self._targets[link.ledger] = LinkTarget(link, self._numbers)
        keys = {target.link.endpoint: target.link.key for target in self._targets.values()}
        self._peers.keep("links", list(keys), now_ns, keys)
        for link in added:
            self._pull(self._targets[link.ledger], now_ns)
        for ledger in gone:
            if ledger not in self._targets:
                self.progress.forget(ledger)

    def received(self, endpoint: str, message: p.FromInstance, frames: Sequence[Buffer], now_ns: int) -> None:
        """A message from an origin instance; raises :class:`ProtocolError` on what it may not say."""
        if isinstance(message, p.Welcome):
            for target in self._at(endpoint):
                if message.region != target.region:
                    raise ProtocolError(f"{endpoint} is of {message.region}, which has no {target.link.ledger}")
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
        if self._ledgers.full or self.share.full or not self._ledgers.writable:
            self._stalled[ledger] = None  # bounded memory: leave it at the origin and pull again later
            return
        try:
            batch = self._checked(deliver, frames)
        except ProtocolError:
            self._stalled[ledger] = None
            raise
        target.expected = deliver.next_offset
        if batch is not None:
            self._append(target, deliver, batch, now_ns)
        else:
            self.progress.advance(ledger, target.turn.spans, deliver.next_offset)
        if 0 < target.turn.until <= deliver.next_offset:
            self._pull(target, now_ns)

    def _checked(self, deliver: p.Deliver, frames: Sequence[Buffer]) -> Batch | None:
        """The events that came, if any; raises :class:`ProtocolError` unless they are where the deliver says."""
        ends = [deliver.scanned_from, *(at for each in deliver.ranges for at in each), deliver.next_offset]
        count = sum(end - start for start, end in deliver.ranges)
        batch = Batch.checked(frames[1], frames[2], self._known_topics) if count else None
        if ends != sorted(ends) or (batch is not None and batch.count != count):
            stored = 0 if batch is None else batch.count
            raise ProtocolError(f"a link of {deliver.ledger} brought {stored} events for the offsets {deliver.ranges}")
        return batch

    def _append(self, target: LinkTarget, deliver: p.Deliver, batch: Batch, now_ns: int) -> None:
        since, scanned_to, came = target.since, deliver.next_offset, batch.count
        batch, ranges = self._may_be_here(batch, deliver)
        scanned_from = min(deliver.scanned_from, *since.values())
        origin = Origin(deliver.ledger, ranges, scanned_from, scanned_to, since)
        meta = EventsMeta(origin=origin, flags=deliver.flags & p.POSSIBLE_DUPLICATE)
        again = SendPeer(target.link.endpoint, p.Credit(target.number, came, scanned_to))
        if not batch.count:
            self.progress.advance(deliver.ledger, target.turn.spans, scanned_to)
            # It says that everything before is durable here, which holds when what came before it is confirmed.
            self._ledgers.answer_when_confirmed(self._ledgers.next_number() - 1, again)
            return
        record = self._ledgers.append(
            Kind.EVENTS, now_ns, count=batch.count, meta=encode_body(meta), index=batch.index_bytes,
            payload=batch.payload,
        )  # fmt: skip
        # Only behind the record: a snapshot that went before it must not say that it is there.
        self.progress.recorded(record.number, deliver.ledger, target.turn.spans, scanned_to)
        self.share.added(record.number, record.size_bytes)
        target.since = {span: max(at, scanned_to) for span, at in since.items()}
        self._ledgers.answer_when_confirmed(record.number, again)
        self.linked_events += batch.count
        self.linked_bytes += len(batch.index_bytes) + len(batch.payload)
        if deliver.time_ms:
            self.lags.came(target.region, batch.topics, now_ns // NS_PER_MS - deliver.time_ms, now_ns)

    def _may_be_here(self, batch: Batch, deliver: p.Deliver) -> tuple[Batch, list[tuple[int, int]]]:
        """Without what is pinned to other regions: its origin may not have heard of that yet."""
        if not self._policies.pinned:
            return batch, deliver.ranges
        here = [self._policies.stored_in(topic, self._region) for topic in batch.topics]
        if all(here):
            return batch, deliver.ranges
        kept = [place for place, topic in enumerate(batch.topic_of) if here[topic]]
        offsets = [offset for start, end in deliver.ranges for offset in range(start, end)]
        return batch.select(kept), as_ranges(offsets[place] for place in kept)

    def confirmed(self, number: int) -> None:
        """Records up to ``number`` are durable."""
        self.progress.confirmed(number)
        self.share.confirmed(number)

    def void(self, now_ns: int) -> None:
        """What was unconfirmed was never stored: go back to what is, and pull from there."""
        self.share.void()
        for ledger in self.progress.void():
            self._stalled[ledger] = None
            if ledger in self._targets:
                self._targets[ledger].since = {}
        self._repull(now_ns)

    def _repull(self, now_ns: int) -> None:
        """Those that had to wait, in their turn: as many as there is room for."""
        window_bytes = self.share.window_bytes(len(self._targets))
        room_bytes = self.share.room_bytes
        while self._stalled and room_bytes > 0 and self._ledgers.writable and not self._ledgers.full:
            ledger = next(iter(self._stalled))
            del self._stalled[ledger]
            if ledger in self._targets:
                self._pull(self._targets[ledger], now_ns)
                room_bytes -= window_bytes

    def tick(self, now_ns: int) -> None:
        """Heartbeats, pulls that were answered by nothing, and progress that no event carried."""
        self._repull(now_ns)
        self.lags.now_ns = now_ns
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
        if self._peers.region_of(endpoint) != target.region:  # nobody yet, or somebody else
            return
        self._numbers += 1
        target.number = self._numbers
        target.turn = turn = self.progress.turn(ledger, target.link.wants)
        target.expected = turn.start
        answers_from = self.progress.answers_from(turn)
        target.since = {span: target.since.get(span, at) for span, at in answers_from.items()}
        target.heard_ns = now_ns
        filters = [p.LinkFilter(pattern_of(span), at, since=begun_of(span)) for span, at in turn.spans.items()]
        filters += [p.LinkFilter(pattern_of(span), at, wanted=False) for span, at in turn.others.items()]
        pull = p.Pull(
            target.number, target.number, ledger, filters, LINK_CREDIT_EVENTS,
            durable_to=self.progress.durable_to(ledger, turn.spans),
            window_bytes=self.share.window_bytes(len(self._targets)), until=turn.until,
        )  # fmt: skip
        self._peers.send(endpoint, pull)

    def _at(self, endpoint: str) -> list[LinkTarget]:
        return [target for target in self._targets.values() if target.link.endpoint == endpoint]
