"""Who follows whom: instances of a group's home and standbys hear what was settled at those of the others (rule 13).

All of them, both ways: acknowledgements also come late, and to a home that was cut off. An instance of a region that is
lost stays on the list, so that it is heard when it is back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fedbus.broker.effects import PeerFollow
from fedbus.broker.group_spec import GroupSpec
from fedbus.control.summary import RegionSummary
from fedbus_actors.fleet import Fleet
from fedbus_actors.instance_calls import living


def takes_part(region: str, spec: GroupSpec) -> bool:
    """Whether a group is dispatched in this region, or may come to be."""
    return not spec.home.region or region in (spec.home.region, *spec.home.standbys)


def follows(region: str, specs: Iterable[GroupSpec], summaries: Mapping[str, RegionSummary]) -> list[PeerFollow]:
    """What each instance of ``region`` is to follow."""
    groups: dict[str, list[str]] = {}
    for spec in sorted(specs, key=lambda each: each.name):
        if spec.home.region and takes_part(region, spec):
            for other in {spec.home.region, *spec.home.standbys} - {region}:
                groups.setdefault(other, []).append(spec.name)
    return [
        PeerFollow(endpoint, summaries[other].link_key, tuple(names))
        for other, names in sorted(groups.items())
        if other in summaries
        for endpoint in sorted({ledger.endpoint for ledger in summaries[other].ledgers} - {""})
    ]


class GroupFollows:
    """Keeps the instances told."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._told: dict[str, tuple[str, list[PeerFollow]]] = {}

    def step(self, wanted: list[PeerFollow]) -> None:
        """Tell whoever follows others than it should; a new incarnation follows nobody."""
        for member in living(list(self._fleet.members.values())):
            assert member.report is not None
            told = (member.report.status.ledger, wanted)
            before = self._told.get(member.name, (told[0], []))
            if told[0] and told != before:
                self._told[member.name] = told
                member.handle.apply_follows.remote(wanted)
