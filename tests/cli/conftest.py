"""Fixtures of the command line's tests."""

import asyncio
from queue import Queue

import pytest
from click.testing import CliRunner

from fedbus.cli.main import main
from fedbus.threads import spawn
from tests.serve.fakes import FakeBus, FakeControl, make_gateway, serving


@pytest.fixture
def plain_broker(tmp_path):
    """The URL of a running bus instance without a manager."""
    from fedbus_actors.bus_instance import BusInstance, InstanceConfig

    instance = BusInstance(InstanceConfig("local.plain", "b1", str(tmp_path / "b1")))
    yield f"tcp://127.0.0.1:{instance.port}"
    instance.stop()


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs ``fedbus``; ``url`` set by the test is where it connects to."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("FEDBUS_URL", "FEDBUS_TOKEN", "FEDBUS_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments, **options):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)

    return run


@pytest.fixture
def control():
    """The managers behind the gateway of these tests."""
    return FakeControl()


@pytest.fixture
def gateway(control):
    """The URL of the project's own gateway, on loopback, with those managers behind it."""
    addresses = Queue()

    async def serve():
        ended = asyncio.Event()
        async with serving(make_gateway(FakeBus(), control)) as base:
            addresses.put((base, asyncio.get_running_loop(), ended))
            await ended.wait()

    thread = spawn("gateway", lambda: asyncio.run(serve()))
    base, loop, ended = addresses.get(timeout=20)
    yield base
    loop.call_soon_threadsafe(ended.set)
    thread.join(20)


@pytest.fixture
def ask(run, gateway):
    """Runs a command against that gateway."""
    return lambda *arguments: run("--url", gateway, *arguments)
