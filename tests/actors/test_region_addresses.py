"""Where a region begins to look for the others: the federation file, and the keys on this machine."""

from pathlib import Path

import pytest

from fedbus.control.membership import Membership
from fedbus.control.summary import RegionAddress
from fedbus.options.federation import FederationOptions
from fedbus_actors.region_addresses import RegionAddresses
from fedbus_actors.region_keys import new_key_pair, open_keys

FAR = new_key_pair()


@pytest.fixture
def addresses(tmp_path: Path) -> RegionAddresses:
    options = FederationOptions.model_validate(
        {
            "name": "f",
            "data": {"directory": str(tmp_path)},
            "regions": {
                "here.a": {"listen": {"ports": "20000-20009"}},
                "here.b": {"listen": {"ports": "20010-20019"}},
                "far.c": {"cluster": "elsewhere", "peering": "tcp://10.0.0.3:7", "public_key": FAR.public},
            },
        }
    )
    return RegionAddresses(options, "here.a", "127.0.0.1")


def test_the_file_says_where_the_others_are_and_this_machine_which_keys_they_have(
    addresses: RegionAddresses, tmp_path: Path
) -> None:
    b, c = addresses.others()
    assert b == RegionAddress("here.b", "tcp://127.0.0.1:20019", "", 0)
    assert c == RegionAddress("far.c", "tcp://10.0.0.3:7", FAR.public, 0)
    keys = open_keys(tmp_path / "f" / "here.b")
    assert addresses.others()[0].public_key == keys.public


def test_a_key_that_is_there_later_is_news_once(addresses: RegionAddresses, tmp_path: Path) -> None:
    members = Membership(addresses.own(new_key_pair()), addresses.others())
    assert addresses.news(members.all()) == []
    keys = open_keys(tmp_path / "f" / "here.b")
    (news,) = addresses.news(members.all())
    assert members.learn(news)
    assert members.others()["here.b"].public_key == keys.public
    assert addresses.news(members.all()) == []


def test_a_new_key_on_this_machine_counts_more_than_what_was_heard(addresses: RegionAddresses, tmp_path: Path) -> None:
    members = Membership(addresses.own(new_key_pair()), addresses.others())
    members.learn(RegionAddress("here.b", "tcp://127.0.0.1:20019", new_key_pair().public, 4))
    keys = open_keys(tmp_path / "f" / "here.b")
    (news,) = addresses.news(members.all())
    assert members.learn(news)
    assert members.others()["here.b"] == RegionAddress("here.b", "tcp://127.0.0.1:20019", keys.public, 5)


def test_who_left_stays_away_whatever_the_file_says(addresses: RegionAddresses, tmp_path: Path) -> None:
    members = Membership(addresses.own(new_key_pair()), addresses.others())
    members.remove("far.c")
    restarted = Membership(addresses.own(new_key_pair()), [*members.told(), *addresses.others()])
    assert "far.c" not in restarted.others()
    assert addresses.news(restarted.all()) == []


def test_a_changed_own_address_is_told_under_a_higher_version(addresses: RegionAddresses) -> None:
    keys = new_key_pair()
    stored = RegionAddress("here.a", "tcp://zz:1", keys.public, 3)
    members = Membership(addresses.own(keys), [stored])
    assert members.own == RegionAddress("here.a", "tcp://127.0.0.1:20009", keys.public, 4)
    assert Membership(addresses.own(keys), [members.own]).own == members.own
