"""Where regions are heard and by which keys they are known, as far as the federation file and this machine say.

What peers say counts more (``fedbus.control.membership``): all this is where to begin.
"""

from __future__ import annotations

from pathlib import Path

from fedbus.clock import NS_PER_S
from fedbus.control.peer import PeeringSettings
from fedbus.control.summary import RegionAddress
from fedbus.options.federation import FederationOptions
from fedbus_actors.region_keys import KeyPair, public_key

NS_PER_MS = NS_PER_S // 1000
FILE_VERSION = 0
OWN_VERSION = 1


class RegionAddresses:
    """As one region on the node of that address is to begin."""

    def __init__(self, options: FederationOptions, region: str, node_address: str) -> None:
        self._options = options
        self._region = region
        self._node_address = node_address

    @property
    def settings(self) -> PeeringSettings:
        """How patient peering is."""
        peering = self._options.peering
        lost_after_ns = peering.lost_after_ms * NS_PER_MS
        return PeeringSettings(
            interval_ns=peering.interval_ms * NS_PER_MS, lost_after_ns=lost_after_ns, redial_ns=lost_after_ns
        )

    def own(self, keys: KeyPair) -> RegionAddress:
        """Its own word."""
        endpoint = self._options.regions[self._region].peering_address(self._node_address)
        return RegionAddress(self._region, endpoint, keys.public, OWN_VERSION)

    def others(self) -> list[RegionAddress]:
        """The other regions of the file; without a key where neither the file nor this machine has one."""
        return [
            RegionAddress(name, options.peering_address(self._node_address), self._key(name), FILE_VERSION)
            for name, options in self._options.regions.items()
            if name != self._region
        ]

    def news(self, members: list[RegionAddress]) -> list[RegionAddress]:
        """Keys on this machine that peering does not know yet: of a region that has started, or lost its key, since."""
        known = {address.region: address for address in members}
        found: list[RegionAddress] = []
        for address in self.others():
            member = known.get(address.region)
            if member is None or member.left or member.public_key == address.public_key or not address.public_key:
                continue
            newer = member.version + 1 if member.version > FILE_VERSION else FILE_VERSION
            found.append(RegionAddress(member.region, member.endpoint, address.public_key, newer))
        return found

    def _key(self, region: str) -> str:
        here = Path(self._options.data.root) / self._options.name / region
        return self._options.regions[region].public_key or public_key(here)
