"""What a region's manager said last, as the demonstration looks at it. Pure: knows neither Ray nor HTTP."""

from __future__ import annotations

from typing import Any

import msgspec

IN_SERVICE = ("healthy", "degraded")


class RegionState(msgspec.Struct):
    """What a region's manager said last; the shapes are those of the control API."""

    region: dict[str, Any] = {}
    instances: list[dict[str, Any]] = []
    directives: list[dict[str, Any]] = []
    forecast: dict[str, Any] = {}

    @property
    def serving(self) -> list[dict[str, Any]]:
        """Instances that take events."""
        return [each for each in self.instances if each["state"] in IN_SERVICE]

    @property
    def has_forecast(self) -> bool:
        """Whether a model made the present forecast."""
        return bool(self.forecast.get("basis") == "forecast")
