"""Compression of a batch's payload: one zstd frame whose header declares the plain size.

Whoever takes compressed bytes in looks at that header only; whoever opens them never produces more than what was
declared and checked, so that a small frame cannot become a large allocation ("decompression bomb").
"""

from __future__ import annotations

import sys
from typing import Any, Literal

from fedbus.errors import ConfigurationError, ProtocolError

if sys.version_info >= (3, 14):  # pragma: no cover - not supported yet
    from compression import zstd
else:
    from backports import zstd

Compression = Literal["zstd"]

PLAIN, ZSTD = 0, 1
LEVEL = 3
SMALLEST_BYTES = 128  # below it a frame is hardly smaller than what is in it
_WINDOW_LOG_MAX = 23  # 8 MiB: a frame that asks for more memory is refused
_OPTIONS: dict[Any, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}


def check_compression(name: str | None) -> str | None:
    """``name`` itself; raises :class:`ConfigurationError` on a compression that is not known."""
    if name not in (None, "zstd"):
        raise ConfigurationError(f"compression {name!r} is not known: 'zstd', or None for none")
    return name


def compress(payload: bytes) -> bytes | None:
    """The payload as one frame; ``None`` if that would not be smaller."""
    if len(payload) < SMALLEST_BYTES:
        return None
    packed: bytes = zstd.compress(payload, LEVEL)
    return packed if len(packed) < len(payload) else None


def check_frame(payload: bytes | memoryview, size_bytes: int) -> None:
    """Raise :class:`ProtocolError` unless this begins a frame that declares ``size_bytes``; opens nothing."""
    try:
        declared = zstd.get_frame_info(payload).decompressed_size
    except zstd.ZstdError as error:
        raise ProtocolError(f"a payload of codec {ZSTD} that is no zstd frame: {error}") from None
    if declared != size_bytes:
        raise ProtocolError(f"a zstd frame that declares {declared} bytes for events of {size_bytes}")


def expand(payload: bytes | memoryview, size_bytes: int) -> bytes | None:
    """The plain payload; ``None`` unless it is one whole frame of exactly ``size_bytes``: no more is allocated."""
    try:
        opener = zstd.ZstdDecompressor(options=_OPTIONS)
        plain: bytes = opener.decompress(payload, max_length=size_bytes + 1)
    except zstd.ZstdError:
        return None
    return plain if len(plain) == size_bytes and opener.eof and not opener.unused_data else None
