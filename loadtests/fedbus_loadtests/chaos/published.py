"""What was published: every event by its id, each try of it, and how it ended. What all checks judge by."""

from __future__ import annotations

from fedbus.errors import ConfigurationError
from fedbus_loadtests.chaos.entry import Entry


class Publication:
    """One event: the first invocation, and the tries of it (one per process) that succeeded, failed, or hang."""

    __slots__ = ("acked", "failed", "invoked", "tries")

    def __init__(self, invoked: Entry) -> None:
        self.invoked = invoked
        self.tries: dict[str, Entry] = {}  # process → its invocation
        self.acked: list[Entry] = []
        self.failed: list[Entry] = []

    @property
    def surely_absent(self) -> bool:
        """Whether every try of it was said not to have stored anything."""
        return len(self.failed) == len(self.tries)


class Published:
    """All events by id, as of the entries seen so far. Raises :class:`ConfigurationError` for what is no history."""

    def __init__(self) -> None:
        self.by_id: dict[str, Publication] = {}

    def see(self, entry: Entry) -> None:
        """Take one entry in."""
        if entry.operation != "publish":
            return
        known = self.by_id.get(entry.id)
        if entry.kind == "invoke":
            if known is None:
                known = self.by_id[entry.id] = Publication(entry)
            elif _content(known.invoked) != _content(entry):
                raise ConfigurationError(f"no history: {entry.id} was published with two contents by {entry.process}")
            known.tries[entry.process] = entry
            return
        if known is None or entry.process not in known.tries:
            raise ConfigurationError(f"no history: {entry.process} ended a publish of {entry.id} it never began")
        if entry.kind == "ok":
            known.acked.append(entry)
        elif entry.kind == "fail":
            known.failed.append(entry)


def _content(entry: Entry) -> tuple[str, str, int, str, int]:
    return entry.topic, entry.key, entry.crc, entry.producer, entry.sequence
