"""One change told to every living instance of a region: done when all of them have it (protocol rules 15 and 22)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fedbus.errors import UnavailableError
from fedbus_actors import remote
from fedbus_actors.fleet import Member

ASK_S = 2.0
AWAY = ("dead", "unreachable")


def living(members: Iterable[Member]) -> list[Member]:
    """Instances that take part: one that is known to be away is told when it is back."""
    return [each for each in members if each.handle is not None and each.report is not None and each.state not in AWAY]


def tell(members: Iterable[Member], call: Callable[[Any], Any], timeout_s: float = ASK_S) -> dict[str, Any]:
    """``call(handle)`` makes the remote call; per instance its answer, or the exception that it came to."""
    return remote.ask({member.name: _bound(call, member.handle) for member in members}, timeout_s)


def _bound(call: Callable[[Any], Any], handle: Any) -> Callable[[], Any]:
    return lambda: call(handle)


def check_told(answers: Mapping[str, Any], what: str) -> None:
    """Raise :class:`UnavailableError` naming who has not confirmed ``what`` (a text for people), which is stored."""
    failed = {name: answer for name, answer in answers.items() if isinstance(answer, Exception)}
    if failed:
        name, why = next(iter(failed.items()))
        raise UnavailableError(
            f"{what} is stored, but {', '.join(sorted(failed))} did not confirm it within {ASK_S:g} s ({name}: {why}); "
            "they are told until they do. Send the request again to wait for them",
            retry_after_ms=1000,
        )
