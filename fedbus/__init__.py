"""fedbus: a federated event bus. The public names are here; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedbus.client.blocking import BlockingBus, connect_sync
    from fedbus.client.bus import Bus, connect
    from fedbus.client.producer import Producer
    from fedbus.client.receipt import Receipt
    from fedbus.client.subscriber import Subscription
    from fedbus.errors import (
        ClosedError,
        ConfigurationError,
        ConflictError,
        FedbusError,
        InvalidEventError,
        InvalidPositionError,
        InvalidTopicError,
        NotFoundError,
        OverloadedError,
        ProtocolError,
        SchemaMismatchError,
        SequenceError,
        StorageError,
        TooLargeError,
        UnavailableError,
    )
    from fedbus.event import Event
    from fedbus.position import Position

_ERRORS = (
    "ClosedError ConfigurationError ConflictError FedbusError InvalidEventError InvalidPositionError InvalidTopicError "
    "NotFoundError OverloadedError ProtocolError SchemaMismatchError SequenceError StorageError TooLargeError "
    "UnavailableError"
)
_HOMES = {
    "fedbus.client.blocking": "BlockingBus connect_sync",
    "fedbus.client.bus": "Bus connect",
    "fedbus.client.producer": "Producer",
    "fedbus.client.receipt": "Receipt",
    "fedbus.client.subscriber": "Subscription",
    "fedbus.errors": _ERRORS,
    "fedbus.event": "Event",
    "fedbus.position": "Position",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "BlockingBus",
    "Bus",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "Event",
    "FedbusError",
    "InvalidEventError",
    "InvalidPositionError",
    "InvalidTopicError",
    "NotFoundError",
    "OverloadedError",
    "Position",
    "Producer",
    "ProtocolError",
    "Receipt",
    "SchemaMismatchError",
    "SequenceError",
    "StorageError",
    "Subscription",
    "TooLargeError",
    "UnavailableError",
    "connect",
    "connect_sync",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
        return value
    raise AttributeError(f"module 'fedbus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
