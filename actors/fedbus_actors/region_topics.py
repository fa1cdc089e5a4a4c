"""Topic policies of a region: kept in its store, told to its instances, and changed by operators.

The federation file's policies are a beginning; what was changed at run time stays. A change answers when every living
instance applied it (protocol rule 22); one that was away is told by the watch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from fedbus.broker.effects import Surveyed
from fedbus.broker.policies import Policies, TopicRule, check_decidable
from fedbus.broker.retention import over_size
from fedbus.clock import Clock
from fedbus.errors import ConflictError
from fedbus.options.topics import TopicsOptions
from fedbus.storage.store import Store
from fedbus_actors.fleet import Fleet
from fedbus_actors.instance_calls import check_told, living, tell

MOST_TOPICS = 10_000

Answer = dict[str, Any]


class RegionTopics:
    """The policies in force. ``policies``: as every instance is to have them."""

    def __init__(
        self, store: Store, fleet: Fleet, options: TopicsOptions, clock: Clock, note: Callable[[str, str], None]
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._changing = threading.Lock()  # changes come from the actor's own threads
        self._cutoffs: dict[str, int] = {}
        self._told_cutoffs: dict[str, int] = {}  # instance → process
        self.policies = Policies(auto_create=options.auto_create)
        self._seed(options, note)
        self._load()

    def _seed(self, options: TopicsOptions, note: Callable[[str, str], None]) -> None:
        present = [each.name for each in self._store.topics.all()]
        for rule in options.rules():
            try:
                check_decidable(rule.filter, present)
            except ConflictError as error:
                note("topic_policy", f"the policy of {rule.filter} in the federation file is left out: {error.detail}")
            else:
                self._store.topics.add_missing({rule.filter: rule}, self._clock.now_ns())
                present.append(rule.filter)

    def _load(self) -> None:
        """Under a new version, so that nobody takes older rules for these."""
        rules = [each.body for each in self._store.topics.all()]
        version = self._store.topics.next_version()
        self.policies.apply(version, rules, auto_create=self.policies.auto_create)

    # -- changes -------------------------------------------------------------------------------------------------------

    def put(self, name: str, rule: TopicRule) -> Answer:
        """A policy for the topics of a filter; :class:`ConflictError` names the one with which it would tie."""
        with self._changing:
            check_decidable(name, (each.filter for each in self.policies.rules))
            self._store.topics.put(name, rule, self._clock.now_ns())
            self._load()
        return self._told(name)

    def delete(self, name: str, _: Any = None) -> Answer:
        """Take a policy back; :class:`NotFoundError`."""
        with self._changing:
            self._store.topics.delete(name)
            self._load()
        return self._told(name)

    def _told(self, name: str) -> Answer:
        policies = self.policies
        version, rules = policies.version, list(policies.rules)
        members = living(list(self._fleet.members.values()))
        answers = tell(members, lambda handle: handle.apply_topics.remote(version, rules, policies.auto_create))
        check_told(answers, f"the policy of {name}")
        return {"topic": name, "version": version}

    # -- the watch -----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Tell whoever has other policies, and everybody what is over its size in the region."""
        policies = self.policies
        members = [m for m in list(self._fleet.members.values()) if m.fresh and m.report is not None]
        for member in members:
            assert member.report is not None
            if member.report.status.topics_version < policies.version:
                member.handle.apply_topics.remote(policies.version, list(policies.rules), policies.auto_create)
        cutoffs = over_size(policies, _once(each for m in members if m.report for each in m.report.status.retained))
        if cutoffs != self._cutoffs:
            self._cutoffs = cutoffs
            self._told_cutoffs = {}
        for member in members:
            assert member.report is not None
            if cutoffs and self._told_cutoffs.get(member.name) != member.report.pid:
                self._told_cutoffs[member.name] = member.report.pid
                member.handle.apply_cutoffs.remote(cutoffs)

    # -- views ---------------------------------------------------------------------------------------------------------

    def views(self) -> list[dict[str, Any]]:
        """The policies, as the control API tells them."""
        return [rule_view(rule) for rule in self.policies.rules]

    def rules(self, _: Any = None) -> dict[str, Any]:
        """All there is to know for whoever decides by them (gateways, clients)."""
        policies = self.policies
        return {
            "version": policies.version,
            "rules": msgspec.to_builtins(list(policies.rules)),
            "auto_create": policies.auto_create,
        }

    def seen(self, asked: dict[str, Any]) -> list[str]:
        """Topics that events came for, in order behind ``after``, at most ``limit``.

        Every instance tells those that it knows: a bounded number, since it started, and those of its ledgers.
        """
        after, limit = str(asked.get("after", "")), min(int(asked.get("limit", MOST_TOPICS)), MOST_TOPICS)
        members = living(list(self._fleet.members.values()))
        found: set[str] = set()
        for answer in tell(members, lambda handle: handle.known_topics.remote(after, limit)).values():
            if not isinstance(answer, Exception):
                found.update(answer)
        return sorted(found)[:limit]


def _once(ledgers: Any) -> list[Surveyed]:
    """Each ledger once, though two instances may tell of it while its dispatcher changes."""
    return list({each.ledger: each for each in ledgers}.values())


def rule_view(rule: TopicRule) -> dict[str, Any]:
    """A policy as the control API tells it."""
    return {
        "topic": rule.filter,
        "policy": rule.filter,
        "retention_ms": rule.retention_ms,
        "retention_bytes": rule.retention_bytes or None,
        "dedup_window_ms": rule.dedup_window_ms or None,
        "schema_subject": rule.schema_subject,
        "validation": rule.validation,
        "forward": rule.forward,
        "regions": list(rule.regions),
        "durability": rule.durability,
    }
