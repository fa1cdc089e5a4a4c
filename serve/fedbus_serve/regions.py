"""``/v1/regions/{region}``: who belongs to the federation, and the operator's word on a region's instances.

Reading them is in ``control.py``. Who joins or leaves is told to the gateway's own region, from which all hear it.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path
from pydantic import AwareDatetime, BaseModel, Field

from fedbus_serve.control_cache import ControlCache
from fedbus_serve.control_changes import Body, own_page

LONGEST_OVERRIDE_S = 30 * 86_400.0

Region = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9.-]{0,61}[a-z0-9]$")]


class RegionBody(Body):
    """A region of another cluster: how it is reached, and how it proves who it is."""

    peering: str = Field(
        max_length=300,
        pattern=r"^tcp://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$",
        description="Where its manager is reached: tcp://host:port.",
    )
    public_key: str = Field(min_length=40, max_length=40, description="Z85, as `fedbus region key` prints it there.")


class Joined(BaseModel):
    """A change of who belongs to the federation; all regions hear of it."""

    region: str


class ScaleBody(Body):
    """An operator's word on a region's instances."""

    instances: int = Field(ge=1, description="So many, whatever load and forecast say …")
    size: str | None = Field(None, description="… of this size; none: the region's …")
    expires_in_s: float = Field(1800.0, gt=0, le=LONGEST_OVERRIDE_S, description="… for so long.")


class Scaled(BaseModel):
    """An override in force."""

    region: str
    instances: int | None = None
    size: str | None = None
    expires: AwareDatetime | None = None


def add_regions(app: FastAPI, cache: ControlCache) -> None:
    """Add the routes."""
    guard = [Depends(own_page)]

    @app.put("/v1/regions/{region}", response_model=Joined, dependencies=guard, summary="Let a region join")
    async def put_region(region: Region, body: RegionBody) -> Joined:
        value = {"endpoint": body.peering, "public_key": body.public_key}
        await cache.change(cache.regions()[0], "add_region", region, value)
        return Joined(region=region)

    @app.delete("/v1/regions/{region}", response_model=Joined, dependencies=guard, summary="Let a region leave")
    async def delete_region(region: str) -> Joined:
        await cache.change(cache.regions()[0], "remove_region", cache.check_region(region))
        return Joined(region=region)

    @app.put("/v1/regions/{region}/scale", response_model=Scaled, dependencies=guard, summary="Fix the instances")
    async def scale(region: str, body: ScaleBody) -> dict[str, Any]:
        return await cache.change(cache.check_region(region), "scale", "", body.model_dump())

    @app.delete("/v1/regions/{region}/scale", response_model=Scaled, dependencies=guard, summary="Scale by load again")
    async def unscale(region: str) -> dict[str, Any]:
        return await cache.change(cache.check_region(region), "unscale", "")
