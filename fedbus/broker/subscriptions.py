"""All subscriptions of an instance: live ones, members of groups, and links that other regions pull.

Turns session messages into calls on them.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.effects import Effect, Send
from fedbus.broker.feed import Feed, Feeds
from fedbus.broker.group_changes import GroupChanges
from fedbus.broker.group_fold import GroupFold
from fedbus.broker.group_spec import GroupSpec, checked_options
from fedbus.broker.groups import Groups
from fedbus.broker.key_slots import KeySlots
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link_source import LinkSource
from fedbus.broker.live import Live
from fedbus.broker.memberships import Key, Memberships
from fedbus.broker.policies import Policies
from fedbus.broker.sharing import Sharing
from fedbus.broker.standbys import Standbys
from fedbus.broker.streams import Streams
from fedbus.errors import InvalidEventError, NotFoundError, OverloadedError, TooLargeError, UnavailableError
from fedbus.limits import Limits
from fedbus.topic import FilterSet, check_filter

RETRY_MS = 500


class Subscriptions:
    """Every subscription, by (session, number). ``managed``: groups are made by a manager."""

    def __init__(
        self, ledgers: Ledgers, feeds: Feeds, limits: Limits, key_slots: KeySlots, region: str, *, managed: bool
    ) -> None:
        self._ledgers = ledgers
        self._feeds = feeds
        self._limits = limits
        self._key_slots = key_slots
        self._managed = managed
        self.groups = Groups(ledgers, feeds, limits, key_slots.handovers, region)
        self.fold = GroupFold(self.groups, ledgers)
        self.members = Memberships(self.groups, ledgers, limits)
        self.changes = GroupChanges(self.groups, self.members, ledgers, limits, managed=managed)
        self.streams = Streams(ledgers)
        self.sharing = Sharing(self.groups, ledgers)
        self.standbys = Standbys(self.groups, ledgers)

    @property
    def events_out(self) -> int:
        """Events sent since the start."""
        return self.streams.events_out + self.members.events_out

    def subscribe(self, session: bytes, request: p.Subscribe, now_ns: int) -> None:
        """Attach a live subscription or a group member; raises a typed error and changes nothing if it may not be."""
        if not request.filters or len(request.filters) > self._limits.filters_per_group:
            raise InvalidEventError(f"a subscription has 1 to {self._limits.filters_per_group} filters")
        if max(len(request.group), len(request.member)) > self._limits.name_bytes:
            raise TooLargeError(f"names of groups and members have up to {self._limits.name_bytes} bytes")
        filters = sorted({check_filter(pattern) for pattern in request.filters})
        key = (session, request.subscription)
        self._check_room(key)
        if request.group:
            options = checked_options(request.options, request.group)
            self.changes.join(session, request, GroupSpec(request.group, filters, request.start, options), now_ns)
            self.streams.discard(key)
        else:
            cursor = Cursor.starting(request.start, self._ledgers)
            credit = max(0, min(request.credit, self._limits.max_ack_window_events))
            self.end(key, now_ns)
            feed = Feed(self._feeds)
            self.streams.add(Live(session, request.subscription, FilterSet(filters), cursor, credit, feed))
            done = p.Subscribed(request.request, request.subscription, self._ledgers.tails())
            self._ledgers.effects.append(Send(session, done))
        self.pump(now_ns)

    def _check_room(self, key: Key) -> None:
        most = self._limits.subscriptions_per_session
        every = {*((stream.session, stream.number) for stream in self.streams), *self.members}
        if key not in every and sum(session == key[0] for session, _ in every) >= most:
            raise OverloadedError(f"this session already has its {most} subscriptions")

    def pull(self, session: bytes, request: p.Pull, policies: Policies, region: str, now_ns: int) -> None:
        """A link of another region; a newer pull of the same ledger by the same session replaces the older one."""
        if request.ledger not in self._ledgers.names():
            raise NotFoundError(f"ledger {request.ledger} is not served here")
        if self._managed and not policies.version:
            raise UnavailableError("what may leave the region is not known here yet", retry_after_ms=RETRY_MS)
        feed = Feed(self._feeds, link=True)
        stream = LinkSource(session, request, feed, self._limits.link_window_bytes, policies, region)
        self.streams.discard_link(session, request.ledger)
        self._check_room((session, request.subscription))
        self.streams.add(stream)
        self._ledgers.effects.append(Send(session, p.Ok(request.request)))
        self.pump(now_ns)

    def credit(self, key: Key, events: int, now_ns: int) -> None:
        """More events may be sent."""
        if not self.streams.credit(key, max(0, events), self._limits.max_ack_window_events):
            self.members.credit(key, events, now_ns)

    def end(self, key: Key, now_ns: int) -> None:
        """One subscription ends, as its session wishes."""
        self.streams.discard(key)
        self.changes.forget(*key)
        self.members.end(key, now_ns)

    def session_ended(self, session: bytes, now_ns: int, *, politely: bool = False) -> None:
        """All of a session's subscriptions end."""
        self.streams.session_ended(session)
        self.changes.forget(session)
        self.sharing.session_ended(session)
        self._key_slots.releases.session_ended(session)
        self.members.session_ended(session, now_ns, politely=politely)

    def end_all(self, detail: str) -> None:
        """The instance hands nothing out any more: everybody subscribes elsewhere."""
        self.streams.end_all(detail)
        self.members.end_all(detail)

    def let_go(self, ledgers: Iterable[str], detail: str) -> None:
        """Another instance dispatches these now: what is unsettled of them is its business."""
        self.end_all(detail)
        for ledger in ledgers:
            for group in self.groups:
                group.let_go(ledger)

    def ledgers_changed(self) -> None:
        """Live subscriptions start anew: only their cursors, kept by the clients, say what of new ledgers they had."""
        self.streams.end_live("more ledgers are served here: subscribe again with the cursor")
        self.members.sweep()

    def rolled(self) -> None:
        """Another ledger is being written: everybody scans it too, from its beginning."""
        self.groups.rolled()
        self.streams.rolled()

    def pump(self, now_ns: int) -> None:
        """Deliver whatever can be delivered now."""
        self.streams.pump()
        self.members.pump(now_ns)

    def tick(self, now_ns: int) -> None:
        """Time has passed: deadlines, reads to try again, acknowledgements to the ledger, questions to others."""
        self._feeds.ticks += 1
        self.groups.acks.flush(now_ns)
        self.changes.tick(now_ns)
        self.sharing.tick(now_ns)
        self.standbys.tick(now_ns)
        self._key_slots.tick(self.groups, now_ns)
        self.pump(now_ns)

    def void(self) -> list[Effect]:
        """Unconfirmed records were never stored: what they said of groups ends; the answers that will not be given."""
        oks = self.groups.void()
        self.members.sweep(deleted=False)
        return oks
