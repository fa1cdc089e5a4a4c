"""Subscribers to a group that is unknown here, while the region's manager is asked for it (protocol rule 15).

The manager makes it known to every instance, so that no event published after the answer is missed anywhere.
"""

from __future__ import annotations

from fedbus.broker import protocol as p
from fedbus.broker.effects import Effect, RequestGroup
from fedbus.broker.group_spec import GroupSpec, check_same_filters
from fedbus.errors import OverloadedError

MILLISECOND = 1_000_000
REPEAT_NS = 300 * MILLISECOND
PATIENCE_NS = 8_000 * MILLISECOND  # less than a client waits for a subscription to stand

Waiting = tuple[bytes, p.Subscribe, GroupSpec]


class _Asked:
    def __init__(self, spec: GroupSpec, until_ns: int) -> None:
        self.spec = spec
        self.until_ns = until_ns
        self.again_ns = 0
        self.waiting: dict[tuple[bytes, int], p.Subscribe] = {}


class GroupRequests:
    """Bounded by the limits on groups and on members of one."""

    def __init__(self, most_groups: int, most_members: int) -> None:
        self._most_groups = most_groups
        self._most_members = most_members
        self._asked: dict[str, _Asked] = {}

    def wait(self, session: bytes, request: p.Subscribe, spec: GroupSpec, now_ns: int) -> None:
        """Ask for this group; raises a typed error if it may not wait."""
        asked = self._asked.get(spec.name)
        if asked is None:
            if len(self._asked) >= self._most_groups:
                raise OverloadedError(f"{len(self._asked)} groups are being asked for already", retry_after_ms=1000)
            asked = self._asked[spec.name] = _Asked(spec, now_ns + PATIENCE_NS)
        check_same_filters(asked.spec, spec.filters)
        if len(asked.waiting) >= self._most_members:
            raise OverloadedError(f"{len(asked.waiting)} members wait for group {spec.name!r} already")
        asked.waiting[session, request.subscription] = request

    def forget(self, session: bytes, subscription: int | None) -> None:
        """A subscription of a session does not wait any more (``None``: none of its subscriptions does)."""
        for asked in self._asked.values():
            asked.waiting = {
                key: request
                for key, request in asked.waiting.items()
                if key[0] != session or subscription not in (None, key[1])
            }

    def take(self, name: str) -> list[Waiting]:
        """There is an answer for this group: who waited for it."""
        asked = self._asked.pop(name, None)
        if asked is None:
            return []
        return [(session, request, asked.spec) for (session, _), request in asked.waiting.items()]

    def names(self) -> list[str]:
        """The groups asked for."""
        return list(self._asked)

    def tick(self, effects: list[Effect], now_ns: int) -> list[Waiting]:
        """Ask (again); returns those who have waited long enough."""
        late: list[Waiting] = []
        for name, asked in list(self._asked.items()):
            if not asked.waiting or asked.until_ns <= now_ns:
                late += self.take(name)
            elif asked.again_ns <= now_ns:
                asked.again_ns = now_ns + REPEAT_NS
                effects.append(RequestGroup(asked.spec))
        return late
