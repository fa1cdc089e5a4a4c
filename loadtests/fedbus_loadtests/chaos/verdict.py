"""The verdict on a history: every invariant checked in one pass, and what breaks them explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from fedbus_loadtests.chaos.checks import all_checks
from fedbus_loadtests.chaos.entry import Entry, encode
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.published import Published
from fedbus_loadtests.chaos.violation import Violation

TOO_FEW = "too few"


class Verdict(msgspec.Struct):
    """``violations``: how many of each invariant; ``explained``: the first of each in full."""

    published: int
    acknowledged: int
    unknown: int
    failed: int
    delivered: int
    faults: dict[str, int]
    violations: dict[str, int]
    explained: list[Violation]

    @property
    def ok(self) -> bool:
        """Whether everything held, and enough happened to say so."""
        return not self.violations

    def text(self) -> str:
        """A few lines for people."""
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items())) or "none"
        counts = f"{self.acknowledged} acknowledged, {self.unknown} unknown, {self.failed} failed"
        lines = [f"{self.published} events published: {counts}; {self.delivered} deliveries; faults: {faults}"]
        for violation in self.explained:
            lines.append(f"✗ {violation.invariant}: {violation.text}")
            lines += [f"      {encode(entry).decode().rstrip()}" for entry in violation.shown_by]
        shown = Counter(violation.invariant for violation in self.explained)
        for invariant, count in self.violations.items():
            if count > shown[invariant]:
                lines.append(f"✗ {invariant}: {count - shown[invariant]} more")
        lines.append("every invariant held" if self.ok else "VIOLATED: " + ", ".join(self.violations))
        return "\n".join(lines)


def judge(history: Iterable[Entry], promise: Promise | None = None) -> Verdict:
    """Check a merged history. ``promise``: instead of the one it records (without any: that of one copy).

    Raises :class:`~fedbus.errors.ConfigurationError` for entries that make no history.
    """
    entries = list(history)
    if promise is None:
        recorded = next((entry for entry in entries if entry.operation == "promise"), None)
        promise = Promise.decode(recorded.detail) if recorded is not None else Promise()
    published = Published()
    checks = all_checks(promise, published)
    faults: Counter[str] = Counter()
    delivered = 0
    for entry in entries:
        published.see(entry)
        for check in checks:
            check.see(entry)
        faults[entry.fault] += entry.operation == "fault"
        delivered += entry.operation == "deliver"
    for check in checks:
        check.end()
    publications = published.by_id.values()
    acknowledged = sum(1 for publication in publications if publication.acked)
    failed = sum(1 for publication in publications if publication.surely_absent)
    found = [check.violations for check in checks if check.violations.count]
    verdict = Verdict(
        published=len(publications),
        acknowledged=acknowledged,
        unknown=len(publications) - acknowledged - failed,
        failed=failed,
        delivered=delivered,
        faults={kind: count for kind, count in faults.items() if kind},
        violations=dict(sum((Counter({each.invariant: each.count}) for each in found), Counter())),
        explained=[violation for violations in found for violation in violations.first],
    )
    _add_too_few(verdict, promise)
    return verdict


def _add_too_few(verdict: Verdict, promise: Promise) -> None:
    """A run in which little happened shows nothing."""
    for what, count, least in (
        ("acknowledged events", verdict.acknowledged, promise.least_published),
        ("deliveries", verdict.delivered, promise.least_delivered),
        ("faults", sum(verdict.faults.values()), promise.least_faults),
    ):
        if count < least:
            verdict.violations[TOO_FEW] = verdict.violations.get(TOO_FEW, 0) + 1
            verdict.explained.append(Violation(TOO_FEW, f"{count} {what}, at least {least} were to be seen"))
