"""Frames: what is encoded is decoded, and nothing damaged is."""

import random
import zlib

import pytest

from dipole.golden.link import REPLY_SYNC, REQUEST_SYNC, Command, Result
from dipole.host.protocol import HEADER_BYTES, REPLY_BYTES, LinkError, Reply, Request, check_data, check_sum


def random_request(pick: random.Random) -> Request:
    argument = pick.choice([0, 1, pick.getrandbits(20)])
    return Request(
        command=pick.choice(list(Command)),
        tag=pick.randrange(16),
        last=argument + pick.randrange(10),
        argument=argument,
    )


def random_reply(pick: random.Random) -> Reply:
    return Reply(
        result=pick.choice(list(Result)),
        tag=pick.randrange(16),
        busy=pick.random() < 0.5,
        program=pick.random() < 0.5,
        accepted=pick.random() < 0.5,
        error=pick.randrange(16),
        link_errors=pick.randrange(16),
        runs=pick.randrange(16),
        value=pick.getrandbits(32),
    )


def test_bytes_are_as_described() -> None:
    """The layout, byte by byte, as docs/link.md has it."""
    frame = Request(command=Command.WRITE, tag=0xA, last=0x030201, argument=0x030201, data=b"data").encode()
    body = bytes([0xA6, 0x01, 0x02, 0x03, 0x01, 0x02, 0x03, 0x00])
    assert frame[:1] + frame[1:9] == bytes([REQUEST_SYNC]) + body
    assert frame[9:13] == zlib.crc32(body).to_bytes(4, "little")
    assert frame[13:] == b"data" + zlib.crc32(b"data").to_bytes(4, "little")
    reply = Reply(result=Result.BUSY, tag=3, busy=True, accepted=True, error=2, link_errors=5, runs=9, value=0x04030201)
    body = bytes([0x34, 0x25, 0x95, 1, 2, 3, 4])
    assert reply.encode() == bytes([REPLY_SYNC]) + body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize("seed", range(20))
def test_round_trip(seed: int) -> None:
    pick = random.Random(seed)
    request, reply = random_request(pick), random_reply(pick)
    assert Request.decode(request.encode()[:HEADER_BYTES]) == request
    assert len(reply.encode()) == REPLY_BYTES
    assert Reply.decode(reply.encode()) == reply


@pytest.mark.parametrize("seed", range(4))
def test_no_damaged_frame_is_accepted(seed: int) -> None:
    pick = random.Random(seed)
    for frame, decode in (
        (random_request(pick).encode()[:HEADER_BYTES], Request.decode),
        (random_reply(pick).encode(), Reply.decode),
    ):
        for bit in range(8 * len(frame)):
            damaged = bytearray(frame)
            damaged[bit // 8] ^= 1 << bit % 8
            assert decode(bytes(damaged)) is None, bit
        for length in range(len(frame)):
            assert decode(frame[:length]) is None, length
        assert decode(frame + b"\0") is None


def test_data() -> None:
    assert check_data(b"abc" + check_sum(b"abc")) == b"abc"
    assert check_data(check_sum(b"")) == b""
    assert check_data(b"abd" + check_sum(b"abc")) is None
    assert check_data(b"") is None and check_data(b"abc") is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"command": 16}, "command is 16, must be in 0..15"),
        ({"command": 0, "tag": -1}, "tag is -1, must be in 0..15"),
        ({"command": 0, "last": 1 << 24}, "last is 16777216, must be in 0..16777215"),
        ({"command": 0, "argument": 1 << 32}, "argument is 4294967296"),
        ({"command": Command.READ, "last": 3, "argument": 4}, "first word 4 is behind the last word 3"),
    ],
)
def test_bad_fields(fields: dict[str, int], message: str) -> None:
    with pytest.raises(LinkError, match=message):
        Request(**fields)  # pyright: ignore[reportArgumentType]
