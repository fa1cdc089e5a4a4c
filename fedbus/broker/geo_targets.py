"""What other regions have of the ledgers served here, as they say themselves when they pull (protocol rule 20).

A pull names its filters and up to where all that they take is durable in the region that asks; with each credit it says
so again. Only what a wanted filter takes counts, from where on that filter was wanted at all. Who is silent is no
target for new batches; what was said stays true.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from fedbus.broker import protocol as p
from fedbus.topic import FilterSet

SILENCE_NS = 3_000_000_000
TOPICS_REMEMBERED = 4096  # of one pull
NOT_WANTED = -1


class Target:
    """One pull of one ledger. ``durable_to``: everything it wants below is durable in its ``region``."""

    __slots__ = ("_filters", "_since_of", "durable_to", "ledger", "region", "session")

    def __init__(self, session: bytes, region: str, pull: p.Pull) -> None:
        self.session = session
        self.region = region
        self.ledger = pull.ledger
        self.durable_to = pull.durable_to
        self._filters = [(FilterSet([each.pattern], remembered=1), each.since) for each in pull.filters if each.wanted]
        self._since_of: dict[str, int] = {}

    def since(self, topic: str) -> int:
        """From which offset on it wants events of this topic, or :data:`NOT_WANTED`."""
        known = self._since_of.get(topic)
        if known is None:
            if len(self._since_of) >= TOPICS_REMEMBERED:
                self._since_of.clear()
            known = min((since for filters, since in self._filters if filters.matches(topic)), default=NOT_WANTED)
            self._since_of[topic] = known
        return known

    def wants(self, topic: str) -> bool:
        """Whether any of its filters takes this topic."""
        return self.since(topic) != NOT_WANTED

    def has(self, topic: str, first_offset: int, next_offset: int) -> bool:
        """Whether its region has all events of this topic in this range."""
        return self.durable_to >= next_offset and NOT_WANTED < self.since(topic) <= first_offset


class GeoTargets:
    """All pulls of other regions. ``heard_ns``: of a session, when it was heard last (0: it is gone)."""

    def __init__(self, region: str) -> None:
        self.heard_ns: Callable[[bytes], int] = lambda _session: 0
        self._region = region
        self._targets: dict[tuple[bytes, int], Target] = {}

    def pulled(self, session: bytes, region: str, pull: p.Pull) -> None:
        """A session pulls a ledger (anew)."""
        self._targets = {
            key: each for key, each in self._targets.items() if key[0] != session or each.ledger != pull.ledger
        }
        if region not in ("", self._region):
            self._targets[session, pull.subscription] = Target(session, region, pull)

    def credited(self, session: bytes, number: int, durable_to: int) -> str:
        """It says that it has more; returns of which ledger, or nothing."""
        target = self._targets.get((session, number))
        if target is None or durable_to <= target.durable_to:
            return ""
        target.durable_to = durable_to
        return target.ledger

    def ended(self, session: bytes, number: int | None = None) -> None:
        """One pull of a session has ended, or all."""
        self._targets = {
            key: each for key, each in self._targets.items() if key[0] != session or number not in (None, key[1])
        }

    def regions(self, topic: str, chosen: Collection[str], ledger: str, now_ns: int) -> set[str]:
        """Of the ``chosen`` regions (empty: of all) those that pull this topic now; ``ledger`` empty: from any."""
        return {
            each.region
            for each in self._targets.values()
            if (not chosen or each.region in chosen)
            and ledger in ("", each.ledger)
            and now_ns - self.heard_ns(each.session) <= SILENCE_NS
            and each.wants(topic)
        }

    def have(self, ledger: str, topic: str, first_offset: int, next_offset: int, chosen: Collection[str]) -> bool:
        """Whether one of the ``chosen`` regions (empty: any) has all events of this topic in this range."""
        return any(
            each.ledger == ledger
            and (not chosen or each.region in chosen)
            and each.has(topic, first_offset, next_offset)
            for each in self._targets.values()
        )

    def durable_to(self, ledger: str) -> int:
        """Up to where any of them has of a ledger what it wants."""
        return max((each.durable_to for each in self._targets.values() if each.ledger == ledger), default=0)
