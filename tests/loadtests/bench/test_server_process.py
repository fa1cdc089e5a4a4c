"""Server processes end in any case, and say why they did not start."""

import sys

import psutil
import pytest

from fedbus.errors import EnvironmentUnusableError
from fedbus_loadtests.bench.server_process import ServerProcess, package_version, program

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""


async def test_it_ends_with_its_children_even_if_it_does_not_listen(tmp_path):
    server = ServerProcess("stubborn", [sys.executable, "-c", STUBBORN], tmp_path / "log")
    child = psutil.Process(int((await server.said("child")).split()[1]))
    await server.stop(patience_s=0.1)
    assert server.process.poll() is not None
    child.wait(timeout=10)


async def test_its_last_words_are_in_the_error(tmp_path):
    server = ServerProcess("sulky", [sys.executable, "-c", "raise SystemExit('no mood')"], tmp_path / "log")
    with pytest.raises(EnvironmentUnusableError, match=r"(?s)sulky ended with status 1.*no mood"):
        await server.said("ready")
    await server.stop()


def test_what_is_missing_is_named_with_the_remedy():
    with pytest.raises(EnvironmentUnusableError, match="no-such-server is not installed: apt-get install it"):
        program("no-such-server", [], "apt-get install it")
    with pytest.raises(EnvironmentUnusableError, match="pip install"):
        package_version("no-such-package")
