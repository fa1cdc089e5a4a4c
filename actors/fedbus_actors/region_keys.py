"""The keys of a region: one static CURVE pair, by which its peers know it.

    <data>/<federation>/<region>/keys/region.key   the secret key (0600), made at the first start
    <data>/<federation>/<region>/keys/region.pub   the public key

Both are Z85, forty characters. Assumes a local file system; who may use which key is left to ``zap.py``.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import msgspec
import zmq
from zmq.utils import z85

from fedbus.errors import EnvironmentUnusableError
from fedbus.storage.data_directory import make_directory
from fedbus.storage.durable import fsync_directory

KEY_CHARACTERS = 40


class KeyPair(msgspec.Struct, frozen=True):
    """Z85. The secret one is not part of what is printed."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r})"


def new_key_pair() -> KeyPair:
    """A pair that is stored nowhere."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def open_keys(region_directory: Path) -> KeyPair:
    """The pair of the region in this directory, made if there is none; :class:`EnvironmentUnusableError`."""
    directory = region_directory / "keys"
    make_directory(directory)
    path = directory / "region.key"
    try:
        if not path.exists():
            _write_once(path, new_key_pair().secret)
        secret = path.read_text(errors="replace").strip()
    except OSError as error:
        raise EnvironmentUnusableError(f"{path}: cannot be used: {error.strerror or error}") from error
    if not is_key(secret):
        raise EnvironmentUnusableError(
            f"{path} holds no key (Z85, {KEY_CHARACTERS} characters); restore it, or delete it and tell the other "
            "regions the new public key"
        )
    public = zmq.curve_public(secret.encode()).decode()
    try:
        _write(directory / "region.pub", public, 0o644)
    except OSError as error:
        raise EnvironmentUnusableError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return KeyPair(public, secret)


def public_key(region_directory: Path) -> str:
    """The public key of the region in this directory; empty if that is not on this machine or has none yet."""
    try:
        written = (region_directory / "keys" / "region.pub").read_text(errors="replace").strip()
    except OSError:
        return ""
    return written if is_key(written) else ""


def is_key(text: str) -> bool:
    """Whether this is a key in Z85."""
    try:
        return len(text) == KEY_CHARACTERS and len(z85.decode(text)) == KEY_CHARACTERS * 4 // 5
    except (ValueError, KeyError, IndexError, OverflowError):
        return False


def _write_once(path: Path, text: str) -> None:
    """Of several writers one wins, whole and durable."""
    unfinished = _unfinished(path, text, 0o600)
    try:
        os.link(unfinished, path)
    except FileExistsError:
        pass
    finally:
        unfinished.unlink(missing_ok=True)
    fsync_directory(path.parent)


def _write(path: Path, text: str, mode: int) -> None:
    if not path.exists() or path.read_text(errors="replace").strip() != text:
        _unfinished(path, text, mode).rename(path)
        fsync_directory(path.parent)


def _unfinished(path: Path, text: str, mode: int) -> Path:
    unfinished = path.with_name(f".new-{uuid.uuid4().hex}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    return unfinished
