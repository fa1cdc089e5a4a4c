"""Who can hold copies of ledgers: the region's instances as the replication plan sees them, as values.

Assumes that a report belongs to the directory it names. What an instance says it has noted stays true (it is on its
disk); that it can be reached now is another matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import msgspec

from fedbus.ledger_record import Held, LedgerRecord, Member

AUTO = 0
AUTO_COPIES = 2

#: staying: takes copies · leaving: drains, dispatches to the end · closing: has dispatched all, its ledger is to end
Stage = Literal["staying", "leaving", "closing"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator chose: copies (AUTO: two where there are two instances) and how long silence is waited for."""

    replicas: int = AUTO
    min_copies: int = 1
    takeover_ns: int = 5_000_000_000
    brake_ns: int = 60_000_000_000


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """One registered instance.

    ``present``: it can be reached and has reported in its present incarnation, else ``silent_since_ns``.
    ``from_epoch``: it writes nothing yet and has asked for this epoch, so that its lower ones are over. So are those
    below the one it is ``writing``. ``expired``:
    ledgers it dispatches of which nothing has to be kept any more.
    """

    member: Member
    node: str = ""
    present: bool = True
    silent_since_ns: int | None = None
    stage: Stage = "staying"
    from_epoch: int | None = None
    writing: str = ""
    held: dict[str, Held] = {}
    expired: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Region/instance."""
        return self.member.instance


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    """All ledger records of a region, its instances, and the time.

    ``now_ns`` is what silence is measured by; ``wall_ns`` (default: the same) goes into records. ``strained``: (writer,
    member) pairs between which appends got stuck a moment ago.
    """

    records: tuple[LedgerRecord, ...]
    holders: tuple[Holder, ...]
    now_ns: int
    settings: Settings = Settings()
    strained: frozenset[tuple[str, str]] = frozenset()
    wall_ns: int | None = None

    @property
    def stamp_ns(self) -> int:
        """The time that goes into records."""
        return self.now_ns if self.wall_ns is None else self.wall_ns


class Holders:
    """The instances of one view, by name and by member, and what follows from their number and their silence."""

    def __init__(self, view: LedgerView) -> None:
        self._view = view
        self._all = view.holders
        self._by_name = {holder.name: holder for holder in view.holders}
        self._loads = Counter(member.instance for record in view.records for member in record.members)
        self.braked = self._brake()

    @property
    def wanted(self) -> int:
        """R: the copies each ledger is to have."""
        replicas = self._view.settings.replicas
        if replicas != AUTO:
            return replicas
        return min(AUTO_COPIES, max(1, sum(holder.stage == "staying" for holder in self._all)))

    @property
    def possible(self) -> int:
        """The copies it can have on the instances that stay, at most as many as wanted."""
        return max(1, min(self.wanted, sum(holder.stage == "staying" for holder in self._all)))

    def _brake(self) -> str:
        """Why what looks silent is not taken for lost now: more often the view broke than most of the instances."""
        silent = [holder for holder in self._all if self._overdue(holder)]
        if len(silent) < 2 or 2 * len(silent) <= len(self._all):  # noqa: PLR2004 - most, and not just one
            return ""
        newest_ns = max(holder.silent_since_ns or 0 for holder in silent)
        if self._view.now_ns - newest_ns >= self._view.settings.brake_ns:
            return ""
        return f"{len(silent)} of {len(self._all)} instances fell silent at once, holding"

    def _overdue(self, holder: Holder) -> bool:
        since_ns = holder.silent_since_ns
        return (
            not holder.present
            and since_ns is not None
            and self._view.now_ns - since_ns >= self._view.settings.takeover_ns
        )

    def named(self, instance: str) -> Holder | None:
        """The registered instance of that name, whatever directory it has now."""
        return self._by_name.get(instance)

    def of(self, member: Member) -> Holder | None:
        """The registered instance with that member's directory."""
        holder = self._by_name.get(member.instance)
        return holder if holder is not None and holder.member == member else None

    def gone(self, holder: Holder | None) -> bool:
        """Whether it is not registered any more, or silent for too long (unless the brake holds)."""
        return holder is None or (self._overdue(holder) and not self.braked)

    def lasting(self, member: Member) -> Holder | None:
        """The holder of a copy that counts: registered, with this directory, staying, not gone."""
        holder = self.of(member)
        return None if holder is None or holder.stage != "staying" or self.gone(holder) else holder

    def held(self, record: LedgerRecord) -> list[tuple[Holder, Held]]:
        """What the members of a ledger say they hold of it."""
        found = []
        for member in record.members:
            holder = self.of(member)
            if holder is not None and record.id in holder.held:
                found.append((holder, holder.held[record.id]))
        return found

    def complete(self, record: LedgerRecord) -> list[Holder]:
        """Members, present now, that hold all of a CLOSED ledger."""
        return [holder for holder, held in self.held(record) if holder.present and held.complete(record)]

    def best(
        self,
        count: int,
        kept: Sequence[Member],
        avoid: Collection[str] = (),
        preferred: Collection[Member] = (),
    ) -> tuple[Member, ...]:
        """``kept`` and the best others up to ``count``: on other nodes, then preferred, then with the fewest copies."""
        chosen = list(kept)
        nodes = {holder.node for member in kept if (holder := self.of(member)) is not None}
        candidates = [
            holder
            for holder in self._all
            if holder.present and holder.stage == "staying" and holder.member.directory_uuid
            and holder.name not in avoid and all(holder.name != member.instance for member in kept)
        ]  # fmt: skip
        while candidates and len(chosen) < count:
            best = min(
                candidates,
                key=lambda holder: (
                    holder.node in nodes,
                    holder.member not in preferred,
                    self._loads[holder.name],
                    holder.name,
                ),
            )
            candidates.remove(best)
            chosen.append(best.member)
            nodes.add(best.node)
        return tuple(chosen)

    def heirs(self, besides: str) -> Iterable[Holder]:
        """Who may become a dispatcher."""
        return (each for each in self._all if each.present and each.stage == "staying" and each.name != besides)

    def load(self, holder: Holder) -> int:
        """Copies it has."""
        return self._loads[holder.name]

    def strained_with(self, writer: str) -> set[str]:
        """Members whom this writer could not reach a moment ago."""
        return {member for each, member in self._view.strained if each == writer}
