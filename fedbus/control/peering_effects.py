"""What goes into the peering core, and what it asks its shell to do."""

from __future__ import annotations

from typing import Any

import msgspec

from fedbus.broker.group_spec import GroupRecord
from fedbus.control.summary import RegionAddress, RegionSummary
from fedbus.errors import FedbusError

# -- inputs ------------------------------------------------------------------------------------------------------------


class Tick(msgspec.Struct, frozen=True):
    """Time to report; ``summary``: of this region (``None`` while there is none)."""

    summary: RegionSummary | None


class Received(msgspec.Struct, frozen=True):
    """Bytes from the region to which the connection's key belongs; ``None``: to none that is known."""

    sender: str | None
    data: bytes


class AddRegion(msgspec.Struct, frozen=True):
    """An operator: this is a member, heard there, known by this key (Z85)."""

    region: str
    endpoint: str
    public_key: str


class RemoveRegion(msgspec.Struct, frozen=True):
    """An operator: this is a member no more."""

    region: str


class LearnAddress(msgspec.Struct, frozen=True):
    """Where a region is, found out otherwise; counts by its version."""

    address: RegionAddress


class PublishGroups(msgspec.Struct, frozen=True):
    """Definitions of groups that changed in this region."""

    records: list[GroupRecord]


class Call(msgspec.Struct, frozen=True):
    """Ask another region's manager; ``call``: a number not used before. Ends in one :class:`Answered`."""

    call: int
    region: str
    method: str
    arguments: list[Any]
    timeout_ns: int


class Performed(msgspec.Struct, frozen=True):
    """What came of a :class:`Perform`."""

    region: str
    generation: int
    call: int
    value: Any = None
    error: FedbusError | None = None


Input = Tick | Received | AddRegion | RemoveRegion | LearnAddress | PublishGroups | Call | Performed

# -- effects -----------------------------------------------------------------------------------------------------------


class Admit(msgspec.Struct, frozen=True):
    """Exactly the owners of these keys may connect: public key (Z85) → region."""

    keys: dict[str, str]


class Connect(msgspec.Struct, frozen=True):
    """A fresh connection to a region; what it had is closed."""

    region: str
    endpoint: str
    public_key: str


class Disconnect(msgspec.Struct, frozen=True):
    """Close the connection to a region, once what was sent is out."""

    region: str


class Send(msgspec.Struct, frozen=True):
    """Send now, or not at all."""

    region: str
    data: bytes


class KeepMember(msgspec.Struct, frozen=True):
    """Store what is known of a member."""

    address: RegionAddress


class PeerLost(msgspec.Struct, frozen=True):
    """A region does not answer any more (or never has)."""

    region: str


class PeerFound(msgspec.Struct, frozen=True):
    """A region answers (again)."""

    region: str


class GroupsHeard(msgspec.Struct, frozen=True):
    """Definitions that another region has; new or not."""

    region: str
    records: list[GroupRecord]


class Perform(msgspec.Struct, frozen=True):
    """Carry out what another region asks, and say :class:`Performed`."""

    region: str
    generation: int
    call: int
    method: str
    arguments: list[Any]


class Answered(msgspec.Struct, frozen=True):
    """The end of a :class:`Call`."""

    call: int
    value: Any = None
    error: FedbusError | None = None


Effect = Admit | Connect | Disconnect | Send | KeepMember | PeerLost | PeerFound | GroupsHeard | Perform | Answered
