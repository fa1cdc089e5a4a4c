"""What all tests share: under ``FEDBUS_CI`` a skip is a failure, because a test that did not run has shown nothing."""

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

pytest_plugins = ["tests.small_disk"]

# How long an example takes depends on who else uses the machine: no test may fail for that.
settings.register_profile("fedbus", deadline=None, print_blob=True)
settings.load_profile("fedbus")

# A shell's background job ignores Ctrl-C, and so would all that is started here: tests end programs as people do.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Linear algebra on one thread: its matrices are small here, and on a busy machine threads only wait for each other.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

IN_CI = os.environ.get("FEDBUS_CI", "") not in {"", "0"}


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not IN_CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = (
        f"{report.nodeid} was skipped, and in CI nothing may be. Install what it needs in .ci/run. {reason}"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report
