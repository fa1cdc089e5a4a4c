"""Parked parcels: those that are in no lane, for want of an instance that takes them or of a second region.

A parked keyed parcel holds back what its producer sends later with the same key slots, wherever that goes.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.client.parcel import Parcel


class Parked:
    """In the order in which they came; bounded by the producers' windows."""

    def __init__(self) -> None:
        self._parcels: list[Parcel] = []

    def __len__(self) -> int:
        return len(self._parcels)

    def add(self, parcels: Iterable[Parcel]) -> None:
        """Keep them."""
        self._parcels += parcels

    def take_due(self, now_ns: int) -> list[Parcel]:
        """Those whose time has come, with all others of their producer."""
        due = {id(parcel.sender) for parcel in self._parcels if parcel.not_before_ns <= now_ns}
        taken = [parcel for parcel in self._parcels if id(parcel.sender) in due]
        self._parcels = [parcel for parcel in self._parcels if id(parcel.sender) not in due]
        return taken

    def take_overdue(self, now_ns: int) -> list[Parcel]:
        """Those past their deadline."""
        taken = [parcel for parcel in self._parcels if parcel.deadline_ns <= now_ns]
        self._parcels = [parcel for parcel in self._parcels if parcel.deadline_ns > now_ns]
        return taken

    def take_all(self) -> list[Parcel]:
        """All of them."""
        taken, self._parcels = self._parcels, []
        return taken

    def bars(self, parcel: Parcel) -> bool:
        """Whether this one has to wait for an older one of its producer."""
        return any(
            older.sender is parcel.sender and older.order < parcel.order and older.touches(parcel)
            for older in self._parcels
        )
