"""``fedbus region``: who belongs to the federation, as its gateway says."""

import json

import pytest

from tests.serve.fakes import REGIONS, view_of

KEY = "k" * 40
HOME, OTHER = REGIONS[:2]


def output(result):
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def lost(monkeypatch):
    """The second region is lost; every region has a key."""

    def view(name):
        parts = view_of(name)
        parts["regions"][0] |= {"public_key": f"{name:k<40}", "gateway": f"http://{name}:8000", "recovery_point_ms": 12}
        if name == OTHER:
            parts["regions"][0] |= {"state": "lost", "lost_since": "2026-03-02T11:59:00Z"}
        return parts

    monkeypatch.setattr("tests.serve.fakes.view_of", view)


@pytest.mark.usefixtures("lost")
def test_the_list_tells_of_regions_lost_and_of_lags(ask):
    text = output(ask("region", "list"))
    for expected in (*REGIONS, "lost since 11:59:00", "40 ms", f"http://{HOME}:8000"):
        assert expected in text
    assert [each["region"] for each in json.loads(output(ask("region", "list", "--json")))] == list(REGIONS)


@pytest.mark.usefixtures("lost")
def test_status_tells_of_them_too(ask):
    text = output(ask("status"))
    assert "lost since 11:59:00" in text
    assert "recovery point 12 ms" in text


@pytest.mark.usefixtures("lost")
def test_one_region_is_shown_with_its_key(ask):
    text = output(ask("region", "show", OTHER))
    assert f"{OTHER:k<40}" in text
    assert "pulls from" in text


@pytest.mark.usefixtures("lost")
def test_the_key_is_the_asked_regions_unless_another_is_named(ask):
    assert output(ask("region", "key")) == f"{HOME:k<40}\n"
    assert output(ask("region", "key", OTHER)) == f"{OTHER:k<40}\n"


def test_a_key_that_is_not_known_and_a_region_that_is_none_are_said(ask):
    result = ask("region", "key", HOME)
    assert (result.exit_code, "ask its own gateway" in result.output) == (1, True)
    result = ask("region", "show", "no.such")
    assert (result.exit_code, f"there are {HOME}" in result.output) == (1, True)


def test_a_region_is_added_and_removed_at_the_region_that_is_asked(ask, control):
    output(ask("region", "add", "dd.new", "--peering", "tcp://10.0.0.9:24499", "--key", KEY))
    output(ask("region", "remove", OTHER))
    assert control.changes == [
        (HOME, "add_region", "dd.new", {"endpoint": "tcp://10.0.0.9:24499", "public_key": KEY}),
        (HOME, "remove_region", OTHER, None),
    ]


@pytest.mark.parametrize(
    ("name", "peering", "key"),
    [("Not One", "tcp://h:1", KEY), ("dd.new", "h:1", KEY), ("dd.new", "tcp://h:1", "short")],
)
def test_what_cannot_be_a_region_is_refused(ask, control, name, peering, key):
    result = ask("region", "add", name, "--peering", peering, "--key", key)
    assert (result.exit_code, control.changes) == (1, [])


def test_a_region_that_is_none_cannot_leave(ask, control):
    assert ask("region", "remove", "no.such").exit_code == 1
    assert control.changes == []
