"""Keys of regions and who may connect with them, over real sockets."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from fedbus.errors import EnvironmentUnusableError
from fedbus_actors.region_keys import KeyPair, is_key, new_key_pair, open_keys, public_key
from fedbus_actors.zap import AllowList, dial_encrypted, dial_promptly, serve_encrypted, user_id

DEADLINE_MS = 10_000
SERVER, FRIEND, STRANGER = new_key_pair(), new_key_pair(), new_key_pair()


class Door:
    """One ROUTER with an unencrypted and an encrypted endpoint, as a bus instance has."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.dialling: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.allowed = AllowList(self.context)
        self.socket = self.context.socket(zmq.ROUTER)
        self.plain = self._bind()
        self.dialled: list[zmq.Socket[bytes]] = []
        serve_encrypted(self.socket, SERVER)
        self.encrypted = self._bind()

    def _bind(self) -> str:
        self.socket.bind("tcp://127.0.0.1:*")
        return self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def dial(self, endpoint: str, keys: KeyPair | None = None, server_key: str = SERVER.public) -> zmq.Socket[bytes]:
        socket = self.dialling.socket(zmq.DEALER)
        socket.linger = 0
        dial_promptly(socket)
        if keys is not None:
            dial_encrypted(socket, keys, server_key)
        socket.connect(endpoint)
        socket.send(b"hello")
        self.dialled.append(socket)  # or it is closed as garbage
        return socket

    def receive(self) -> zmq.Frame:
        assert self.socket.poll(DEADLINE_MS)
        return self.socket.recv_multipart(copy=False)[1]

    def close(self) -> None:
        self.dialling.destroy(linger=0)
        self.allowed.stop()
        self.context.destroy(linger=0)


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


def test_a_known_key_is_the_region_it_belongs_to(door: Door):
    door.allowed.admit({FRIEND.public: "b"})
    door.dial(door.encrypted, FRIEND)
    assert door.allowed.sender(door.receive()) == "b"


def test_the_unencrypted_endpoint_of_the_same_socket_stays_as_it_was(door: Door):
    door.dial(door.plain)
    frame = door.receive()
    assert user_id(frame) == ""
    assert door.allowed.sender(frame) is None


@pytest.mark.parametrize(
    ("keys", "server_key"), [(STRANGER, SERVER.public), (FRIEND, STRANGER.public), (None, SERVER.public)]
)
def test_unknown_keys_wrong_servers_and_the_unencrypted_are_refused(door: Door, keys: KeyPair | None, server_key: str):
    door.allowed.admit({FRIEND.public: "b"})
    door.dial(door.encrypted, keys, server_key)
    door.dial(door.encrypted, FRIEND).send(b"again")
    assert {door.receive().bytes, door.receive().bytes} == {b"hello", b"again"}
    assert not door.socket.poll(200)


def test_a_key_taken_off_the_list_is_nobodys_though_its_connection_lives(door: Door):
    door.allowed.admit({FRIEND.public: "b"})
    socket = door.dial(door.encrypted, FRIEND)
    door.receive()
    door.allowed.admit({})
    socket.send(b"again")
    frame = door.receive()
    assert door.allowed.sender(frame) is None
    assert user_id(frame) == FRIEND.public


def test_a_refused_handshake_is_counted_and_a_new_connection_comes_in_once_the_key_is_known(door: Door):
    door.dial(door.encrypted, FRIEND)  # ZeroMQ does not try again by itself
    assert not door.socket.poll(300)
    door.allowed.admit({FRIEND.public: "b"})
    door.dial(door.encrypted, FRIEND)
    assert door.allowed.sender(door.receive()) == "b"
    assert door.allowed.refused >= 1


def test_keys_are_made_once_private_and_found_again(tmp_path: Path):
    made = open_keys(tmp_path)
    assert is_key(made.public)
    assert is_key(made.secret)
    assert open_keys(tmp_path) == made
    assert public_key(tmp_path) == made.public
    secret = tmp_path / "keys" / "region.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert made.secret not in repr(made)
    assert sorted(each.name for each in (tmp_path / "keys").iterdir()) == ["region.key", "region.pub"]


def test_a_lost_public_key_is_written_again(tmp_path: Path):
    made = open_keys(tmp_path)
    (tmp_path / "keys" / "region.pub").unlink()
    assert public_key(tmp_path) == ""
    open_keys(tmp_path)
    assert public_key(tmp_path) == made.public


def test_a_damaged_key_is_an_error_that_says_what_to_do(tmp_path: Path):
    open_keys(tmp_path)
    (tmp_path / "keys" / "region.key").write_text("short")
    with pytest.raises(EnvironmentUnusableError, match="restore it"):
        open_keys(tmp_path)


@pytest.mark.parametrize("text", ["", "x" * 39, "x" * 41, "é" * 40, "\\" * 40, "~" * 40])
def test_what_is_no_key(text: str):
    assert not is_key(text)
