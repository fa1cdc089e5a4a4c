"""Minute runs with one copy of everything: nothing acknowledged is lost but what was on a disk that is gone."""

from __future__ import annotations


def test_killed_stopped_and_torn_instances_lose_nothing(fault_run):
    verdict = fault_run("kill", "stop", "torn", seconds=7)
    assert verdict.ok, verdict.text()


def test_failing_full_and_slow_disks_lose_nothing(fault_run):
    verdict = fault_run("eio", "full", "slow", seconds=6, longest_s=2.0)
    assert verdict.ok, verdict.text()


def test_a_lost_disk_takes_its_own_events_with_it_and_no_others(fault_run):
    """What was on it may be missing, by the checker's rule for one copy; its ledgers' names are never used again."""
    verdict = fault_run("lose", "flip", seconds=5)
    assert verdict.ok, verdict.text()


def test_killed_clients_repeat_what_they_do_not_know_the_fate_of(fault_run):
    verdict = fault_run("client", seconds=4)
    assert verdict.ok, verdict.text()
