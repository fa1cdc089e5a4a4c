"""Makes ``.venv`` from the lock file: environment, packages, fedbus itself, bytecode. Called by ``make setup``.

Assumes a Python with venv and nothing else; every step can be repeated, so an interrupted run is simply run again. The
caller's stamp file says when it has to run at all. pip's own words go to ``.venv/set-up.log`` and are shown on failure.
"""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
LOCK = ROOT / "requirements.lock"
LOG = VENV / "set-up.log"
OURS = ["fedbus", "actors", "serve", "loadtests"]
LINES_SHOWN_ON_FAILURE = 25


def say(text: str, *, end: str = "\n") -> None:
    """One line of progress."""
    print(text, end=end, flush=True)


def make_environment() -> None:
    """A virtual environment of this Python's version with a pip that runs; a half-made one is made anew."""
    usable = f"import sys, pip; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if PYTHON.exists() and subprocess.run([PYTHON, "-c", usable], capture_output=True, check=False).returncode == 0:
        say(f"[1/4] .venv with Python {sys.version.split()[0]} is there")
        return
    say(f"[1/4] making .venv with Python {sys.version.split()[0]}")
    venv.create(VENV, clear=True, with_pip=True, symlinks=sys.platform != "win32")


def pip_install(arguments: Sequence[str], total: int | None = None) -> None:
    """Run ``pip install``; with ``total`` show how many packages were looked at so far."""
    command = [str(PYTHON), "-m", "pip", "install", "--no-input", "--no-compile", "--progress-bar", "off", *arguments]
    live = total is not None and sys.stdout.isatty()
    seen = 0
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip,
    ):
        assert pip.stdout is not None
        for line in pip.stdout:
            log.write(line)
            if live and line.startswith(("Collecting ", "Requirement already satisfied")):
                seen += 1
                say(f"\r      {seen}/{total} {line.split(':')[-1].split()[0 if ':' in line else 1]:<50.50}", end="")
            elif live and line.startswith("Installing collected"):
                say(f"\r      downloaded; unpacking{'':<45}", end="")
    if live:
        say(f"\r{'':<70}\r", end="")
    if pip.returncode != 0:
        tail = LOG.read_text(encoding="utf-8").splitlines()[-LINES_SHOWN_ON_FAILURE:]
        say("\n".join(tail))
        sys.exit(
            f"pip failed (above: the end of {LOG.relative_to(ROOT)}). Is there a network? Run the same command again."
        )


def compile_bytecode() -> None:
    """Compile everything: Python would do it at first import, unless PYTHONDONTWRITEBYTECODE is set; then never."""
    site = subprocess.run(
        [PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # Some packages carry templates and tests for other versions, which do not compile: no failure of ours.
    subprocess.run([PYTHON, "-m", "compileall", "-qq", "-j0", site, *OURS], cwd=ROOT, check=False)


def main() -> None:
    """All steps, each announced."""
    started_s = time.monotonic()
    make_environment()
    LOG.write_text("", encoding="utf-8")
    total = sum("==" in line for line in LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    say(f"[2/4] installing {total} packages from requirements.lock, each checked by its hash (a minute or two)")
    pip_install(["--require-hashes", "-r", str(LOCK)], total)
    say("[3/4] installing fedbus itself, editable")
    pip_install(["--no-deps", "--no-build-isolation", "-e", "."])
    say("[4/4] compiling bytecode (saves half a minute at every start)")
    compile_bytecode()
    say(f"set up in {time.monotonic() - started_s:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; run the same command again to go on")
