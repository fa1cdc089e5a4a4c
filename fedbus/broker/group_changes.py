"""What the region's manager says of groups, and what it is asked (protocol rule 15).

An instance with a manager makes no group by itself: a subscriber to an unknown one waits until the manager has made it
known to the instances, with the tails from before it existed, or has refused.
"""

from __future__ import annotations

from fedbus.broker import protocol as p
from fedbus.broker.effects import ApplyGroups, GroupRefused, Send
from fedbus.broker.group_requests import GroupRequests, Waiting
from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.groups import Groups
from fedbus.broker.ledger import Ledgers
from fedbus.broker.memberships import Memberships
from fedbus.errors import FedbusError, UnavailableError
from fedbus.limits import Limits


class GroupChanges:
    """``managed``: whether a manager makes the groups. ``refused``: definitions that cannot be carried out."""

    def __init__(
        self, groups: Groups, memberships: Memberships, ledgers: Ledgers, limits: Limits, *, managed: bool
    ) -> None:
        self.refused: dict[str, str] = {}
        self._groups = groups
        self._memberships = memberships
        self._ledgers = ledgers
        self._managed = managed
        self._requests = GroupRequests(limits.groups, limits.members_per_group)

    def join(self, session: bytes, request: p.Subscribe, spec: GroupSpec, now_ns: int) -> None:
        """A subscriber, now or when its group is known; raises a typed error if it may not be."""
        if self._managed and self._groups.get(spec.name) is None:
            self._requests.wait(session, request, spec, now_ns)
            self._requests.tick(self._ledgers.effects, now_ns)
        else:
            self._memberships.join(session, request, spec, now_ns)

    def forget(self, session: bytes, subscription: int | None = None) -> None:
        """A session, or one of its subscriptions, waits no more."""
        self._requests.forget(session, subscription)

    def apply(self, groups: ApplyGroups, now_ns: int) -> None:
        """Carry out what is new in these definitions."""
        self.refused.clear()
        for definition in groups.definitions:
            try:
                self._groups.apply(definition, now_ns)
            except FedbusError as error:
                self.refused[definition.spec.name] = error.detail
        self._memberships.sweep()
        for name in self._requests.names():
            if self._groups.get(name) is not None:
                for waiting in self._requests.take(name):
                    self._join_again(waiting, now_ns)

    def _join_again(self, waiting: Waiting, now_ns: int) -> None:
        session, request, spec = waiting
        try:
            self._memberships.join(session, request, spec, now_ns)
        except FedbusError as error:
            region = getattr(error, "region", "")
            self._refuse(waiting, error.code, error.detail, retryable=error.retryable, region=region)

    def answered(self, answer: GroupRefused) -> None:
        """There will be no such group."""
        for waiting in self._requests.take(answer.name):
            self._refuse(waiting, answer.code, answer.detail, retryable=answer.retryable)

    def tick(self, now_ns: int) -> None:
        """Ask (again), and let nobody wait for ever."""
        for waiting in self._requests.tick(self._ledgers.effects, now_ns):
            detail = f"the region's manager has not answered for group {waiting[2].name!r} yet"
            self._refuse(waiting, UnavailableError.code, detail, retryable=True)

    def _refuse(self, waiting: Waiting, code: str, detail: str, *, retryable: bool, region: str = "") -> None:
        session, request, _ = waiting
        refusal = p.Refused(request.request, code, detail, retryable, region=region)
        self._ledgers.effects.append(Send(session, refusal))
