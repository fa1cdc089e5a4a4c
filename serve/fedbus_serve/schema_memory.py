"""What a region remembers of schemas whose registry is at home in another one: the newest of each subject, in a file.

A gateway that starts while that home is lost goes on checking with what the one before it knew. Only a memory: the
registry's word replaces it, and a file that cannot be read or written costs no more than the memory.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fedbus.schema.state import SubjectVersion

FILE = "schemas.json"
Newest = dict[str, tuple[int, int, str]]

log = logging.getLogger(__name__)


class SchemaMemory:
    """In the data directory of the gateway's region; without one (another machine's) it remembers nothing."""

    def __init__(self, region_directory: Path) -> None:
        self._path = region_directory / FILE
        self._kept: Newest = {}

    def recall(self) -> Newest:
        """Subject → (version, id, schema text), as kept last."""
        try:
            self._kept = msgspec.json.decode(self._path.read_bytes(), type=Newest)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read: %s", self._path, error)
        return self._kept

    def keep(self, newest: Mapping[str, SubjectVersion]) -> None:
        """Replace what is kept, if it is something else."""
        said = {subject: (found.version, found.id, found.text) for subject, found in newest.items()}
        if said == self._kept or not self._path.parent.is_dir():
            return
        unfinished = self._path.with_name(f"{FILE}.{os.getpid()}.{uuid.uuid4().hex}")
        try:
            unfinished.write_bytes(msgspec.json.encode(said))
            unfinished.replace(self._path)
            self._kept = said
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            log.warning("%s cannot be written: %s", self._path, error)
