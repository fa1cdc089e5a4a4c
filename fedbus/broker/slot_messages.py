"""What instances of one region say to one another about key slots that change hands (protocol rule 11)."""

from __future__ import annotations

from fedbus.broker.message import Message


class AskSlots(Message, frozen=True):
    """From the new owner of key slots to another instance of its region: tell me when you are done with these.

    ``slots``: one bit each, little-endian. Answered by ``SlotsOpen`` as soon as the other has routing table ``version``
    (or a newer one), and again on change until nothing is open any more.
    """

    request: int
    version: int
    slots: bytes


class SlotsOpen(Message, frozen=True):
    """Per group those of the slots asked for of which events from before the hand-over are not settled here yet.

    Groups that are not named have settled them all; a newer message replaces the one before.
    """

    request: int
    slots: dict[str, bytes]
