"""Definitions of groups as documents of the federation: of two that two regions have, which one counts (rule 13).

Merging is commutative, and regions that go on telling one another what came of it come to the same end, whatever they
hear first: a deletion beats what it deleted, then the higher :attr:`GroupSpec.age`; where the group is at home is
judged by its own term. What comes of it is never lower in age than either.
Only two groups that were made under one name while their regions could not hear one another, with different filters,
are not merged: each region keeps its own until an operator deletes one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from fedbus.broker.group_spec import GroupHome, GroupRecord

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def merge(known: GroupRecord, heard: GroupRecord) -> GroupRecord:
    """What counts of two definitions of one name that are not in conflict."""
    winner, other = sorted((known, heard), key=_rank, reverse=True)
    spec = winner.spec
    if winner.deleted and other.spec.age > spec.age:
        spec = replace(other.spec, version=other.spec.version + 1)
    if winner.spec.created_ns == other.spec.created_ns:
        spec = replace(spec, home=max(winner.spec.home, other.spec.home, key=_home_rank))
    return GroupRecord(spec, winner.deleted)


def _rank(record: GroupRecord) -> tuple[object, ...]:
    spec = record.spec
    return spec.created_ns, record.deleted, *spec.age, _encode(record)


def _home_rank(home: GroupHome) -> tuple[object, ...]:
    return home.term, home.region, _encode(home)


def in_conflict(known: GroupRecord, heard: GroupRecord) -> bool:
    """Whether both were made independently, for different events: neither may take the other's place.

    One made after the deletion of the other is no conflict, nor are two of the same filters: the younger counts then,
    and what was settled under the other is delivered again.
    """
    older, younger = sorted((known.spec, heard.spec), key=lambda spec: spec.created_ns)
    if older.created_ns == younger.created_ns:
        return False
    gone = (known if known.spec is older else heard).deleted
    return not gone and older.created_ns > younger.replaces_ns and older.filters != younger.filters


def digest(records: Iterable[GroupRecord]) -> str:
    """The same for the same definitions, in whatever order."""
    return hashlib.blake2b(b"".join(sorted(_encode(record) for record in records)), digest_size=12).hexdigest()
