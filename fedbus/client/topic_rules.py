"""What a client knows of topics: their schemas and policies, from the bootstrap and its repetitions."""

from __future__ import annotations

import asyncio
import contextlib

from fedbus.broker.policies import Policies, in_precedence
from fedbus.client.bootstrap import Bootstrap, Source
from fedbus.client.schema_guard import SchemaGuard
from fedbus.errors import FedbusError

REFRESH_S = 10.0


class TopicRules:
    """One client's. ``check_schemas``: whether data is checked here, or by whoever uses this client."""

    def __init__(self, *, check_schemas: bool) -> None:
        self.guard = SchemaGuard()
        self.policies = Policies()
        self._check_schemas = check_schemas

    def learn(self, found: Bootstrap) -> None:
        """Take over what is newer."""
        if self._check_schemas and found.schemas:
            self.guard.replace(found.schemas)
        if list(self.policies.rules) != in_precedence(found.policies):
            self.policies.apply(self.policies.version + 1, found.policies)

    async def follow(self, find: Source) -> None:
        """Ask again and again; what is known stays in force while nobody answers."""
        while True:
            await asyncio.sleep(REFRESH_S)
            with contextlib.suppress(FedbusError):
                self.learn(await find())
