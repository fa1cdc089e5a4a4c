"""A region in the federation: what its manager stores of the members, tells peers, and tells people of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fedbus.broker.group_spec import GroupRecord
from fedbus.clock import NS_PER_S
from fedbus.control import peering_effects as e
from fedbus.control.summary import RegionAddress, RegionSummary
from fedbus.errors import InvalidEventError
from fedbus.storage.store import Store
from fedbus_actors.peering import Peering
from fedbus_actors.peering_thread import PeeringConfig
from fedbus_actors.region_addresses import RegionAddresses
from fedbus_actors.region_keys import KeyPair, is_key
from fedbus_actors.relayed_calls import RelayedCalls, value_of

if TYPE_CHECKING:
    from fedbus_actors.region import Region

LOOK_NS = 2 * NS_PER_S
CHANGE_S = 5.0  # a change may wait for all instances of a region


def make_peering(
    addresses: RegionAddresses, store: Store, keys: KeyPair, generation: int, bind: tuple[str, int]
) -> Peering:
    """Peering as this region begins it: from its store, and from the federation file."""
    host, port = bind
    known = [document.body for document in store.members.all()] + addresses.others()
    return Peering(PeeringConfig(addresses.own(keys), host, port, keys, known, generation, addresses.settings))


class RegionPeering:
    """Between a region's manager and its peering (implements ``peering_thread.PeeringRegion``)."""

    def __init__(
        self, region: Region, summary: Callable[[], RegionSummary | None], methods: dict[str, Callable[..., Any]]
    ) -> None:
        """``summary()``: of this region; ``methods``: what others may ask of its manager."""
        self._region = region
        self._summary = summary
        self._methods = methods
        self._relayed = RelayedCalls(methods)
        self._look_ns = 0

    # -- what peering asks ---------------------------------------------------------------------------------------------

    def summary(self) -> RegionSummary | None:
        """See ``PeeringRegion``."""
        return self._summary()

    def keep_member(self, address: RegionAddress) -> None:
        """See ``PeeringRegion``."""
        self._region.store.members.put(address.region, address, self._region.clock.now_ns())

    def groups_heard(self, region: str, records: list[GroupRecord]) -> None:
        """See ``PeeringRegion``."""
        self._region.groups.heard(region, records)

    def answer(self, method: str, arguments: list[Any]) -> Any:
        """See ``PeeringRegion``."""
        return self._relayed.answer(method, arguments)

    def note(self, kind: str, message: str) -> None:
        """See ``PeeringRegion``."""
        self._region.note(kind, message)

    # -- what the manager asks -----------------------------------------------------------------------------------------

    def step(self) -> None:
        """Look again, from time to time, for keys of regions that start on this machine later."""
        now_ns = self._region.real.monotonic_ns()
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + LOOK_NS
            for address in self._region.addresses.news(self._region.peering.members()):
                self._region.peering.learn(address)

    def relay(self, region: str, method: str, *arguments: Any) -> Any:
        """What the manager of another region (or this one) answers; its errors are raised as they are."""
        if region == self._region.name:
            return self._methods[method](*arguments)
        timeout_s = self._region.options.peering.timeout_ms / 1000 + (CHANGE_S if method == "change" else 0.0)
        answer = self._region.peering.call(region, method, *arguments, timeout_s=timeout_s)
        return value_of(method, arguments, answer)

    def peers(self) -> list[dict[str, Any]]:
        """All regions ever heard of, as ``fedbus region list`` shows them."""
        return [self._view(address) for address in self._region.peering.members()]

    def _view(self, address: RegionAddress) -> dict[str, Any]:
        region, peering = self._region, self._region.peering
        view: dict[str, Any] = {
            "region": address.region, "endpoint": address.endpoint, "public_key": address.public_key,
            "version": address.version, "round_trip_ms": None, "lost_for_s": None, "generation": None, "gateway": "",
        }  # fmt: skip
        if address.region == region.name:
            state = "left" if address.left else "self"
            own = {"generation": region.epoch, "gateway": region.gateway_url, "dropped": peering.dropped}
            return view | {"state": state} | own
        peer = peering.states.get(address.region)
        if address.left or peer is None:
            return view | {"state": "left" if address.left else "waiting"}
        return view | {
            "state": "lost" if peer.lost_since_ns is not None else "healthy" if peer.present else "waiting",
            "round_trip_ms": round(peer.round_trip_ms, 2) if peer.present and peer.round_trip_ms is not None else None,
            "lost_for_s": peering.lost_for_s(address.region),
            "generation": peer.generation,
            "gateway": peer.summary.gateway if peer.summary is not None else "",
        }


def membership_changes(
    peering: Peering, give_away: Callable[[str], None]
) -> dict[str, Callable[[str, Any], dict[str, Any]]]:
    """An operator's changes to who belongs to the federation; in force here at once, elsewhere when it is heard.

    ``give_away(region)``: the groups at home there move first.
    """

    def add(region: str, where: dict[str, Any]) -> dict[str, Any]:
        endpoint, key = str(where["endpoint"]), str(where["public_key"])
        if not is_key(key):
            raise InvalidEventError(f"{key[:60]!r} is no public key of a region: `fedbus region key` there prints it")
        peering.change_members(e.AddRegion(region, endpoint, key))
        return {"region": region, "endpoint": endpoint}

    def remove(region: str, _: Any) -> dict[str, Any]:
        give_away(region)
        peering.change_members(e.RemoveRegion(region))
        return {"region": region}

    return {"add_region": add, "remove_region": remove}
