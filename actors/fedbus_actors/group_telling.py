"""Tells the instances of a region all definitions of groups, and knows who has recorded which version of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fedbus.errors import UnavailableError
from fedbus_actors import remote
from fedbus_actors.fleet import Fleet, Member
from fedbus_actors.group_registry import GroupRegistry
from fedbus_actors.instance_calls import living, tell

Told = tuple[int, int]  # process, version of the definitions


class GroupTelling:
    """One region's."""

    def __init__(self, registry: GroupRegistry, fleet: Fleet) -> None:
        self._registry = registry
        self._fleet = fleet
        self._told: dict[str, Told] = {}
        self._telling: dict[str, tuple[Told, Any]] = {}

    def tell(self, members: Iterable[Member], *names: str) -> dict[str, Any]:
        """Tell these instances all definitions; who of them has not recorded these groups, and why."""
        version, definitions = self._registry.version, self._registry.definitions()
        writing = {m.name: m for m in living(members) if m.report is not None and m.report.status.ledger}
        answers = tell(writing.values(), lambda handle: handle.apply_groups.remote(definitions))
        failures: dict[str, Any] = {}
        for instance, answer in answers.items():
            refused = {} if isinstance(answer, Exception) else {each: answer[each] for each in names if each in answer}
            if isinstance(answer, Exception):
                failures[instance] = answer
            elif refused:
                failures[instance] = UnavailableError("; ".join(refused.values()))
            elif not answer:
                self._has(writing[instance], version)
        return failures

    def _has(self, member: Member, version: int) -> None:
        if member.report is not None:
            self._told[member.name] = (member.report.pid, version)

    def step(self) -> None:
        """Tell those who have not all definitions; nobody is waited for."""
        version, definitions = self._registry.version, self._registry.definitions()
        if not definitions:
            return
        calls = {name: _returns(reference) for name, (_, reference) in self._telling.items()}
        for name, answer in remote.ask(calls, 0.0).items() if calls else ():
            if not isinstance(answer, TimeoutError):
                told, _ = self._telling.pop(name)
                if answer == {}:
                    self._told[name] = told
        for member in living(list(self._fleet.members.values())):
            if member.report is None or not member.report.status.ledger or member.name in self._telling:
                continue
            wanted = (member.report.pid, version)
            if self._told.get(member.name) != wanted:
                self._telling[member.name] = wanted, member.handle.apply_groups.remote(definitions)


def _returns(reference: Any) -> Callable[[], Any]:
    return lambda: reference
