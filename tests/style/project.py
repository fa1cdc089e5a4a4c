"""The project's own files, as the style tests see them: tracked ones and new ones that are not ignored."""

import ast
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {".git", ".venv", "__pycache__", "build", "dist", "node_modules"}


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """All files, or those with one of ``suffixes``, relative to the root."""
    found = _from_git() or _from_disk()
    return tuple(sorted(p for p in found if (not suffixes or p.suffix in suffixes) and (ROOT / p).is_file()))


def _from_git() -> list[Path]:
    git = shutil.which("git")
    if not git or not (ROOT / ".git").exists():
        return []
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [Path(name) for name in run.stdout.split("\0") if name] if run.returncode == 0 else []


def _from_disk() -> list[Path]:
    """Without git (an unpacked archive): everything but caches and the environment."""
    found = (p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file())
    return [p for p in found if not any(part in NOT_OURS or part.endswith(("_cache", ".egg-info")) for part in p.parts)]


def text(path: Path) -> str | None:
    """The file's text; ``None`` if it is no UTF-8 text (a picture)."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def shipped() -> list[Path]:
    """Python files that run in production: everything but tests, load tests and the CI's own scripts."""
    return [p for p in files(".py") if p.parts[0] in {"fedbus", "actors", "serve"}]
