"""What a manager asks of an instance and tells it; each call returns when the instance's core has taken it in."""

from __future__ import annotations

from heapq import nsmallest
from threading import Event

from fedbus.broker import copy_effects as c
from fedbus.broker import effects as e
from fedbus.broker.broker import Broker
from fedbus.broker.group_spec import GroupRecord
from fedbus.broker.policies import TopicRule
from fedbus.broker.status import BrokerStatus, LedgerBacklog, ledger_backlogs
from fedbus.errors import UnavailableError
from fedbus.ledger_record import LedgerRecord
from fedbus_actors.link_control import CALL_TIMEOUT_S, LinkControl

RECORDED_POLL_S, RECORDED_POLLS = 0.01, 200


def _backlog(broker: Broker, name: str) -> list[LedgerBacklog]:
    group = broker.subscriptions.groups.get(name)
    return [] if group is None else ledger_backlogs(group, broker.ledgers)


def _groups_now(broker: Broker) -> tuple[bool, dict[str, str]]:
    return broker.subscriptions.groups.recorded, broker.subscriptions.changes.refused


class InstanceControl(LinkControl):
    """The calls; may come from any thread. They raise what the core raises, ClosedError if it has ended."""

    def status(self) -> BrokerStatus:
        """What the core reports, between two inputs."""
        status: BrokerStatus = self._thread.call(lambda broker: broker.status()).result(CALL_TIMEOUT_S)
        return status

    def apply_table(self, version: int, data: bytes) -> None:
        """A routing table, older ones are ignored; :class:`ProtocolError` if it cannot be read."""
        self._apply(e.ApplyTable(version, data))

    def apply_ledgers(self, records: list[LedgerRecord], endpoints: dict[str, str]) -> None:
        """Ledger records that concern this instance, older versions are ignored.

        ``endpoints``: of the instances named in them, ``region/id`` → ``tcp://host:port``.
        """
        self._apply(c.ApplyLedgers(records, endpoints))

    def review_ensemble(self, ledger: str) -> None:
        """Ask for other members of the open ledger."""
        self._apply(c.ReviewEnsemble(ledger))

    def request_refused(self, ledger: str, detail: str) -> None:
        """What was asked about this ledger cannot be done now."""
        self._apply(c.RequestRefused(ledger, detail))

    def apply_groups(self, definitions: list[GroupRecord]) -> dict[str, str]:
        """All group definitions of the region, those of deleted ones too.

        Returns when they are recorded: what could not be, by group, and why. :class:`UnavailableError` if that takes
        too long.
        """
        asked, pause = self._thread.call(_groups_now, e.ApplyGroups(definitions)), Event()
        for _ in range(RECORDED_POLLS):
            recorded, refused = asked.result(CALL_TIMEOUT_S)
            if recorded:
                return dict(refused)
            pause.wait(RECORDED_POLL_S)
            asked = self._thread.call(_groups_now)
        raise UnavailableError("the groups are known here, but their records are not confirmed yet")

    def group_refused(self, name: str, code: str, detail: str, retryable: bool = False) -> None:  # noqa: FBT001, FBT002
        """There will be no group of that name."""
        self._apply(e.GroupRefused(name, code, detail, retryable))

    def group_backlog(self, name: str) -> list[LedgerBacklog]:
        """How far a group is in each ledger served here; nothing if it is not known here."""
        return list(self._thread.call(lambda broker: _backlog(broker, name)).result(CALL_TIMEOUT_S))

    def apply_topics(self, version: int, rules: list[TopicRule], auto_create: bool) -> None:  # noqa: FBT001
        """Topic policies, older ones are ignored; returns when they are in force."""
        self._apply(e.ApplyTopics(version, rules, auto_create))

    def apply_cutoffs(self, newest_ms: dict[str, int]) -> None:
        """What is over its policy's size in the region (see ``broker/retention.py``)."""
        self._apply(e.ApplyCutoffs(newest_ms))

    def known_topics(self, after: str = "", limit: int = 1000) -> list[str]:
        """Topics that events came for, in order behind ``after``: since the start, and those of its closed ledgers."""
        asked = self._thread.call(lambda broker: broker.intake.known_topics() | broker.retention.closed.topics())
        known: set[str] = asked.result(CALL_TIMEOUT_S)
        return nsmallest(limit, (topic for topic in known if topic > after))

    def drain(self, close: bool = False) -> None:  # noqa: FBT001, FBT002
        """Take no new batches from now on; with ``close`` also close the ledger being written, and begin no other."""
        self._apply(e.Drain(close))

    def scrub(self) -> None:
        """Read everything on disk through now; what is damaged shows in the status, and is repaired from a copy."""
        self._thread.disk.scrub()
