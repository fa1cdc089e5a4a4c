"""The schema registry: a state machine over a store with compare-and-swap, with one door for changes.

:meth:`Registry.handle` decides a command against the newest state, commits the change and folds it; a lost
compare-and-swap means deciding again on what the winner wrote. Assumes a :class:`~fedbus.schema.store.SchemaStore`,
whose calls may block, and one caller at a time. HTTP is left to the gateway, checking events to ``subjects.py``.
"""

from __future__ import annotations

from typing import TypeVar

from fedbus.schema.commands import Command, Register, Registered
from fedbus.schema.limits import COMMIT_ATTEMPTS
from fedbus.schema.refusal import contended
from fedbus.schema.state import RegistryState
from fedbus.schema.store import SchemaStore

ResultT = TypeVar("ResultT")


class Registry:
    """Subjects and their schemas. Holds nothing that the store does not; a new one over the same store is equal."""

    def __init__(self, store: SchemaStore) -> None:
        self._store = store
        self._state = RegistryState()

    @property
    def known(self) -> RegistryState:
        """The state as last seen, without asking the store: right for schemas by id, which never change."""
        return self._state

    def read(self) -> RegistryState:
        """The state with every committed change, by whichever process; to be read before the next call."""
        if self._store.revision() != self._state.revision:
            self._state.fold(self._store.load(self._state.last_schema_id))
        return self._state

    def handle(self, command: Command[ResultT]) -> ResultT:
        """Carry out a command; it is durable when this returns.

        Raises the command's ``RegistryError``, ``ContendedError`` (retryable) or the store's error.
        """
        for _ in range(COMMIT_ATTEMPTS):
            state = self.read()
            result, change = command.decide(state)
            if change is None or self._store.commit(state.revision, change):
                self.read()
                return result
        raise contended(COMMIT_ATTEMPTS)

    def register(self, subject: str, schema_type: str | None, schema_text: str) -> Registered:
        """Shorthand for :meth:`handle` with :class:`Register`."""
        return self.handle(Register(subject, schema_type, schema_text))
