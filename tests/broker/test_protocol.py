"""The messages: read as they were written, and nothing but a protocol error for anything else."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker import protocol as p
from fedbus.errors import ProtocolError
from fedbus.limits import DEFAULT

SETTLED = [p.Settled("r/i/0", [(0, 5), (7, 8)])]
FROM_PEER = [
    p.Hello(1, 1, "client", "n", "r", want_table=True),
    p.Ping(3),
    p.Publish(1, "p", 2, 3, ["b1"], [p.Tried("r/b/0", 7)], 2, idempotent=True),
    p.Reject(4, "r/b/0", [p.Try("p", 7, 2)]),
    p.Subscribe(1, 2, ["a.>"], p.Start("cursor", cursor={"r/i/0": 7}), 10, "g", "m", p.GroupOptions(500)),
    p.Pull(1, 2, "r/i/0", [p.LinkFilter(">", 3), p.LinkFilter("a", 9, wanted=False)], 10),
    p.Unsubscribe(1, 2),
    p.Credit(1, 5),
    p.Ack(1, SETTLED, 4),
    p.Nack(1, SETTLED, 10),
    p.Extend(1, SETTLED),
    p.Goodbye(),
]
FROM_INSTANCE = [
    p.Welcome(1, "r", "i", "r/i/0", 2, 10_000, 5, DEFAULT),
    p.Pong(1, "i", "r/i/0", "healthy", {"x": 1}),
    p.Judged(4, [p.STORED, p.NOT_STORED, p.FORGOTTEN]),
    p.Published(1, "r/i/0", 5, 2, duplicate=True, first_copies=[p.FirstCopy(1, "r/i/0", 3)], as_sequence=4),
    p.Ok(1),
    p.Subscribed(1, 2, {"r/i/0": 5}),
    p.Deliver(1, "r/i/0", [(0, 2)], 2, 1, 0),
    p.Ended(1, "c", "d"),
    p.Refused(1, "c", "d", retryable=True, retry_after_ms=5),
    p.Table(7),
]
FRAMES = {p.Publish: 2, p.Deliver: 2, p.Table: 1}


@pytest.mark.parametrize(
    ("message", "decode"),
    [(message, p.decode_from_peer) for message in FROM_PEER]
    + [(message, p.decode_from_instance) for message in FROM_INSTANCE],
    ids=lambda value: type(value).__name__,
)
def test_a_message_is_read_as_it_was_written(message, decode):
    frames = [b"x"] * FRAMES.get(type(message), 0)
    header = p.encode(message)
    assert decode([header, *frames]) == message
    with pytest.raises(ProtocolError, match="frames"):
        decode([header, *frames, b"one more"])
    later = msgspec.msgpack.encode([*msgspec.msgpack.decode(header), "a field of a later version"])
    assert decode([later, *frames]) == message


@pytest.mark.parametrize("decode", [p.decode_from_peer, p.decode_from_instance])
@given(frames=st.lists(st.binary(max_size=30), max_size=3))
def test_any_frames_are_a_message_or_a_protocol_error(decode, frames):
    with contextlib.suppress(ProtocolError):
        decode(frames)


@given(message=st.sampled_from(FROM_PEER + FROM_INSTANCE), data=st.data())
def test_a_damaged_header_is_a_message_or_a_protocol_error(message, data):
    header = bytearray(p.encode(message))
    at = data.draw(st.integers(0, len(header) - 1))
    header[at] ^= data.draw(st.integers(1, 255))
    frames = [bytes(header), *[b"x"] * FRAMES.get(type(message), 0)]
    for decode in (p.decode_from_peer, p.decode_from_instance):
        with contextlib.suppress(ProtocolError):
            decode(frames)
