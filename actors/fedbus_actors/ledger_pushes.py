"""What instances are told of ledgers: record versions they have not noted, and where the others are.

What was said is said again after a second, as long as an instance's report does not show that it arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from fedbus.broker.status import BrokerStatus
from fedbus.clock import NS_PER_S, Clock
from fedbus.control.holders import Stage
from fedbus.ledger_record import LedgerRecord

REPEAT_NS = NS_PER_S


class InstanceCalls(Protocol):
    """What is said to an instance. No call waits for it; what gets lost is said again."""

    def apply_ledgers(self, records: list[LedgerRecord], endpoints: dict[str, str]) -> None:
        """Ledger records that concern it, newest versions, and where the instances are."""

    def request_refused(self, ledger: str, detail: str) -> None:
        """What it asked for cannot be done now."""

    def review_ensemble(self, ledger: str) -> None:
        """Ask for other members."""

    def close_ledger(self) -> None:
        """Dispatch no more, end the ledger, ask for it to be closed."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as its fleet has it now. ``incarnation`` differs after every restart; ``status``: reported last."""

    name: str
    node: str
    endpoint: str
    directory_uuid: str
    incarnation: int
    present: bool
    silent_since_ns: int | None
    stage: Stage
    status: BrokerStatus | None
    calls: InstanceCalls


class LedgerPushes:
    """What the instances of one region have been told; used under its keeper's lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: Mapping[str, Kept] = {}
        self._told: dict[tuple[str, str], tuple[int, int, int]] = {}
        self._told_endpoints: dict[str, tuple[int, dict[str, str]]] = {}

    def keep(self, kept: Mapping[str, Kept]) -> None:
        """These are the instances from now on."""
        self._kept = kept
        self._told = {key: told for key, told in self._told.items() if key[0] in kept}
        self._told_endpoints = {name: told for name, told in self._told_endpoints.items() if name in kept}

    def push(self, pushes: Mapping[str, list[LedgerRecord]]) -> bool:
        """Tell everybody what it should know; whether any of it was new."""
        news = False
        for instance, records in pushes.items():
            news |= self.tell(instance, [record for record in records if not self._told_lately(instance, record)])
        for name in self._kept:
            self.tell(name, [])
        return news

    def tell(self, instance: str, records: list[LedgerRecord]) -> bool:
        """Tell an instance of these records, if there are any or the endpoints changed; whether one was new to it."""
        kept, endpoints = self._kept.get(instance), self._endpoints()
        if kept is None or (not records and self._told_endpoints.get(instance) == (kept.incarnation, endpoints)):
            return False
        now_ns, news = self._clock.monotonic_ns(), False
        for record in records:
            before = self._told.get((instance, record.id))
            news |= before is None or before[0] != record.version
            self._told[instance, record.id] = (record.version, kept.incarnation, now_ns)
        self._told_endpoints[instance] = (kept.incarnation, endpoints)
        kept.calls.apply_ledgers(records, endpoints)
        return news

    def _told_lately(self, instance: str, record: LedgerRecord) -> bool:
        told, kept = self._told.get((instance, record.id)), self._kept.get(instance)
        if told is None or kept is None:
            return False
        version, incarnation, at_ns = told
        same = version == record.version and incarnation == kept.incarnation
        return same and self._clock.monotonic_ns() - at_ns < REPEAT_NS

    def _endpoints(self) -> dict[str, str]:
        return {kept.name: kept.endpoint for kept in self._kept.values() if kept.endpoint}
