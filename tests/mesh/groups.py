"""What regions say of groups: where they are at home, and that they agree."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import httpx

from tests.federation.waiting import until
from tests.mesh.mesh import Region

MOVE_S = 120.0


def told(region: Region, group: str) -> dict[str, Any]:
    """What a region's gateway says of a group; empty if it knows none."""
    try:
        answer = region.get(f"/v1/subscriptions/{group}")
        found: dict[str, Any] = answer.json() if answer.is_success else {}
    except httpx.HTTPError:
        return {}
    return found


def home(region: Region, group: str) -> str:
    """Where this region believes a group to be at home; empty if it does not know."""
    return str(told(region, group).get("region", ""))


def wait_home(group: str, where: Region, *asked: Region) -> None:
    """Wait until each of these regions says that the group is at home there."""
    until(
        lambda: all(home(region, group) == where.name for region in asked or [where]), MOVE_S,
        f"{group} is at home in {where.name}",
        lambda: "\n".join(f"{region.name}: {json.dumps(told(region, group))}" for region in asked or [where]),
    )  # fmt: skip


def wait_home_elsewhere(group: str, lost: Region, *asked: Region) -> str:
    """Wait until each of these regions says that the group is at home in another, the same one; its name."""

    def agreed() -> bool:
        homes = {home(region, group) for region in asked}
        return len(homes) == 1 and not homes & {"", lost.name}

    until(
        agreed, MOVE_S, f"{group} is at home in another region than {lost.name}",
        lambda: "\n".join(f"{region.name}: {json.dumps(told(region, group))}" for region in asked),
    )  # fmt: skip
    return home(asked[0], group)


def wait_followed(groups: Collection[str], regions: Collection[Region], lag_s: float) -> None:
    """Wait until what was settled in these groups so long ago is known to their standbys, as their homes say."""

    def followed(group: str) -> bool:
        known = [told(region, group) for region in regions]
        homes = [each for each in known if each and each["region"] == each["told_by"]]
        unshared = [standby for each in homes for standby in each["unshared"]]
        return bool(homes) and all(s["events"] is not None and s["lag_ms"] <= lag_s * 1000 for s in unshared)

    until(lambda: all(map(followed, groups)), MOVE_S, f"standbys follow {', '.join(sorted(groups))}")
