"""What a managed incarnation starts with: who it is, and what its directory holds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fedbus.broker.on_disk import OnDisk
from fedbus.ledger_record import Member


class Home(msgspec.Struct, frozen=True):
    """``member``: this instance (``region/id``) with its directory; ``held``: what was found there."""

    member: Member
    held: Sequence[OnDisk] = ()
