"""Which federation a command is about: URLs and credentials, from options, a named context or the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from fedbus.client.bus import Bus

DEFAULT_URL = "http://127.0.0.1:8000"

T = TypeVar("T")


class Target(msgspec.Struct, frozen=True):
    """Where commands connect to; ``urls`` has at least one."""

    urls: list[str]
    token: str | None = None

    @property
    def url(self) -> str:
        """The first URL."""
        return self.urls[0]

    @classmethod
    def resolve(cls, urls: tuple[str, ...], context: str | None) -> Self:
        """Options win over the context, the context over the environment; an unknown context is wrong usage."""
        token = os.environ.get("FEDBUS_TOKEN")
        if urls:
            return cls(list(urls), token)
        if context is not None:
            named = _context(context)
            return cls(named.urls, token or named.token)
        return cls((os.environ.get("FEDBUS_URL") or DEFAULT_URL).split(","), token)

    def run(self, work: Callable[[Bus], Coroutine[Any, Any, T]], region: str | None = None) -> T:
        """Connect, do the work, disconnect."""
        from fedbus.client.bus import connect

        async def connected() -> T:
            async with connect(self.urls, region=region, credentials=self.token) as bus:
                return await work(bus)

        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            return runner.run(connected())


class _Context(msgspec.Struct):
    urls: list[str]
    token: str | None = None


def _context(name: str) -> _Context:
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "fedbus"
    file = folder / "contexts.json"
    try:
        contexts = msgspec.json.decode(file.read_bytes(), type=dict[str, _Context])
    except OSError as error:
        raise click.UsageError(
            f'--context {name}: {file} cannot be read ({error.strerror}); it maps names to {{"urls": [...]}}'
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise click.UsageError(f'--context {name}: {file}: {error}; it maps names to {{"urls": [...]}}') from None
    if name not in contexts:
        raise click.UsageError(f"no context {name!r} in {file}; it has {', '.join(sorted(contexts)) or 'none'}")
    return contexts[name]
