"""One instance of a run, as its region holds it: the process, what it answers, and what it asks for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from fedbus.errors import UnavailableError
from fedbus.threads import spawn
from fedbus_loadtests.chaos.child import Child
from fedbus_loadtests.chaos.instance_process import Call, ProcessConfig, Said

MODULE = "fedbus_loadtests.chaos.instance_process"
START_S = 30.0
CALL_S = 5.0

OnSaid = Callable[["SteeredInstance", Said], None]


class SteeredInstance:
    """Started on construction; ``on_said`` hears, in a thread, what it says of its own accord."""

    def __init__(self, config: ProcessConfig, folder: Path, on_said: OnSaid) -> None:
        self.config = config
        file = folder / f"{config.instance}.json"
        file.write_bytes(msgspec.json.encode(config))
        self.child = Child(MODULE, file, folder / f"{config.instance}.log", answers=True)
        self._on_said = on_said
        self._port: Future[int] = Future()
        self._answers: dict[int, Future[msgspec.Raw]] = {}
        self._lock = Lock()
        self._number = 0
        self._thread = spawn(f"hear-{config.instance}", self._hear)

    @property
    def name(self) -> str:
        """Its id in the region."""
        return self.config.instance

    def wait(self) -> int:
        """Wait until it serves; its port. :class:`UnavailableError` if it ends or takes too long."""
        try:
            return self._port.result(START_S)
        except TimeoutError:
            raise UnavailableError(f"{self.name} did not start within {START_S:.0f} s") from None

    def call(self, method: str, *arguments: Any) -> msgspec.Raw:
        """The answer, as JSON; :class:`UnavailableError` if there is none in time, or it is an error."""
        try:
            return self.ask(method, *arguments).result(CALL_S)
        except TimeoutError:
            raise UnavailableError(f"{self.name} did not answer {method} within {CALL_S:.0f} s") from None

    def ask(self, method: str, *arguments: Any) -> Future[msgspec.Raw]:
        """As :meth:`call`, without waiting."""
        future: Future[msgspec.Raw] = Future()
        with self._lock:
            self._number += 1
            call = Call(self._number, method, msgspec.Raw(msgspec.json.encode(arguments)))
            self._answers[self._number] = future
            try:
                stdin, _ = self.child.streams
                stdin.write(msgspec.json.encode(call) + b"\n")
                stdin.flush()
            except (OSError, ValueError):
                del self._answers[call.number]
                future.set_exception(UnavailableError(f"{self.name} is gone"))
        return future

    def _hear(self) -> None:
        _, stdout = self.child.streams
        try:
            for line in stdout:
                self._heard(msgspec.json.decode(line, type=Said))
        except (OSError, ValueError, msgspec.MsgspecError):
            pass  # it was killed in the middle of a line
        gone = UnavailableError(f"{self.name} has ended")
        if not self._port.done():
            self._port.set_exception(gone)
        with self._lock:
            answers, self._answers = self._answers, {}
        for future in answers.values():
            future.set_exception(gone)

    def _heard(self, said: Said) -> None:
        if said.what == "started":
            self._port.set_result(msgspec.json.decode(said.value, type=int))
        elif not said.number:
            self._on_said(self, said)
        else:
            with self._lock:
                future = self._answers.pop(said.number)
            if said.error:
                future.set_exception(UnavailableError(f"{self.name}: {said.error}"))
            else:
                future.set_result(said.value)
