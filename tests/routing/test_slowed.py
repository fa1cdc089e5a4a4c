"""An instance that becomes slow loses its keyless traffic within seconds and gets it back without oscillation."""

from __future__ import annotations

import pytest

from tests.routing.slowed_world import Setting, World

KINDS = {
    "a slow way there": {},
    "a slow disk": {"trips": False},
    "two instances": {"instances": 2},
    "ten instances, three clients": {"instances": 10, "clients": 3},
    "only a little slower": {"delay_ms": 30.0},
    "hardly slower, in the disk alone": {"delay_ms": 8.0, "trips": False},
    "stuck": {"delay_ms": 2000.0},
    "little traffic": {"batches_per_s": 12.0},
    "near its capacity": {"clients": 4, "batches_per_s": 100.0, "service_ms": 4.0},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_nine_tenths_of_the_traffic_leave_within_five_seconds_and_come_back_once(kind, seed):
    setting = Setting(**KINDS[kind], slow_from_s=6, slow_until_s=18, end_s=42)
    world = World(seed, setting)
    fair = 1 / setting.instances
    assert 0.6 * fair < world.share(0, 6) < 1.6 * fair
    assert world.share(11, 18) <= 0.1 * fair, "it still gets traffic five seconds later"
    assert world.share(32, 42) > 0.6 * fair, "it never got its traffic back"
    changes = [(client, state) for at_s, client, _, state in world.ejections if at_s > setting.slow_until_s]
    for client in range(setting.clients):
        assert [state for who, state in changes if who == client and state == "out"] in ([], ["out"])
        assert [state for who, state in changes if who == client].count("in") <= 1
    assert {name for _, _, name, _ in world.ejections} <= {world.slowed}


@pytest.mark.parametrize("seed", range(3))
def test_the_traffic_that_comes_back_stays(seed):
    world = World(seed, Setting(slow_from_s=6, slow_until_s=22, end_s=50))
    shares = [world.share(second, second + 2) * 3 for second in range(22, 50, 2)]
    back = next(place for place, share in enumerate(shares) if share > 0.7)
    assert min(shares[back:]) > 0.6, shares
    assert max(shares[back:]) < 1.5, shares


def test_the_same_dice_and_times_give_the_same_decisions():
    setting = Setting(slow_from_s=2, slow_until_s=6, end_s=12, batches_per_s=50)
    assert World(5, setting).sent == World(5, setting).sent


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("share", "ms"), [(0.0005, 80.0), (0.0005, 200.0), (0.005, 30.0)])
def test_hiccups_of_a_disk_take_no_instance_out_for_long(seed, share, ms):
    world = World(seed, Setting(slow_from_s=0, slow_until_s=0, end_s=60, hiccups=share, hiccup_ms=ms))
    assert [state for *_, state in world.ejections if state == "out"] == []
    for name in world.names:
        assert 0.15 < world.share(0, 60, name) < 0.55


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batches_per_s", [60.0, 300.0])
def test_an_answer_that_takes_some_milliseconds_now_and_then_moves_traffic_for_a_moment_only(seed, batches_per_s):
    setting = Setting(slow_from_s=0, slow_until_s=0, end_s=60, hiccups=0.01, hiccup_ms=6.0, clients=1)
    setting.batches_per_s, setting.service_ms = batches_per_s, 0.3
    world = World(seed, setting)
    shares = [3 * world.share(s, s + 3, name) for name in world.names for s in range(0, 60, 3)]
    assert min(shares) > 0.1, shares
    assert sum(share < 0.5 for share in shares) <= len(shares) / 20, shares
