"""Admission: how much may be in flight in one gateway before it sheds (429), so that overload costs nobody a crash."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from fedbus.errors import OverloadedError
from fedbus.limits import Limits

RETRY_AFTER_MS = 1000


class Admission:
    """Counts requests, their bodies and open streams against the limits. One event loop's; not for threads."""

    __slots__ = ("_limits", "body_bytes", "requests", "streams")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requests = 0
        self.body_bytes = 0
        self.streams = 0

    def request(self) -> Admitted:
        """Admit a request (a context manager); raises :class:`OverloadedError` (429)."""
        if self.requests >= self._limits.gateway_requests:
            raise self._shed(f"{self.requests} requests are in flight")
        self.requests += 1
        return Admitted(self)

    def stream(self) -> AdmittedStream:
        """Admit a stream (a context manager); raises :class:`OverloadedError` (429)."""
        if self.streams >= self._limits.gateway_streams:
            raise self._shed(f"{self.streams} streams are open")
        self.streams += 1
        return AdmittedStream(self)

    def take_bytes(self, size_bytes: int) -> None:
        """Count more of a body; raises :class:`OverloadedError` if all bodies together would be too much."""
        if self.body_bytes + size_bytes > self._limits.gateway_bytes:
            raise self._shed(f"{self.body_bytes} bytes of requests are in flight")
        self.body_bytes += size_bytes

    @staticmethod
    def _shed(reason: str) -> OverloadedError:
        return OverloadedError(
            f"{reason} in this gateway, its limit; nothing was stored, try again later", retry_after_ms=RETRY_AFTER_MS
        )


class Admitted:
    """An admitted request; holds its share until it ends."""

    __slots__ = ("_admission", "_held_bytes")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held_bytes = 0

    def take_bytes(self, size_bytes: int) -> None:
        """Count bytes of the body."""
        self._admission.take_bytes(size_bytes)
        self._held_bytes += size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._admission.requests -= 1
        self._admission.body_bytes -= self._held_bytes


class AdmittedStream:
    """An admitted stream; holds its place until it ends."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._admission.streams -= 1
