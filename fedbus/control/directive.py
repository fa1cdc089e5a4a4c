"""Directives: one instruction to provisioning each, and the life of a directive as a literal table.

    ordered ──start──▶ applying ──finish──▶ done
       │ └──────fail──────┐ └──fail──▶ failed
       └─supersede─▶ superseded

A directive that is being applied cannot be superseded: half an instance is a leak. The manager stores directives and
hands them to the provisioner; what they mean on a machine is the provisioner's business.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fedbus.control.decision import Cause, Decision

__all__ = ["TRANSITIONS", "UNFINISHED", "Action", "Cause", "Directive", "IllegalStepError", "Status", "Step"]

Action = Literal["create", "resize", "drain", "destroy"]
Status = Literal["ordered", "applying", "done", "failed", "superseded"]
Step = Literal["start", "finish", "fail", "supersede"]

TRANSITIONS: dict[tuple[Status, Step], Status] = {
    ("ordered", "start"): "applying",
    ("ordered", "fail"): "failed",
    ("ordered", "supersede"): "superseded",
    ("applying", "finish"): "done",
    ("applying", "fail"): "failed",
}

UNFINISHED: frozenset[Status] = frozenset({"ordered", "applying"})


class IllegalStepError(AssertionError):
    """A step the table does not know: a bug of ours, the message names state, input and directive."""


class Directive(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction: ``instance`` is None for a create (provisioning names it).

    ``reason`` is a sentence for people, ``decision`` the same as data.
    """

    id: str
    region: str
    action: Action
    instance: str | None
    size: str
    cause: Cause
    reason: str
    ordered_at_ns: int
    plan_generation: int
    status: Status = "ordered"
    settled_at_ns: int | None = None
    outcome: str = ""
    decision: Decision | None = None
    """What it follows from, as data; None for one of an older version."""

    def step(self, step: Step, now_ns: int, outcome: str = "", instance: str | None = None) -> Directive:
        """The directive after ``step``; raises IllegalStepError where the table has no entry.

        ``instance`` names what a create brings forth; give it with "start", so that a plan counts the instance once.
        """
        status = TRANSITIONS.get((self.status, step))
        if status is None:
            raise IllegalStepError(
                f"directive {self.id} ({self.action}, {self.region}) is {self.status}: {step!r} is illegal"
            )
        settled_at_ns = None if status in UNFINISHED else now_ns
        return msgspec.structs.replace(
            self,
            status=status,
            settled_at_ns=settled_at_ns,
            outcome=outcome or self.outcome,
            instance=instance or self.instance,
        )

    @property
    def unfinished(self) -> bool:
        """Whether provisioning still has to act on it."""
        return self.status in UNFINISHED
