"""Membership: which regions belong to the federation, where they are heard, and by which key they are known.

Everybody tells on what it knows, and of two addresses of one region the one with the higher version counts, everywhere
(a last-writer-wins map; equal versions are ordered by content, so that all end up with the same). A region that left
stays known as such: else those that have not heard of it would bring it back. Each region has the last word on its own
address, but not on whether it is a member.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fedbus.control.summary import RegionAddress
from fedbus.errors import ConflictError, NotFoundError, OverloadedError

MOST_REGIONS = 200


class Membership:
    """All members as one region knows them. ``own``: its own address, now in force."""

    def __init__(self, own: RegionAddress, known: Iterable[RegionAddress] = ()) -> None:
        """``known``: from the store, from the federation file (those with version 0); its own old address too."""
        self._own = own
        self._addresses = {own.region: own}
        for address in known:
            self.learn(address)

    @property
    def own(self) -> RegionAddress:
        """Its own address as the others are to know it."""
        return self._addresses[self._own.region]

    def all(self) -> list[RegionAddress]:
        """Of every region ever heard of, by name; those that left too."""
        return sorted(self._addresses.values(), key=lambda address: address.region)

    def told(self) -> list[RegionAddress]:
        """Those that others are told, and that are stored: not what a federation file alone says."""
        return [address for address in self.all() if address.version > 0]

    def others(self) -> dict[str, RegionAddress]:
        """The other members; nobody once this region has left."""
        if self.own.left:
            return {}
        return {name: each for name, each in self._addresses.items() if name != self._own.region and not each.left}

    def learn(self, address: RegionAddress, speaker: str = "") -> bool:
        """Whether somebody's word of a region was news; a wrong one about this region itself is put right.

        ``speaker``: the region that said it. About itself it may not have heard yet what others were told.
        """
        known = self._addresses.get(address.region)
        if known is not None and speaker == address.region and _is_elsewhere(known, address):
            address = msgspec.structs.replace(address, version=known.version + 1)
        if known is not None and _order(address) <= _order(known):
            return False
        if known is None and len(self._addresses) >= MOST_REGIONS:
            return False
        if address.region == self._own.region and not address.left and not self._agrees(address):
            address = msgspec.structs.replace(self._own, version=address.version + 1)
        self._addresses[address.region] = address
        return True

    def _agrees(self, address: RegionAddress) -> bool:
        return (address.endpoint, address.public_key) == (self._own.endpoint, self._own.public_key)

    def add(self, region: str, endpoint: str, public_key: str) -> RegionAddress:
        """An operator's word: this is a member; one whose key belongs to another member: :class:`ConflictError`."""
        holder = next((each.region for each in self.all() if each.public_key == public_key and not each.left), region)
        if public_key and holder != region:
            raise ConflictError(f"the key given for region {region} is that of {holder}; every region has its own")
        known = self._addresses.get(region)
        if known is None and len(self._addresses) >= MOST_REGIONS:
            raise OverloadedError(f"{MOST_REGIONS} regions are known already, those that left among them")
        version = known.version + 1 if known is not None else 1
        self._addresses[region] = RegionAddress(region, endpoint, public_key, version)
        return self._addresses[region]

    def remove(self, region: str) -> RegionAddress:
        """An operator's word: this is a member no more; :class:`NotFoundError`."""
        known = self._addresses.get(region)
        if known is None or known.left:
            members = ", ".join(each.region for each in self.all() if not each.left)
            raise NotFoundError(f"region {region} is no member; members are {members}")
        self._addresses[region] = msgspec.structs.replace(known, version=known.version + 1, left=True)
        return self._addresses[region]


def _is_elsewhere(known: RegionAddress, said: RegionAddress) -> bool:
    """Whether the same member says that it is heard somewhere else."""
    same = known.public_key == said.public_key and not known.left and not said.left
    return same and known.endpoint != said.endpoint and said.version <= known.version


def _order(address: RegionAddress) -> tuple[int, bool, str, str]:
    return address.version, address.left, address.public_key, address.endpoint
