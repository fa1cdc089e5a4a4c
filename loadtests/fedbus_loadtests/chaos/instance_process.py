"""``python -m fedbus_loadtests.chaos.instance_process CONFIG.json``: an instance whose disk can be made to fail.

A real instance, in a process of its own, steered over its standard streams: a line of JSON is a call, its answer and
what the instance asks its manager for go out the same way. It ends when its standard input does: then the run that
started it is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from fedbus.broker.copy_effects import Request
from fedbus.broker.effects import RequestGroup
from fedbus.broker.group_spec import GroupRecord
from fedbus.errors import FedbusError
from fedbus.ledger_record import LedgerRecord
from fedbus.limits import Limits
from fedbus.threads import spawn
from fedbus_loadtests.chaos.faulty_disk import DiskFaults, FaultyDisk

_saying = Lock()  # the broker's thread speaks too
DIED = 70  # exit status of an instance that could not go on


class ProcessConfig(msgspec.Struct, frozen=True):
    """What an instance process is started with."""

    region: str
    instance: str
    directory: str
    port: int = 0
    limits: Limits = Limits()
    managed: bool = False


class Call(msgspec.Struct, frozen=True):
    """``method`` of the instance, its arguments as JSON."""

    number: int
    method: str
    arguments: msgspec.Raw = msgspec.Raw(b"[]")


class Said(msgspec.Struct, frozen=True):
    """The answer to call ``number``, or its ``error``; number 0: of the instance's own accord, ``what``."""

    number: int
    what: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


class Steered:
    """The instance of this process and the calls it takes. Raises what keeps the instance from starting."""

    def __init__(self, config: ProcessConfig, disk: FaultyDisk) -> None:
        from fedbus_actors.bus_instance import BusInstance, InstanceConfig  # not before the disk is faulty

        self._disk = disk
        own = InstanceConfig(
            config.region, config.instance, config.directory, port=config.port, limits=config.limits,
            managed=config.managed,
        )  # fmt: skip
        self.bus = BusInstance(own, on_crash=_died, on_request=_ask)
        self.bus.apply_topics(1, [], True)

    def serve(self, line: bytes) -> None:
        """Carry out one call; what waits for the disk does so beside the others."""
        call = msgspec.json.decode(line, type=Call)
        if call.method == "apply_groups":
            spawn("apply-groups", lambda: self._serve(call))
        else:
            self._serve(call)

    def _serve(self, call: Call) -> None:
        try:
            value = getattr(self, f"_{call.method}")(call.arguments)
        except FedbusError as error:
            say(Said(call.number, error=error.detail))
        else:
            say(Said(call.number, value=msgspec.Raw(msgspec.json.encode(value))))

    def _apply_table(self, arguments: msgspec.Raw) -> None:
        self.bus.apply_table(*msgspec.json.decode(arguments, type=tuple[int, bytes]))

    def _disk_faults(self, arguments: msgspec.Raw) -> None:
        (faults,) = msgspec.json.decode(arguments, type=tuple[DiskFaults])
        self._disk.become(faults)

    def _apply_ledgers(self, arguments: msgspec.Raw) -> None:
        self.bus.apply_ledgers(*msgspec.json.decode(arguments, type=tuple[list[LedgerRecord], dict[str, str]]))

    def _apply_groups(self, arguments: msgspec.Raw) -> None:
        self.bus.apply_groups(*msgspec.json.decode(arguments, type=tuple[list[GroupRecord]]))

    def _request_refused(self, arguments: msgspec.Raw) -> None:
        self.bus.request_refused(*msgspec.json.decode(arguments, type=tuple[str, str]))

    def _review_ensemble(self, arguments: msgspec.Raw) -> None:
        self.bus.review_ensemble(*msgspec.json.decode(arguments, type=tuple[str]))

    def _close_ledger(self, _: msgspec.Raw) -> None:
        self.bus.drain(close=True)

    def _scrub(self, _: msgspec.Raw) -> None:
        self.bus.scrub()

    def _status(self, _: msgspec.Raw) -> Any:
        return self.bus.status()


def _ask(request: Request | RequestGroup) -> None:
    """What is for the manager; in the broker's thread."""
    what = "request" if isinstance(request, Request) else "group"
    say(Said(0, what, msgspec.Raw(msgspec.json.encode(request))))


def say(said: Said) -> None:
    """One line to whoever steers; at once, and whole."""
    with _saying:
        sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
        sys.stdout.buffer.flush()


def _died(error: BaseException) -> None:
    logging.getLogger("fedbus").critical("the instance ends: %s", error)
    os._exit(DIED)


def run(config: ProcessConfig) -> None:
    """Serve until standard input ends or SIGTERM comes."""
    disk = FaultyDisk()
    disk.install()
    steered = Steered(config, disk)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say(Said(0, "started", msgspec.Raw(msgspec.json.encode(steered.bus.port))))
    try:
        for line in sys.stdin.buffer:
            steered.serve(line)
    except KeyboardInterrupt:
        pass
    steered.bus.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ProcessConfig))
