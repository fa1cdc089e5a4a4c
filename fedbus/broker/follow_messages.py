"""Messages by which instances of different regions share what a group has settled (see ``broker/sharing.py``)."""

from __future__ import annotations

import msgspec

from fedbus.broker.message import Message
from fedbus.broker.settled import GroupSettled


class FollowedGroup(msgspec.Struct, frozen=True, array_like=True):
    """A group of that identity: what another one of its name has settled says nothing."""

    name: str
    created_ns: int
    generation: int


class Follow(Message, frozen=True):
    """Tell me what these groups have settled: all of it first, then what is new; takes the place of an earlier one.

    ``subscription`` is the asking session's own number for it. Of groups that were followed under the same number only
    what is new is told. There is no answer but ``Shared``, once there is something to tell.
    """

    request: int
    subscription: int
    groups: list[FollowedGroup]


class Taken(Message, frozen=True):
    """What ``Shared`` of this number said is durable here; the next may come."""

    subscription: int
    number: int


class Shared(Message, frozen=True):
    """What groups have settled here. One is under way at a time; it is repeated until it is ``Taken``.

    ``full``: it is of all that is known here; what of it was new to the follower, it tells on.
    """

    subscription: int
    number: int
    parts: list[GroupSettled]
    full: bool = False
