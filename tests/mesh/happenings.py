"""What happens to the mesh in a trial, told and recorded in a history of its own: faults, healings, moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.recorder import Recorder
from tests.mesh.mesh import Region


class Happenings:
    """Those of the trial ``name``, which begins with what it promises."""

    def __init__(self, name: str, folder: Path, promise: Promise, told: Callable[[str], None]) -> None:
        self._name = name
        self.recorder = Recorder(folder / "run.jsonl", "run")
        self._told = told
        self.note("promise", detail=promise.encode())

    def note(self, operation: str, kind: Any = "info", **fields: Any) -> None:
        """Record something of the run itself."""
        self.recorder.write(kind, operation, **fields)

    def fault(self, kind: str, *regions: Region) -> None:
        """Record that a fault begins; ``heal`` that it ends."""
        names = " ".join(region.name for region in regions)
        self._told(f"{kind}: {names}")
        self.note("fault", fault=kind, target=names)

    def heal(self, kind: str, *regions: Region) -> None:
        """Record that a fault is over."""
        self._told(f"healed: {kind}")
        for region in regions:
            self.note("heal", fault=kind, target=region.name)

    @contextmanager
    def moving(self, group: str, target: Region) -> Iterator[str]:
        """What is done inside moves a group of the trial to another home, or may; the group's full name."""
        name = f"{self._name}-{group}"
        self.note("move", "invoke", subscription=name, target=target.name)
        yield name
        self.note("move", "ok", subscription=name, target=target.name)
