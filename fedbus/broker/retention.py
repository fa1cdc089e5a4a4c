"""Retention: which closed ledgers an instance stops serving, so that their files can go (protocol rule 17).

A ledger is dropped as a whole, once retention has passed for every topic in it, and by its dispatcher only: it knows
what its groups have not settled. What they lose is written to the ledger being written (EXPIRED) and confirmed before
the ledger is let go; a ledger that a link is being fed from, or that holds what waits for a second region, stays. That
copies and files follow is left to the manager, or, without one, to ``DropLedger``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedbus.broker.closed_ledgers import ClosedLedgers
from fedbus.broker.copy_effects import DropLedger
from fedbus.broker.effects import Surveyed
from fedbus.broker.expiry import Losses
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link_source import LinkSource
from fedbus.broker.policies import DAY_MS, Policies, TopicRule
from fedbus.broker.record import Kind, encode_body
from fedbus.broker.state import GroupExpired
from fedbus.broker.subscriptions import Subscriptions

CHECK_NS = 1_000_000_000
LONGEST_STEP_NS = 60_000_000_000
CLOCK_DOUBT_MS = DAY_MS
"""A clock that nobody watched may have been wrong by so much: ledgers from before the start are kept longer by it."""


class SteadyTime:
    """Time that passes no faster than it is watched: a jump forward counts as a minute, one backward not at all."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._ahead_ns = 0  # by how much the given time is ahead of ours

    def advance(self, now_ns: int) -> int:
        """Our Unix time in milliseconds."""
        if self._last_ns is not None:
            step_ns = now_ns - self._last_ns
            self._ahead_ns += step_ns - min(max(0, step_ns), LONGEST_STEP_NS)
        self._last_ns = now_ns
        return (now_ns - self._ahead_ns) // 1_000_000


def over_size(policies: Policies, ledgers: Iterable[Surveyed]) -> dict[str, int]:
    """Per filter with a bound on size: what is older than this (newest event, Unix ms) is beyond it.

    ``ledgers``: the closed ones of a region, each once. Counted are whole ledgers that hold topics of the filter.
    """
    newest_first = sorted(ledgers, key=lambda each: each.newest_ms, reverse=True)
    bounded = {rule.filter: rule.retention_bytes for rule in policies.rules if rule.retention_bytes}
    concerned = [(each, {rule.filter for rule in policies.concerning(each.topics)}) for each in newest_first]
    found: dict[str, int] = {}
    for pattern, most_bytes in bounded.items():
        total_bytes = 0
        for each, filters in concerned:
            if pattern in filters:
                total_bytes += each.size_bytes
                if total_bytes >= most_bytes:
                    found[pattern] = each.newest_ms
                    break
    return found


def past(ledger: Surveyed, seen_ms: int, rules: Sequence[TopicRule], cutoffs: dict[str, int], now_ms: int) -> bool:
    """Whether the retention of everything in a closed ledger has passed.

    Its age counts from its newest event or from when it was first seen closed (``seen_ms``), whichever is later, so
    that no clock that was wrong for a while makes it older; what is older than any such error needs no watching.
    """
    return all(
        now_ms - max(ledger.newest_ms, seen_ms) > rule.retention_ms
        or now_ms - ledger.newest_ms > rule.retention_ms + CLOCK_DOUBT_MS
        or ledger.newest_ms < cutoffs.get(rule.filter, 0)
        for rule in rules
    )


class Retention:
    """One instance's. ``expired``: ledgers it serves no more and whose copies may go, until they are gone."""

    def __init__(self, ledgers: Ledgers, subscriptions: Subscriptions, policies: Policies, *, managed: bool) -> None:
        self.expired: list[str] = []
        self.losses = Losses()
        self.cutoffs: dict[str, int] = {}
        self.closed = ClosedLedgers(ledgers)
        self._ledgers = ledgers
        self._subscriptions = subscriptions
        self._policies = policies
        self._managed = managed
        self._time = SteadyTime()
        self._leaving: dict[str, int] = {}  # ledger → number of the record that says what is lost with it
        self._left: set[str] = set()  # retired; something of them may still be in flight
        self._next_ns: int | None = None

    def retained(self) -> list[Surveyed]:
        """The closed ledgers served here, where a policy bounds sizes: the manager adds the region's up."""
        bounded = any(rule.retention_bytes for rule in self._policies.rules)
        return list(self.closed) if bounded else []

    def tick(self, now_ns: int) -> None:
        """Time has passed: look which ledgers may go. Nothing goes before policies were heard."""
        now_ms = self._time.advance(now_ns)
        if self._next_ns is not None and self._next_ns - CHECK_NS <= now_ns < self._next_ns:
            return
        self._next_ns = now_ns + CHECK_NS
        self._forget_left()
        self.closed.look(now_ms)
        if self._policies.version and self._ledgers.writable and not self._ledgers.pausing:
            if not self._managed:
                self.cutoffs = over_size(self._policies, self.closed)
            for ledger in self._past(now_ms):
                self._expire(ledger, now_ns, now_ms)

    def _past(self, now_ms: int) -> list[Surveyed]:
        found = []
        for ledger in self.closed:
            seen_ms, rules = self.closed.seen_ms(ledger.ledger), self._policies.concerning(ledger.topics)
            if ledger.ledger not in self._leaving and past(ledger, seen_ms, rules, self.cutoffs, now_ms):
                found.append(ledger)
        return [each for each in found if self.closed.superseded(each.ledger) and not self._is_needed(each.ledger)]

    def _is_needed(self, ledger: str) -> bool:
        """Whether a link is being fed from it, or something in it still waits for a second region."""
        return bool(self._ledgers.geo.in_ledger(ledger)) or self._feeds_a_link(ledger)

    def _feeds_a_link(self, ledger: str) -> bool:
        end = self._ledgers.end(ledger)
        streams = self._subscriptions.streams
        return any(isinstance(each, LinkSource) and each.ledger == ledger and each.reached < end for each in streams)

    def _expire(self, ledger: Surveyed, now_ns: int, now_ms: int) -> None:
        """Write what is lost; without any loss the ledger goes at once."""
        expired: list[GroupExpired] = []
        for group in self._subscriptions.groups:
            lost, events = group.unsettled_in(ledger, self._ledgers.end(ledger.ledger))
            if events:
                expired.append(GroupExpired(group.spec.name, ledger.ledger, events, lost, now_ms))
        if expired:
            record = self._ledgers.append(Kind.EXPIRED, now_ns, payload=encode_body(expired))
            self._leaving[ledger.ledger] = record.number
            self.losses.note(expired)
        else:
            self._retire(ledger.ledger)

    def confirmed(self) -> None:
        """Records have become durable: ledgers whose losses are among them go."""
        for ledger, number in list(self._leaving.items()):
            if self._ledgers.is_confirmed(number):
                self._retire(ledger)

    def rolled(self) -> None:
        """Another ledger is being written, and all that was written before is confirmed."""
        for ledger in list(self._leaving):
            self._retire(ledger)

    def void(self) -> None:
        """What is not confirmed was never stored: those ledgers stay for now."""
        for ledger, number in list(self._leaving.items()):
            if not self._ledgers.is_confirmed(number):
                del self._leaving[ledger]
                self.losses.take_back(ledger)

    def _retire(self, ledger: str) -> None:
        """Serve it no more: cursors go on behind it, groups count it as settled."""
        self._leaving.pop(ledger, None)
        if ledger not in self._ledgers.closed:
            return  # somebody else dispatches it now, and judges for himself
        end = self._ledgers.end(ledger)
        for group in self._subscriptions.groups:
            group.expire(ledger, end)
        self._subscriptions.streams.ledger_expired(ledger)
        self._ledgers.retire(ledger)
        self._left.add(ledger)
        self.expired.append(ledger)
        if not self._managed:
            self.gone(ledger)
            self._ledgers.effects.append(DropLedger(ledger))

    def gone(self, ledger: str) -> None:
        """Its record says so: nothing has to be reported any more."""
        if ledger in self.expired:
            self.expired.remove(ledger)

    def _forget_left(self) -> None:
        """Once nothing of a ledger is in flight, groups need not know that all of it is settled."""
        groups = self._subscriptions.groups
        self.losses.forget(group.spec.name for group in groups)
        for ledger in list(self._left):
            if all(portion.ledger != ledger for group in groups for portion in group.deliveries):
                self._left.remove(ledger)
                for group in groups:
                    group.settlement.forget(ledger)

    def fold(self, expired: Iterable[GroupExpired]) -> None:
        """Recovery: losses found in a record; what was lost is not waited for again."""
        known = list(expired)
        self.losses.note(known)
        for each in known:
            group = self._subscriptions.groups.get(each.group)
            if group is not None:
                group.restore(each.ranges)
