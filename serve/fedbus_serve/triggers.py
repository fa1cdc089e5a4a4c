"""``/v1/triggers``: events known ahead are announced and taken back; what each region learned of them is put together.

An announcement is the federation's and written to every region; a burst that was detected is one region's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from fastapi import Depends, FastAPI
from pydantic import AwareDatetime, Field

from fedbus.control.trigger import FOREVER_NS, LONGEST_RECURRING_NS, MAXIMUM_FACTOR, Trigger, Window
from fedbus.errors import ConfigurationError
from fedbus_serve import views
from fedbus_serve.control_cache import ControlCache
from fedbus_serve.control_changes import Body, Name, Spread, everywhere, own_page

DETECTED = "detected-"


class WindowBody(Body):
    """One occurrence."""

    starts: AwareDatetime = Field(description="When the load begins, with its zone.")
    ends: AwareDatetime = Field(description="When it is over.")


class TriggerBody(Body):
    """An event known ahead: `starts` and `ends`, or `cron` and `duration_ms`."""

    starts: AwareDatetime | None = Field(None, description="When the load begins; with cron: none begins before.")
    ends: AwareDatetime | None = Field(None, description="When it is over; with cron: none begins from then on.")
    windows: list[WindowBody] = Field([], max_length=64, description="Further occurrences of the same event.")
    cron: str = Field("", max_length=256, description="Minute hour day month weekday, such as 0 9 * * 1.")
    duration_ms: int = Field(0, ge=0, le=LONGEST_RECURRING_NS // 1_000_000, description="How long one of these lasts.")
    timezone: str = Field("UTC", max_length=64, description="Time zone of cron, such as Europe/Berlin.")
    effect: float = Field(
        1.0, gt=0, le=MAXIMUM_FACTOR, description="First guess, until it is learned: so many times the usual load …"
    )
    extra_eps: float = Field(0.0, ge=0, description="… plus so many events per second.")
    region: str | None = Field(None, description="None: all regions.")
    note: str = Field("", max_length=256, description="What people call it.")

    def trigger(self, name: str) -> Trigger:
        """As the control plane knows it; ConfigurationError says what is wrong with it."""
        if not self.cron and (self.starts is None or self.ends is None):
            raise ConfigurationError(
                f"trigger {name!r} does not say when: give starts and ends, or cron and duration_ms"
            )
        return Trigger(
            id=name,
            start_ns=0 if self.starts is None else _start_ns(self.starts),
            end_ns=FOREVER_NS if self.ends is None else _end_ns(self.ends),
            name=self.note,
            region=self.region,
            expected_factor=self.effect,
            expected_extra_eps=self.extra_eps,
            cron=self.cron,
            duration_ns=self.duration_ms * 1_000_000,
            zone=self.timezone,
            also=tuple(sorted(Window(_start_ns(each.starts), _end_ns(each.ends)) for each in self.windows)),
        )


def add_triggers(app: FastAPI, cache: ControlCache) -> None:
    """Add the routes that change them."""
    guard = [Depends(own_page)]

    @app.put("/v1/triggers/{id}", response_model=Spread, dependencies=guard, summary="Announce an external event")
    async def put_trigger(id: Name, body: TriggerBody) -> Spread:
        if id.startswith(DETECTED):
            raise ConfigurationError(
                f"trigger {id!r}: names in {DETECTED}… are of bursts that were found; take another"
            )
        if body.region is not None:
            cache.check_region(body.region)
        return await everywhere(cache, "put_trigger", id, body.trigger(id))

    @app.delete("/v1/triggers/{id}", response_model=Spread, dependencies=guard, summary="Take an announcement back")
    async def delete_trigger(id: Name) -> Spread:
        if id.startswith(DETECTED):
            raise ConfigurationError(
                f"trigger {id!r} was found in the load, not announced: it goes by itself when the burst stops"
            )
        return await everywhere(cache, "delete_trigger", id)


def of_the_federation(told: Iterable[views.TriggerView]) -> list[views.TriggerView]:
    """Each announcement once, with what every region learned of it; what a region detected is its own."""
    chosen: dict[tuple[str, str | None], views.TriggerView] = {}
    for view in told:
        key = view.id, view.region if view.detected else None
        if key in chosen:
            view = chosen[key].model_copy(update={"learned": [*chosen[key].learned, *view.learned]})  # noqa: PLW2901
        chosen[key] = view
    return list(chosen.values())


def _start_ns(moment: datetime) -> int:
    return math.floor(moment.timestamp() * 1000) * 1_000_000


def _end_ns(moment: datetime) -> int:
    return math.ceil(moment.timestamp() * 1000) * 1_000_000
