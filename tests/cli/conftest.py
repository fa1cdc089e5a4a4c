"""Fixtures of the command line's tests."""

import pytest
from click.testing import CliRunner

from fedbus.cli.main import main


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
