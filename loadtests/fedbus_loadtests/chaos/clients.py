"""The client processes of a run: started, killed and started again under the next number, ended in order."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fedbus_loadtests.chaos.child import Child
from fedbus_loadtests.chaos.client_spec import ClientSpec, PublisherSpec, ReaderSpec

MODULE = "fedbus_loadtests.chaos.client"


class Client:
    """One of them, through its incarnations; each has a history of its own, ``<name>.<number>.jsonl``.

    ``region``: which it asks for; ``within``: as of :class:`Child`.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        urls: Sequence[str],
        *,
        publishers: Sequence[PublisherSpec] = (),
        readers: Sequence[ReaderSpec] = (),
        region: str = "",
        within: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.histories: list[Path] = []
        self._folder = folder
        self._spec = ClientSpec(name, list(urls), "", publishers=list(publishers), readers=list(readers), region=region)
        self._within = within
        self._child: Child | None = None

    @property
    def publishes(self) -> bool:
        """Whether it is a publisher."""
        return bool(self._spec.publishers)

    @property
    def subscriptions(self) -> list[str]:
        """What it subscribes to."""
        return [reader.name for reader in self._spec.readers]

    def start(self) -> None:
        """Start the next incarnation; it knows the histories of the former ones."""
        number = len(self.histories) + 1
        history = self._folder / f"{self.name}.{number}.jsonl"
        spec = msgspec.structs.replace(
            self._spec, process=f"{self.name}.{number}", history=str(history),
            former=[str(path) for path in self.histories],
        )  # fmt: skip
        file = self._folder / f"{self.name}.json"
        file.write_bytes(msgspec.json.encode(spec))
        self.histories.append(history)
        self._child = Child(MODULE, file, self._folder / f"{self.name}.log", within=self._within)

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it is doing."""
        if self._child is not None:
            self._child.kill()

    def hurry(self) -> None:
        """Let its readers settle everything from now on."""
        if self._child is not None:
            self._child.signal(signal.SIGUSR1)

    def end(self) -> None:
        """End it in order: what it began is settled afterwards."""
        if self._child is not None:
            self._child.end()
