"""Minute runs with two copies and the real keeper of ledgers: nothing acknowledged is lost, whatever is done to one."""

from __future__ import annotations

INSTANCES = 3


def test_killed_and_torn_instances_lose_nothing_while_clients_and_managers_die(fault_run):
    verdict = fault_run("kill", "torn", "client", "manager", seconds=8, replicas=2, instances=INSTANCES)
    assert verdict.ok, verdict.text()


def test_a_stopped_writer_acknowledges_nothing_after_others_took_over(fault_run):
    verdict = fault_run("stop", seconds=6, longest_s=5.0, replicas=2, instances=INSTANCES)
    assert verdict.ok, verdict.text()


def test_a_writer_that_was_stopped_for_a_minute_acknowledges_nothing_when_it_wakes(fault_run):
    verdict = fault_run("sleep", seconds=5, longest_s=61.0, replicas=2, instances=INSTANCES)
    assert verdict.ok, verdict.text()


def test_lost_disks_and_flipped_bits_are_made_good_from_the_other_copy(fault_run):
    verdict = fault_run("lose", "flip", seconds=6, replicas=2, instances=INSTANCES)
    assert verdict.ok, verdict.text()


def test_failing_full_and_slow_disks_are_left_behind(fault_run):
    verdict = fault_run("eio", "full", "slow", seconds=6, longest_s=2.0, replicas=2, instances=INSTANCES)
    assert verdict.ok, verdict.text()
