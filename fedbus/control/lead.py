"""The provisioning lead as it really is: from ordering an instance to its service, measured on those ordered lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedbus.control.load import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedbus.control.directive import Directive

#: Creates that are looked back on: few enough that a slow hour is forgotten, enough that luck does not count.
CREATES = 10


def provisioning_lead_s(newest_first: Iterable[Directive], declared_s: float, longest_s: float) -> float:
    """The longest that one of the last creates took, in seconds; at most ``longest_s``, never below ``declared_s``.

    ``declared_s``: the federation file's, which holds until something was measured. Acting too early costs minutes of
    an instance, too late costs events: hence the longest.
    """
    took_s = [
        (directive.settled_at_ns - directive.ordered_at_ns) / NS_PER_S
        for directive in newest_first
        if directive.action == "create" and directive.status == "done" and directive.settled_at_ns is not None
    ][:CREATES]
    return max(declared_s, min(longest_s, max(took_s, default=0.0)))
