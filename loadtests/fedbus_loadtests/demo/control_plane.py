"""The control plane as the demonstration sees it: what the regions' managers say, and the one thing it does to them.

The same resources as ``/v1/…``, asked of the managers themselves, because the process that shows them started them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from fedbus.errors import UnavailableError
from fedbus_actors import remote
from fedbus_loadtests.demo.region_state import RegionState

ASK_S = 3.0


class ControlPlane:
    """Looks at all regions of a federation that this process started."""

    def __init__(self, federation: str, regions: Iterable[str]) -> None:
        self._names = {region: remote.manager_name(federation, region) for region in regions}
        self.states = {region: RegionState() for region in self._names}

    async def look(self) -> dict[str, RegionState]:
        """The present states; of a region whose manager is away the last one."""
        await asyncio.gather(*(self._look(region) for region in self._names))
        return self.states

    async def hurry(self) -> None:
        """Let every manager plan now: before the replay its interval, in simulated time, is long."""
        for name in self._names.values():
            handle = remote.find(name)
            if handle is not None:
                handle.hurry.remote()

    async def _look(self, region: str) -> None:
        state = self.states[region]
        handle = remote.find(self._names[region])
        if handle is None:
            return
        try:
            regions, instances, directives, forecasts = await asyncio.gather(
                *(
                    remote.answer(handle.read.remote(resource), f"manager of {region}", ASK_S)
                    for resource in ("regions", "instances", "directives", "forecasts")
                )
            )
        except UnavailableError:
            return
        state.region, state.instances, state.directives, state.forecast = (
            regions[0],
            instances,
            directives,
            forecasts[0],
        )
