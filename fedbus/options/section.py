"""What every section of the federation file has in common: unknown keys are errors, values never change once read.

Keys carry no unit, because their values do (``retention: 7d``); the attribute behind a key does (``retention_ms``).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True)
