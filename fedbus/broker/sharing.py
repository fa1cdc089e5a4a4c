"""Sharing: what a group has settled here is told to the other regions that may dispatch it (protocol rule 13).

An instance of another region *follows* groups: it is told all that is settled first, in bounded pieces, then, a moment
after it happens, what was settled here; the next piece goes when the one before is durable there. What others told is
not told on piece by piece, because everybody follows everybody. But when an instance that was followed is lost (and may
have forgotten what it told), all is told anew, and who hears something new then tells it on: so everybody hears what
only some had. Ranges are widened to everything that is settled in one piece with them, so that a follower keeps as few
as there are here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from fedbus.broker import protocol as p
from fedbus.broker.effects import Effect, Send
from fedbus.broker.group import Group
from fedbus.broker.groups import Groups
from fedbus.broker.ledger import Ledgers
from fedbus.broker.settled import GroupSettled, Settled
from fedbus.errors import ProtocolError
from fedbus.ranges import RangeSet

SHARE_NS = 100_000_000
REPEAT_NS = 3_000_000_000  # a piece that was not taken is told again
PIECE_RANGES = 2000
MOST_GROUPS = 65_536  # of one follower
_PART_RANGES = 4  # what the names of a part count for

Key = tuple[str, int, int]  # a group's name and identity
Unshared = tuple[int, int]  # events (-1: nobody follows), milliseconds


def _key(group: Group) -> Key:
    return (group.spec.name, *group.spec.identity)


class _Open:
    """What one follower does not have yet of one group, since ``since_ns``.

    ``whole``: all of it; ``full``: what there was of it when it began to be told is among the ranges.
    """

    __slots__ = ("full", "ranges", "since_ns", "under_way", "under_way_ns", "whole")

    def __init__(self, now_ns: int) -> None:
        self.whole = True
        self.full = False
        self.ranges: dict[str, RangeSet] = {}
        self.since_ns = now_ns
        self.under_way = 0  # events in the piece that is not taken yet
        self.under_way_ns = now_ns

    def add(self, settled: Iterable[Settled], now_ns: int) -> None:
        if not self.ranges:
            self.since_ns = now_ns
        for part in settled:
            self.ranges.setdefault(part.ledger, RangeSet()).add_all(part.ranges)

    def tell_all(self, now_ns: int) -> None:
        self.since_ns = self.since_ns if self.ranges or self.whole else now_ns
        self.whole = True

    def events(self) -> int:
        return self.under_way + sum(ranges.total() for ranges in self.ranges.values())


class Follower:
    """One session that follows. ``number``: its own for it; pieces are numbered by ``pieces``."""

    def __init__(self, session: bytes, number: int, region: str) -> None:
        self.session = session
        self.number = number
        self.region = region
        self.open: dict[Key, _Open] = {}
        self._pieces = 0
        self._under_way: p.Shared | None = None
        self._sent_ns = 0
        self._full = False  # whether the newest piece is of the whole

    def wants(self, keys: Iterable[Key], now_ns: int) -> None:
        """Follow exactly these from now on."""
        self.open = {key: self.open.get(key) or _Open(now_ns) for key in keys}

    def taken(self, number: int) -> None:
        """A piece is durable there."""
        if self._under_way is not None and self._under_way.number == number:
            self._under_way = None
            for each in self.open.values():
                each.under_way = 0

    def send(self, groups: Groups, effects: list[Effect], now_ns: int) -> None:
        """The next piece, if there is one and the one before was taken."""
        if self._under_way is None:
            self._full = False
            parts = list(self._piece(groups, now_ns))
            if not parts:
                return
            self._pieces += 1
            self._under_way = p.Shared(self.number, self._pieces, parts, self._full)
        elif now_ns - self._sent_ns < REPEAT_NS:
            return
        self._sent_ns = now_ns
        effects.append(Send(self.session, self._under_way))

    def _piece(self, groups: Groups, now_ns: int) -> Iterator[GroupSettled]:
        room = PIECE_RANGES
        for key, of in self.open.items():
            group = groups.get(key[0])
            if group is None or _key(group) != key:
                continue  # not known here yet, or no more
            if of.whole:
                of.whole, of.full = False, True
                of.add(group.settlement.state(), of.since_ns)
            settled: list[Settled] = []
            for ledger in list(of.ranges):
                if room <= 0:
                    break
                chosen = list(islice(of.ranges[ledger], room))
                of.under_way += sum(end - start for start, end in of.ranges[ledger].take(chosen))
                if not of.ranges[ledger]:
                    del of.ranges[ledger]
                room -= len(chosen) + _PART_RANGES
                settled.append(Settled(ledger, group.settlement.around(ledger, chosen)))
            if settled:
                self._full = self._full or of.full
                of.full = of.full and bool(of.ranges)
                of.under_way_ns, of.since_ns = of.since_ns, now_ns
                yield GroupSettled(key[0], settled, *key[1:])

    def unshared(self, key: Key, now_ns: int) -> Unshared | None:
        """What of this group is not durable there; ``None`` if it does not follow it."""
        of = self.open.get(key)
        if of is None:
            return None
        if of.whole:
            return -1, _ms(now_ns - of.since_ns)
        events = of.events()
        since_ns = of.under_way_ns if of.under_way else of.since_ns
        return events, _ms(now_ns - since_ns) if events else 0


class Sharing:
    """All that is told by one instance."""

    def __init__(self, groups: Groups, ledgers: Ledgers) -> None:
        self._groups = groups
        self._ledgers = ledgers
        self._followers: dict[bytes, Follower] = {}
        self._news: list[GroupSettled] = []
        self._next_ns = self._now_ns = 0
        self._began_ns: int | None = None
        self._followed_ns: dict[tuple[str, Key], int] = {}  # region, group: when somebody there last followed it
        groups.acks.note = self._note

    def follow(self, session: bytes, region: str, request: p.Follow, now_ns: int) -> None:
        """A session follows these groups; raises :class:`ProtocolError` unless it says in its hello of which region."""
        if not region or len(request.groups) > MOST_GROUPS:
            raise ProtocolError(f"who follows groups (up to {MOST_GROUPS}) says in its hello which region it is of")
        known = self._followers.get(session)
        if known is None or known.number != request.subscription:
            known = self._followers[session] = Follower(session, request.subscription, region)
        known.wants([(each.name, each.created_ns, each.generation) for each in request.groups], now_ns)
        self._ledgers.effects.append(Send(session, p.Ok(request.request)))
        known.send(self._groups, self._ledgers.effects, now_ns)

    def taken(self, session: bytes, message: p.Taken, now_ns: int) -> None:
        """A piece is durable there: the next may go."""
        follower = self._followers.get(session)
        if follower is not None and follower.number == message.subscription:
            follower.taken(message.number)
            follower.send(self._groups, self._ledgers.effects, now_ns)

    def session_ended(self, session: bytes) -> None:
        """It follows no more."""
        follower = self._followers.pop(session, None)
        if follower is not None:
            self._followed_ns |= {(follower.region, key): self._now_ns for key in follower.open}

    def tick(self, now_ns: int) -> None:
        """Time has passed: what was settled meanwhile is told, what got lost on the way is told again."""
        self._now_ns = now_ns
        if self._began_ns is None:
            self._began_ns = now_ns
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + SHARE_NS
        self._spread(now_ns)
        for follower in self._followers.values():
            follower.send(self._groups, self._ledgers.effects, now_ns)
        if len(self._followed_ns) > len(self._groups):
            names = {_key(group) for group in self._groups}
            self._followed_ns = {at: ns for at, ns in self._followed_ns.items() if at[1] in names}

    def _note(self, part: GroupSettled) -> None:
        if self._followers:
            self._news.append(part)

    def _spread(self, now_ns: int) -> None:
        news, self._news = self._news, []
        for follower in self._followers.values():
            for each in news:
                of = follower.open.get((each.group, *each.identity))
                if of is not None and not of.whole:
                    of.add(each.settled, now_ns)

    def tell_all(self) -> None:
        """An instance that was followed is lost: what it told last, others may have missed."""
        for follower in self._followers.values():
            for of in follower.open.values():
                of.tell_all(self._now_ns)

    def unshared(self, group: Group) -> dict[str, Unshared]:
        """By region what is settled here and not durable there: events (-1: not known), for how many milliseconds."""
        key, now_ns = _key(group), self._now_ns
        new = sum(ranges.total() for ranges in group.settlement.dirty.values())
        new += sum(each.events for each in self._news if (each.group, *each.identity) == key)
        found: dict[str, Unshared] = {}
        for follower in self._followers.values():
            if (unshared := follower.unshared(key, now_ns)) is not None:
                events, ms = unshared
                here = (events if events < 0 else events + new, ms)
                found[follower.region] = _worse(here, found.get(follower.region, here))
        if group.here:
            for region in group.spec.home.standbys:
                since_ns = self._followed_ns.get((region, key), self._began_ns or now_ns)
                found.setdefault(region, (-1, _ms(now_ns - since_ns)))
        return found


def _worse(a: Unshared, b: Unshared) -> Unshared:
    return -1 if -1 in (a[0], b[0]) else max(a[0], b[0]), max(a[1], b[1])


def _ms(duration_ns: int) -> int:
    return max(0, duration_ns) // 1_000_000
