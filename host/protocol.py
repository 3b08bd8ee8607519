"""The link protocol: frames of bytes between a host and a device. docs/link.md explains its choices.

The host sends a request and waits for its reply before it sends the next one. All numbers are little-endian. A check
sum is the CRC-32 of zlib. Addresses count words of main memory; a word travels lowest byte first.

Request:

* 1 byte sync, 0xD1;
* 1 byte command: low four bits `golden.link.Command`, high four bits a tag, which the reply repeats;
* 3 bytes last. READ, WRITE, LOAD_END: address of the last word; LOAD_BEGIN: program format version; else 0;
* 4 bytes argument. READ, WRITE: address of the first word; LOAD_BEGIN: configuration hash; LOAD_END: CRC-32 of the
  image; START: instruction index; else 0;
* 4 bytes check sum of the eight bytes from command to argument;
* WRITE only: the words, then 4 bytes check sum of them.

Reply:

* 1 byte sync, 0x1D;
* 1 byte result: low four bits `golden.link.Result`, high four bits the tag;
* 1 byte state: bit 0 engine busy, bit 1 program loaded (START is allowed), bit 2 LOAD_BEGIN accepted, high four bits
  the engine's error (0 none, 1 bad opcode, 2 address out of range, 3 watchdog);
* 1 byte counters: low four bits broken frames and line errors, high four bits accepted STARTs, each modulo 16;
* 4 bytes value. Even commands: configuration hash; odd ones: cycles of the run going on or of the last one;
* 4 bytes check sum of the seven bytes from result to value;
* READ with result OK only: the words, then 4 bytes check sum of them.

Words from a first to a smaller last address go around the end of memory; `Request` does not make such frames.

Loading a program: LOAD_BEGIN takes version and configuration hash from the program's header, refuses others, and makes
START refused. WRITE brings the image, whole words, to word 0 onwards. LOAD_END makes the device read the image back and
compare its CRC-32; if it matches, START is allowed until the next LOAD_BEGIN or a LOAD_END that fails. LOAD_END may be
sent again at any time while the engine is idle, to check the image once more.

Errors: a device drops what it receives until a sync byte. A request that it refuses, for a wrong check sum or anything
else, is answered after the line has been silent for `rtl.link.GAP_CYCLES` cycles; what comes before is dropped. A
request that breaks off for that long is answered as TRUNCATED. So after any reply the device waits for the next
request; while it answers it takes nothing. Of a WRITE answered with FRAME_CRC or TRUNCATED any words may have been
written, but none outside its range: send it again. Every command may be sent twice without harm except START; the
counter of accepted STARTs tells whether one whose reply was lost has been carried out.

Refusals are decided in this order: wrong check sum, no such command, busy, out of range, then what the command asks.
"""

import struct
import zlib
from dataclasses import dataclass

from ..golden.errors import DipoleError
from ..golden.link import REPLY_SYNC, REQUEST_SYNC, Command, Result

__all__ = ["HEADER_BYTES", "CHECK_BYTES", "REPLY_BYTES", "LinkError", "Reply", "Request", "check_data", "check_sum"]

CHECK_BYTES = 4
"""Bytes of a check sum."""
HEADER_BYTES = 13
"""Bytes of a request up to its data."""
REPLY_BYTES = 12
"""Bytes of a reply up to its data."""


class LinkError(DipoleError):
    """A device that does not answer, answers nonsense, or refuses; the message says what to do."""


def check_sum(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def check_data(data: bytes) -> bytes | None:
    """`data` without the check sum at its end, or None where that is wrong."""
    body, found = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
    return body if len(data) >= CHECK_BYTES and found == check_sum(body) else None


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request; `command` may be a number that is no command."""

    command: int
    tag: int = 0
    last: int = 0
    argument: int = 0
    data: bytes = b""
    """WRITE: words `argument`..`last`."""

    def __post_init__(self) -> None:
        for name, bits in (("command", 4), ("tag", 4), ("last", 24), ("argument", 32)):
            value = getattr(self, name)
            if not 0 <= value < 1 << bits:
                raise LinkError(f"request: {name} is {value}, must be in 0..{(1 << bits) - 1}")
        if self.command in (Command.READ, Command.WRITE) and self.argument > self.last:
            raise LinkError(f"request: first word {self.argument} is behind the last word {self.last}")

    def encode(self) -> bytes:
        """The frame."""
        header = struct.pack("<BI", self.tag << 4 | self.command, self.last)[:4] + struct.pack("<I", self.argument)
        frame = bytes([REQUEST_SYNC]) + header + check_sum(header)
        return frame + self.data + check_sum(self.data) if self.command == Command.WRITE else frame

    @classmethod
    def decode(cls, header: bytes) -> "Request | None":
        """The request of HEADER_BYTES bytes, without data; None where sync or check sum are wrong."""
        body = check_data(header[1:])
        if len(header) != HEADER_BYTES or header[0] != REQUEST_SYNC or body is None:
            return None
        command, argument = body[0], int.from_bytes(body[4:8], "little")
        request = object.__new__(cls)  # a device takes frames that a host would not make
        for name, value in (
            ("command", command & 15), ("tag", command >> 4), ("last", int.from_bytes(body[1:4], "little")),
            ("argument", argument), ("data", b""),
        ):  # fmt: skip
            object.__setattr__(request, name, value)
        return request


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One reply, without the data of READ."""

    result: Result
    tag: int = 0
    busy: bool = False
    program: bool = False
    """A program is loaded and START is allowed."""
    accepted: bool = False
    """A LOAD_BEGIN has been accepted."""
    error: int = 0
    """Of the engine's last run."""
    link_errors: int = 0
    """Broken frames and line errors, modulo 16."""
    runs: int = 0
    """Accepted STARTs, modulo 16."""
    value: int = 0
    """Configuration hash or cycles, by the command."""

    def encode(self) -> bytes:
        """The frame."""
        state = self.busy | self.program << 1 | self.accepted << 2 | self.error << 4
        head = bytes([self.tag << 4 | self.result, state, self.runs << 4 | self.link_errors])
        body = head + struct.pack("<I", self.value)
        return bytes([REPLY_SYNC]) + body + check_sum(body)

    @classmethod
    def decode(cls, frame: bytes) -> "Reply | None":
        """The reply of REPLY_BYTES bytes; None where sync, check sum or result are wrong."""
        body = check_data(frame[1:])
        if len(frame) != REPLY_BYTES or frame[0] != REPLY_SYNC or body is None or body[0] & 15 not in set(Result):
            return None
        result, state, counters = body[:3]
        return cls(
            result=Result(result & 15), tag=result >> 4, busy=bool(state & 1), program=bool(state & 2),
            accepted=bool(state & 4), error=state >> 4, link_errors=counters & 15, runs=counters >> 4,
            value=int.from_bytes(body[3:7], "little"),
        )  # fmt: skip
