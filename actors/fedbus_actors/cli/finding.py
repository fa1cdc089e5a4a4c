"""What a check of ``fedbus doctor`` found."""

from __future__ import annotations

from typing import Literal

import msgspec
from rich.text import Text

Verdict = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """``found`` is what there is, ``remedy`` what to do about it (empty if nothing)."""

    verdict: Verdict
    what: str
    found: str
    remedy: str = ""

    def text(self, colour: str) -> Text:
        """The verdict in its colour."""
        return Text(self.verdict, colour)


def graded(value: float, warn: float, fail: float) -> Verdict:
    """The verdict on a value that is bad beyond ``warn`` and worse beyond ``fail``, on whichever side that lies."""
    value, warn, fail = (value, warn, fail) if fail > warn else (-value, -warn, -fail)
    return "fail" if value > fail else "warn" if value > warn else "ok"
