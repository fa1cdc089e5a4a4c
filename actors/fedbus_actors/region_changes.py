"""Operators' changes to one region: what ``PUT``, ``DELETE`` and ``POST`` of the control API do at its region.

A change is a row in the store (so it survives the manager) or, for a restart, a word to the instance; what follows from
it the control loop does. Called from the actor's own threads, beside the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fedbus.clock import NS_PER_S
from fedbus.control.capacity import IN_SERVICE
from fedbus.control.directive import Directive
from fedbus.control.sla import Sla
from fedbus.control.trigger import Trigger
from fedbus.control.view import Override
from fedbus.errors import ConflictError, NotFoundError, UnavailableError
from fedbus.event import format_time_ns
from fedbus_actors.fleet import Member
from fedbus_actors.region_peering import membership_changes

if TYPE_CHECKING:
    from fedbus_actors.region import Region

Answer = dict[str, Any]


class RegionChanges:
    """The changes one manager accepts; each answers what came of it, JSON-ready."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._store = region.store
        self._changes: dict[str, Callable[[str, Any], Answer]] = {
            "put_sla": self._put_sla,
            "delete_sla": self._delete_sla,
            "put_trigger": self._put_trigger,
            "delete_trigger": self._delete_trigger,
            "put_topic": region.topics.put,
            "delete_topic": region.topics.delete,
            "put_group": region.groups.put,
            "seek_group": region.groups.seek,
            "delete_group": region.groups.delete,
            "move_group": region.groups.move,
            "leave_groups": region.groups.homes.leave,
            "scale": self._scale,
            "unscale": self._unscale,
            "drain": self._drain,
            "restart": self._restart,
            **membership_changes(region.peering, region.groups.homes.give_away),
        }

    def apply(self, change: str, name: str, value: Any) -> Answer:
        """Carry out a change; raises NotFoundError, ConflictError, or what the value's type says is wrong with it."""
        if change not in self._changes:
            raise NotFoundError(f"{change!r} is none of the changes {', '.join(sorted(self._changes))}")
        return self._changes[change](name, value)

    def _put_sla(self, _: str, sla: Sla) -> Answer:
        self._store.slas.put(sla.filter, sla, self._region.clock.now_ns())
        return {}

    def _delete_sla(self, name: str, _: Any) -> Answer:
        self._store.slas.delete(name)
        return {}

    def _put_trigger(self, _: str, trigger: Trigger) -> Answer:
        now_ns = self._region.clock.now_ns()
        known = self._store.triggers.find(trigger.id)
        if known is not None:  # announced again for its next time: what it brought the last times is learned from
            trigger = trigger.after(known.body, now_ns)
        self._store.triggers.put(trigger.id, trigger, now_ns)
        return {}

    def _delete_trigger(self, name: str, _: Any) -> Answer:
        self._store.triggers.delete(name)
        return {}

    def _scale(self, _: str, wanted: dict[str, Any]) -> Answer:
        """``wanted``: instances, size (or None), expires_in_s, in seconds of the control plane's clock."""
        region, now_ns = self._region.name, self._region.clock.now_ns()
        options = self._region.options.regions[region]
        size, instances = wanted["size"], wanted["instances"]
        if size is not None and size not in options.sizes:
            raise NotFoundError(f"region {region} has no size {size!r}; it has {', '.join(options.sizes)}")
        if instances > options.instances.max:
            raise ConflictError(
                f"{instances} instances are more than region {region} may have: its instances.max is "
                f"{options.instances.max}; ask for at most that, or raise it in the federation file"
            )
        override = Override(instances, now_ns + round(wanted["expires_in_s"] * NS_PER_S), size)
        self._store.overrides.put(region, override, now_ns)
        return {"region": region, "instances": instances, "size": size, "expires": format_time_ns(override.expires_ns)}

    def _unscale(self, _: str, __: Any) -> Answer:
        region = self._region.name
        self._store.overrides.delete(region)
        return {"region": region}

    def _drain(self, name: str, _: Any) -> Answer:
        member, region, now_ns = self._member(name), self._region.name, self._region.clock.now_ns()
        leaving = [d for d in self._store.directives.unfinished(region) if d.action == "drain" and d.instance == name]
        if leaving:
            return {"directive": leaving[0].id, "instance": member.name}
        if member.record.state != "serving":
            raise ConflictError(f"instance {member.name} is {member.state}: only one that serves can be drained")
        others = [m for m in list(self._region.fleet.members.values()) if m is not member and m.state in IN_SERVICE]
        if not others:
            raise ConflictError(
                f"instance {member.name} is the only one of its region that takes events: give the region another "
                f"first (fedbus scale {region} --instances 2)"
            )
        directive = Directive(
            id=f"{region}/operator/{now_ns}", region=region, action="drain", instance=name, size=member.record.size,
            cause="override", reason=f"operator asked to drain {name}", ordered_at_ns=now_ns, plan_generation=0,
        )  # fmt: skip
        self._store.directives.order([directive])
        return {"directive": directive.id, "instance": member.name}

    def _restart(self, name: str, _: Any) -> Answer:
        member = self._member(name)
        if member.handle is None or member.report is None:
            raise UnavailableError(
                f"instance {member.name} cannot be spoken to ({member.state}); it is started anew by itself",
                retry_after_ms=1000,
            )
        member.handle.restart.remote()
        return {"instance": member.name, "ledger": member.report.status.ledger}

    def _member(self, name: str) -> Member:
        members = self._region.fleet.members
        member = members.get(name)
        if member is None:
            known = ", ".join(sorted(members)) or "none"
            raise NotFoundError(f"region {self._region.name} has no instance {name!r}; it has {known}")
        return member
