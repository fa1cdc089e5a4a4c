"""Damage to ledger files: what was done is what is found again."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from fedbus.broker.record import Kind
from fedbus.storage.segment import segment_paths
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from fedbus_loadtests.chaos.bit_rot import cut, flip, ledgers_in, own_ledgers, records, sealed_segments, tear
from tests.actors.peer import Peer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of an instance that has written twenty batches and stopped."""
    bus = BusInstance(InstanceConfig("here.a", "b1", str(tmp_path / "b1")))
    with Peer(bus.port) as peer:
        for number in range(20):
            peer.published([b"event %d" % number])
    bus.stop()
    return tmp_path / "b1"


def events_in(directory: Path) -> int:
    found = [item for place in own_ledgers(directory) for path in segment_paths(place) for item in records(path)[1]]
    return sum(item.record.count for item in found if item.record.kind is Kind.EVENTS)


def test_ledgers_are_named_by_what_lies_there(directory: Path):
    assert ledgers_in(directory) == ["here.a/b1/0"]
    assert events_in(directory) == 20


@pytest.mark.parametrize("seed", range(10))
def test_a_torn_write_adds_no_record_and_takes_none(directory: Path, seed: int):
    assert tear(directory, Random(seed))
    assert events_in(directory) == 20


@pytest.mark.parametrize("seed", range(10))
def test_a_cut_takes_the_newest_records_only(directory: Path, seed: int):
    assert cut(directory, Random(seed), most_bytes=400)
    assert 0 < events_in(directory) < 20


@pytest.mark.parametrize("seed", range(10))
def test_a_flipped_bit_costs_the_record_it_names_and_no_other(directory: Path, seed: int):
    damaged = flip(sealed_segments(directory), Random(seed))
    assert damaged is not None
    assert damaged.end_offset - damaged.first_offset == 1
    assert events_in(directory) == 19


def test_where_nothing_is_sealed_nothing_is_flipped(tmp_path: Path):
    assert flip(iter(()), Random(1)) is None
    assert tear(tmp_path, Random(1)) is None
