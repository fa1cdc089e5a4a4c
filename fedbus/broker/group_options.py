"""How a group delivers: part of its definition, and of the message that asks for it."""

from __future__ import annotations

import msgspec


class GroupOptions(msgspec.Struct, frozen=True, array_like=True):
    """How a group delivers.

    ``max_deliveries``: after so many without success an event goes to the dead-letter topic (0: it is delivered without
    end). ``dead_letter_topic``: empty is ``_fedbus.dead_letters.<group>``. An event comes again after
    ``backoff_min_ms``, doubled with each delivery up to ``backoff_max_ms``. ``max_in_flight``: events a member may hold
    unsettled (0: as many as the limits allow). ``paused``: nothing is delivered.
    """

    ack_deadline_ms: int = 30_000
    max_deliveries: int = 0
    dead_letter_topic: str = ""
    backoff_min_ms: int = 100
    backoff_max_ms: int = 60_000
    max_in_flight: int = 0
    paused: bool = False
