"""The base of all headers on the data socket: a tagged MessagePack array, to which later versions may append fields."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, array_like=True, tag=lambda name: name.lower()):
    """Base of all headers."""
