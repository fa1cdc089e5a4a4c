"""Sections of the mesh: how regions keep in touch (peering), where groups are at home, where schemas are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedbus.control.group_homes import HomeSettings
from fedbus.options.quantity import DurationMs
from fedbus.options.section import Section


class PeeringOptions(Section):
    """How the managers of the regions keep in touch."""

    interval_ms: DurationMs = Field(
        500, ge=50, alias="interval", description="A summary to every other region, and its round trip, this often."
    )
    lost_after_ms: DurationMs = Field(
        3000,
        ge=200,
        alias="lost_after",
        description="A region silent for longer is lost: nobody is sent there, others stand in for it.",
    )
    timeout_ms: DurationMs = Field(
        2000, ge=100, alias="timeout", description="A question to another region unanswered so long has failed."
    )

    @model_validator(mode="after")
    def _patient(self) -> PeeringOptions:
        if self.lost_after_ms < 2 * self.interval_ms:
            raise ValueError(
                f"lost_after ({self.lost_after_ms} ms) is less than two times interval ({self.interval_ms} ms): "
                "one late summary would lose a region; make it longer"
            )
        return self


class GroupsOptions(Section):
    """Where durable groups are dispatched, and what becomes of them when that region is lost."""

    failover_after_ms: DurationMs = Field(
        15_000,
        ge=1000,
        alias="failover_after",
        description="When a group's home region is lost for so long, the first living standby takes its place.",
    )
    failback: Literal["auto", "manual"] = Field(
        "auto",
        description="auto: a group returns to the home it was made in when that is back and has caught up; manual: "
        "`fedbus subscription move` does it.",
    )
    standbys: int = Field(
        1, ge=0, le=16, description="So many other regions stand by for a new group, if it does not name them itself."
    )

    def settings(self) -> HomeSettings:
        """As the control plane knows them."""
        return HomeSettings(self.failover_after_ms * 1_000_000, self.failback, self.standbys)


class RegistryOptions(Section):
    """The schema registry."""

    home: str | None = Field(
        None,
        description="Region whose store holds the schemas, the same in the files of all regions; none: the first of "
        "`regions`.",
    )
