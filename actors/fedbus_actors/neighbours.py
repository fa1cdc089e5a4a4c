"""Neighbours: what the managers of the other regions say of theirs.

Regions that share a cluster ask one another by actor name. What is kept when a neighbour does not answer is its last
word; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fedbus.control.summary import RegionSummary
from fedbus_actors import remote

ASK_S = 1.0


class Neighbours:
    """The last summary of each other region."""

    def __init__(self, federation: str, regions: Iterable[str]) -> None:
        self._names = {region: remote.manager_name(federation, region) for region in regions}
        self.summaries: dict[str, RegionSummary] = {}

    def poll(self) -> None:
        """Ask all of them side by side."""
        handles = {region: remote.find(name) for region, name in self._names.items()}
        calls: dict[str, Callable[[], Any]] = {
            region: handle.summary.remote for region, handle in handles.items() if handle is not None
        }
        for region, answer in remote.ask(calls, ASK_S).items():
            if isinstance(answer, RegionSummary):
                known = self.summaries.get(region)
                if known is None or answer.generation >= known.generation:
                    self.summaries[region] = answer
