"""The invariants V1 to V10 and V12, one file each; all of them read the merged history once, in order."""

from __future__ import annotations

from typing import Protocol

from fedbus_loadtests.chaos.checks.absent import AbsentAfterFail
from fedbus_loadtests.chaos.checks.content import PublishedContent
from fedbus_loadtests.chaos.checks.damage import DamageReported
from fedbus_loadtests.chaos.checks.delivered import Delivered
from fedbus_loadtests.chaos.checks.epochs import NewestEpoch
from fedbus_loadtests.chaos.checks.forward import Forward
from fedbus_loadtests.chaos.checks.healing import Healed
from fedbus_loadtests.chaos.checks.homes import Homes, Shared
from fedbus_loadtests.chaos.checks.links import Links
from fedbus_loadtests.chaos.checks.once import Once
from fedbus_loadtests.chaos.checks.order import KeyOrder
from fedbus_loadtests.chaos.checks.positions import OneEventPerPosition
from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.published import Published
from fedbus_loadtests.chaos.violation import Violations


class Check(Protocol):
    """One invariant."""

    violations: Violations

    def see(self, entry: Entry) -> None:
        """Take the next entry in; publications know of it already."""

    def end(self) -> None:
        """The history is complete."""


def all_checks(promise: Promise, published: Published) -> list[Check]:
    """One of each."""
    homes = Homes(promise)
    return [
        Delivered(promise, published),
        PublishedContent(published),
        OneEventPerPosition(),
        KeyOrder(published),
        Once(promise, published, homes),
        homes,
        Shared(homes),
        Links(promise, published, homes),
        Forward(published),
        NewestEpoch(published),
        DamageReported(),
        Healed(promise, published),
        AbsentAfterFail(published),
    ]
