"""The note beside a ledger's files: the newest version of its record that this instance has seen (protocol rule 8).

It is what refuses a fenced writer after a restart, so that it is on disk before anything is answered, and replaced at
once. A note that cannot be trusted counts as none: whoever has none takes no appends until the manager says again.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import google_crc32c
import msgspec

from fedbus.ledger_record import LedgerRecord
from fedbus.storage.durable import replace_file

NOTE = "record"
NOTE_FORMAT_VERSION = 1
_PREFIX = struct.Struct("<8sHI")  # magic, format version, CRC-32C of version and body | body: msgpack LedgerRecord
_MAGIC = b"FEDBUSLR"
_VERSION = struct.Struct("<H")
_decoder = msgspec.msgpack.Decoder(LedgerRecord)

log = logging.getLogger(__name__)


def write_note(directory: Path, record: LedgerRecord) -> None:
    """Put the record beside the files, durably. Raises :class:`OSError`."""
    body = msgspec.msgpack.encode(record)
    crc = google_crc32c.value(_VERSION.pack(NOTE_FORMAT_VERSION) + body)
    replace_file(directory / NOTE, _PREFIX.pack(_MAGIC, NOTE_FORMAT_VERSION, crc) + body)


def read_note(directory: Path) -> LedgerRecord | None:
    """The record noted last; ``None`` if there is none or it is damaged (which is logged)."""
    path = directory / NOTE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    record = _decode(data)
    if record is None:
        log.error("%s is damaged: this copy takes no appends until the manager has sent its record again", path)
    return record


def _decode(data: bytes) -> LedgerRecord | None:
    if len(data) < _PREFIX.size:
        return None
    magic, version, crc = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size :]
    if (magic, version) != (_MAGIC, NOTE_FORMAT_VERSION):
        return None
    return _decoder.decode(body) if google_crc32c.value(_VERSION.pack(version) + body) == crc else None


def has_note(directory: Path) -> bool:
    """Whether there is one, damaged or not: then the files follow the rules for copies."""
    return (directory / NOTE).exists()


def known_confirmed(record: LedgerRecord | None) -> int:
    """How many records of the ledger are confirmed by what this record says."""
    if record is None:
        return 0
    return record.last.first_number if record.end_number is None else record.end_number
