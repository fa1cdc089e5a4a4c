"""The network of the other tests does what they rely on: it carries, delays, cuts, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import psutil
import pytest

from tests.federation.waiting import until
from tests.mesh.distance import Distance
from tests.mesh.namespaces import PREFIX, Host, Network, sweep

PORT = 24_000
ECHO = """
import socket, sys, threading
listening = socket.create_server((sys.argv[1], 24000))
def answer(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.close()
while True:
    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def echo(network: Network, tmp_path: Path) -> Callable[[Host], None]:
    """Starts an echo server on a host."""

    def start(host: Host) -> None:
        host.start([sys.executable, "-c", ECHO, host.address], tmp_path / "echo.log")
        until(lambda: said(host, host) == b"hello", 10, "the echo answers at home")

    return start


def said(source: Host, target: Host, text: bytes = b"hello", patience_s: float = 1.0) -> bytes:
    """What ``target`` answers ``source``; empty if it does not."""

    def ask() -> bytes:
        try:
            with socket.create_connection((target.address, PORT), timeout=patience_s) as connection:
                connection.sendall(text)
                answer = b""
                while len(answer) < len(text) and (data := connection.recv(65536)):
                    answer += data
                return answer
        except OSError:
            return b""

    return source.inside(ask)


def test_hosts_reach_one_another_and_nothing_else(network, echo):
    a, b = network.add("a"), network.add("b")
    echo(b)
    assert said(a, b) == b"hello"

    def elsewhere() -> None:
        with socket.create_connection(("192.0.2.1", PORT), timeout=1):
            pass

    with pytest.raises(OSError, match="Network is unreachable"):
        a.inside(elsewhere)


def test_a_cut_host_is_silent_until_it_is_healed_and_serves_itself(network, echo):
    a, b, c = network.add("a"), network.add("b"), network.add("c")
    echo(b), echo(c)
    network.cut(b)
    assert said(a, b) == said(b, c) == b""
    assert said(b, b) == said(a, c) == b"hello"
    network.heal()
    assert said(a, b, patience_s=5) == said(b, c, patience_s=5) == b"hello"


@pytest.mark.parametrize("far", [False, True])
def test_a_one_way_cut_lets_packets_pass_the_other_way(network, echo, tmp_path, far):
    a, b, c = network.add("a"), network.add("b"), network.add("c")
    echo(a), echo(b), echo(c)
    if far:
        Distance(network, [PORT], tmp_path / "proxy.log").between(a, b)
    datagrams = b.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    datagrams.bind((b.address, PORT))
    datagrams.settimeout(5)
    network.cut_one_way(b, a)
    assert said(a, b) == said(b, a) == b""
    if not far:  # the proxy knows no datagrams
        sender = a.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sender.sendto(b"one way", (b.address, PORT))
        assert datagrams.recv(100) == b"one way"
        sender.close()
    datagrams.close()
    assert said(a, c) == said(c, b) == b"hello"
    network.heal()
    assert said(a, b, patience_s=5) == said(b, a, patience_s=5) == b"hello"


def test_the_proxy_takes_its_time_carries_everything_and_can_stall(network, echo, tmp_path):
    a, b = network.add("a"), network.add("b")
    echo(b)
    distance = Distance(network, [PORT], tmp_path / "proxy.log")
    distance.between(a, b)
    text = os.urandom(3_000_000)
    assert said(a, b, text, 10) == text
    distance.tell(delay_ms=60)
    before = monotonic()
    assert said(a, b, patience_s=5) == b"hello"
    assert monotonic() - before >= 0.18  # to connect, there, and back: never sooner
    distance.tell(delay_ms=0, stalled=True)
    assert said(a, b) == b""
    distance.tell(stalled=False)
    assert said(a, b, patience_s=5) == b"hello"
    distance.close()


def test_a_killed_host_has_nothing_left_running_and_can_be_used_again(network, echo):
    a, b = network.add("a"), network.add("b")
    echo(b)
    pids = b.pids()
    b.kill()
    assert pids
    assert not b.pids()
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)
    echo(b)
    assert said(a, b) == b"hello"


def test_what_a_killed_run_left_behind_is_ended_and_removed(network):
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    name = f"{PREFIX}{gone}-left"
    subprocess.run(["ip", "netns", "add", name], check=True)
    left = subprocess.Popen(["ip", "netns", "exec", name, "sleep", "600"])
    until(lambda: psutil.Process(left.pid).name() == "sleep", 10, "it runs there")
    assert sweep() == [name]
    left.wait(10)
    assert not psutil.pid_exists(left.pid)
    assert network.router in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
