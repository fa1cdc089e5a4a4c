"""A group's definition: what it takes, from where, and how it delivers. Recorded in ledgers, pushed by the manager.

What a group *is* is its ``identity``: a group that was deleted and made again has a later ``created_ns``, one that was
moved (seek) a higher ``generation``; settlement belongs to one identity. ``version`` grows with changes of options.
"""

from __future__ import annotations

import re
import zlib

import msgspec

from fedbus.broker.protocol import GroupOptions, Start
from fedbus.errors import ConflictError, InvalidEventError, InvalidTopicError
from fedbus.topic import RESERVED_PREFIX, check_topic

DEAD_LETTERS = f"{RESERVED_PREFIX}dead_letters."
MIN_ACK_DEADLINE_MS = 100
MAX_DELAY_MS = 7 * 24 * 3_600_000
_TOKEN_BYTES = 200
_NO_TOKEN = re.compile(r"[^A-Za-z0-9_-]")


class GroupHome(msgspec.Struct, frozen=True, array_like=True):
    """Which region dispatches a group, and who takes its place, in this order (protocol rule 13).

    ``region`` empty: the group is each region's own (``scope: region``). ``term`` grows with every change of this.
    ``preferred``: where it is to be when all is well; ``since_ns``: at home there since (Unix time).
    """

    region: str = ""
    standbys: tuple[str, ...] = ()
    term: int = 0
    preferred: str = ""
    since_ns: int = 0


class GroupSpec(msgspec.Struct, frozen=True, array_like=True):
    """One subscription. ``tails``: per origin ledger where ``latest`` began; ``created_ns`` 0: made by one instance.

    ``replaces_ns``: ``created_ns`` of the deleted group whose name it took.
    """

    name: str
    filters: list[str]
    start: Start
    options: GroupOptions = GroupOptions()
    tails: dict[str, int] = {}
    generation: int = 1
    created_ns: int = 0
    version: int = 0
    home: GroupHome = GroupHome()
    replaces_ns: int = 0

    @property
    def age(self) -> tuple[int, int, int, str, int]:
        """Of two definitions of a name the one with the higher age counts, in every region.

        Two regions that take a group over while they cannot hear one another do so under the same term: then the name
        decides, so that both come to the same end.
        """
        return *self.identity, self.home.term, self.home.region, self.version

    @property
    def identity(self) -> tuple[int, int]:
        """(created, generation): acknowledgements under one say nothing about another."""
        return self.created_ns, self.generation

    @property
    def began(self) -> dict[str, int]:
        """Per origin ledger the offset below which nothing is wanted."""
        return self.tails if self.start.kind == "latest" else dict(self.start.cursor)

    @property
    def dead_letter_topic(self) -> str:
        """Where events go that could not be delivered."""
        return self.options.dead_letter_topic or default_dead_letter_topic(self.name)


class GroupRecord(msgspec.Struct, frozen=True, array_like=True):
    """Body of a GROUP record, and what the manager says of a group: it is this, or (tombstone) it was deleted."""

    spec: GroupSpec
    deleted: bool = False


def default_dead_letter_topic(group: str) -> str:
    """``_fedbus.dead_letters.<group>``; what cannot stand in a topic's token is replaced, the name's hash appended."""
    token = _NO_TOKEN.sub("_", group)[:_TOKEN_BYTES]
    return DEAD_LETTERS + (token if token == group else f"{token}-{zlib.crc32(group.encode()):08x}")


def checked_options(options: GroupOptions, group: str) -> GroupOptions:
    """The options as they will be in force; raises a typed error on what cannot be."""
    if options.dead_letter_topic and options.dead_letter_topic != default_dead_letter_topic(group):
        try:
            check_topic(options.dead_letter_topic)
        except InvalidTopicError as error:
            raise InvalidTopicError(f"dead_letter_topic of group {group!r}: {error.detail}") from None
    numbers = (options.max_deliveries, options.max_in_flight, options.backoff_min_ms, options.backoff_max_ms)
    if min(numbers) < 0 or options.backoff_min_ms > options.backoff_max_ms or options.backoff_max_ms > MAX_DELAY_MS:
        raise InvalidEventError(
            f"options of group {group!r}: max_deliveries, max_in_flight, backoff_min_ms and backoff_max_ms are 0 or "
            f"more, and backoff_min_ms <= backoff_max_ms <= {MAX_DELAY_MS}"
        )
    deadline_ms = min(MAX_DELAY_MS, max(MIN_ACK_DEADLINE_MS, options.ack_deadline_ms))
    return msgspec.structs.replace(options, ack_deadline_ms=deadline_ms)


def check_same_filters(spec: GroupSpec, filters: list[str]) -> None:
    """Raise :class:`ConflictError` unless the group has these filters."""
    if spec.filters != filters:
        raise ConflictError(
            f"group {spec.name!r} exists with filter {', '.join(spec.filters)}, not {', '.join(filters)}: "
            "use another group name, or delete the group first"
        )
