"""Machines for tests: network namespaces round a router, with cuts; they meet nothing but one another.

Each :class:`Host` has an address of its own and a route to the others, and no default route; the router is a namespace
too, so that nothing of it shows in the machine's own network. Leftovers of a killed run (its process id is in the
names) are ended and removed when the next :class:`Network` is made. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import psutil

PREFIX = "fedbus-mesh-"
SUBNET = "10.213"
CLONE_NEWNET = 0x40000000
DROP, DIVERT, DIVERTED = 90, 100, 100  # preferences of our rules, and the table of what the proxy takes
GONE_S = 10.0

Result = TypeVar("Result")

_networks = count(1)  # of this process


def why_not() -> str:
    """What is missing for namespaces here; empty if nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the program ip (Debian: iproute2)"
    probe = f"{PREFIX}{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    _ip("netns", "del", probe)
    return ""


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
    return done.stdout


def _pids(namespace: str) -> list[int]:
    return [int(pid) for pid in _ip("netns", "pids", namespace, check=False).split()]


def _end_all(namespace: str) -> None:
    """SIGKILL everything in there, until nothing is left (what is being killed may still start something)."""
    while pids := _pids(namespace):
        processes = []
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                processes.append(psutil.Process(pid))
                os.kill(pid, signal.SIGKILL)
        psutil.wait_procs(processes, GONE_S)


def sweep() -> list[str]:
    """Remove the namespaces of runs that are dead, with all that runs in them; their names."""
    dead = []
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and owner.isdecimal() and not psutil.pid_exists(int(owner)):
            dead.append(name)
    for name in dead:
        _end_all(name)
        _ip("netns", "del", name)
    return dead


class Host:
    """A machine: a namespace, its one address, and what runs there."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.name = name
        self.address = f"{SUBNET}.{number}.2"
        self.namespace = network.namespace(name)
        self.port = f"v{number}"  # its end at the router
        gateway = f"{SUBNET}.{number}.1"
        _ip("netns", "add", self.namespace)
        _ip("-n", network.router, "link", "add", self.port, "type", "veth", "peer", "eth0", "netns", self.namespace)
        _ip("-n", network.router, "address", "add", f"{gateway}/24", "dev", self.port)
        _ip("-n", network.router, "link", "set", self.port, "up")
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        _ip("-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.namespace, "link", "set", "eth0", "up")
        _ip("-n", self.namespace, "route", "add", f"{SUBNET}.0.0/16", "via", gateway)
        self._inside = ThreadPoolExecutor(1, f"in-{name}", self._enter)

    def _enter(self) -> None:
        """Only the thread that calls this moves; sockets it makes stay there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", self.namespace).open() as file:
            if libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def inside(self, call: Callable[[], Result]) -> Result:
        """What ``call`` returns, made by a thread of ours that lives there."""
        return self._inside.submit(call).result()

    def command(self, *command: str) -> list[str]:
        """The command that runs ``command`` there; it becomes that process, so that the id is its id."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def start(self, command: Sequence[str], log: Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a process there, in a session of its own; what it prints is appended to ``log``."""
        with log.open("ab") as output:
            options = {"stdout": output, "stderr": output, "stdin": subprocess.DEVNULL} | options
            return subprocess.Popen(self.command(*command), start_new_session=True, **options)

    def pids(self) -> list[int]:
        """Of all processes there."""
        return _pids(self.namespace)

    def kill(self) -> None:
        """SIGKILL everything that runs there."""
        _end_all(self.namespace)

    def remove(self) -> None:
        """The machine is gone, with all that ran there."""
        self._inside.shutdown()
        self.kill()
        _ip("netns", "del", self.namespace)


class Network:
    """The router and its hosts. Faults are rules of the router: packets vanish there without a word."""

    def __init__(self) -> None:
        sweep()
        self._prefix = f"{PREFIX}{os.getpid()}-{next(_networks)}"
        self.hosts: dict[str, Host] = {}
        self.router = self.namespace("router")
        self._numbers = 0
        self._cuts: dict[tuple[str, str], None] = {}
        _ip("netns", "add", self.router)
        _ip("-n", self.router, "link", "set", "lo", "up")
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        subprocess.run(["ip", "netns", "exec", self.router, "sh", "-c", forward], check=True)

    def namespace(self, name: str) -> str:
        """The namespace of this name, which also names the run it belongs to."""
        return f"{self._prefix}-{name}"

    def add(self, name: str) -> Host:
        """Another machine."""
        self._numbers += 1
        host = self.hosts[name] = Host(self, name, self._numbers)
        return host

    def divert(self, one: Host, other: Host) -> None:
        """From now on a process at the router (the proxy) answers what these two send each other."""
        for source, target in ((one, other), (other, one)):
            _ip("-n", self.router, "route", "replace", "local", target.address, "dev", "lo", "table", str(DIVERTED))
            self._rule("add", DIVERT, source, target, "lookup", str(DIVERTED))

    # -- faults --------------------------------------------------------------------------------------------------------

    def cut(self, host: Host) -> None:
        """Nothing comes from it and nothing reaches it; its link is down."""
        for other in self.hosts.values():
            if other is not host:
                self.cut_one_way(host, other)
                self.cut_one_way(other, host)
        _ip("-n", self.router, "link", "set", host.port, "down")

    def cut_one_way(self, source: Host, target: Host) -> None:
        """Packets of ``source`` to ``target`` vanish; those of ``target`` arrive."""
        if (source.name, target.name) not in self._cuts:
            self._cuts[source.name, target.name] = None
            self._rule("add", DROP, source, target, "blackhole")

    def heal(self) -> None:
        """End every cut."""
        for source, target in self._cuts:
            self._rule("del", DROP, self.hosts[source], self.hosts[target], "blackhole")
        self._cuts.clear()
        for host in self.hosts.values():
            _ip("-n", self.router, "link", "set", host.port, "up")

    def _rule(self, verb: str, preference: int, source: Host, target: Host, *action: str) -> None:
        _ip("-n", self.router, "rule", verb, "pref", str(preference), "iif", source.port, "to", target.address, *action)

    def close(self) -> None:
        """Remove everything."""
        for host in self.hosts.values():
            host.remove()
        self.hosts.clear()
        _end_all(self.router)
        _ip("netns", "del", self.router)
