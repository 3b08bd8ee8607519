"""Numbers of the link protocol that the RTL (`rtl/link.py`) and the host (`host/protocol.py`) share.

`host/protocol.py` describes the frames themselves. Whoever changes the protocol changes the two sync bytes too: they
are its version.
"""

from enum import IntEnum

__all__ = ["PROGRAM_VERSION", "REPLY_SYNC", "REQUEST_SYNC", "Command", "Result"]

REQUEST_SYNC = 0xD1
"""First byte of a request."""
REPLY_SYNC = 0x1D
"""First byte of a reply; another one, so that a line looped back to its sender is not taken for a device."""
PROGRAM_VERSION = 6
"""Version of the program format that the device runs: `golden/isa.py` and `golden/ladder.py`."""


class Command(IntEnum):
    """Low four bits of a request's second byte; 8..15 are errors.

    The value in the reply is the configuration hash for even commands, the cycle counter for odd ones.
    """

    IDENTIFY = 0
    STATUS = 1
    LOAD_BEGIN = 2
    """Begin a program load: `last` is the program format version, `argument` the configuration hash."""
    ABORT = 3
    """Stop the engine; main memory and the program stay."""
    READ = 4
    """Read words `argument`..`last`."""
    START = 5
    """Run from instruction `argument` (20 bits; higher ones are ignored)."""
    WRITE = 6
    """Write words `argument`..`last`; the data follow."""
    LOAD_END = 7
    """The image stands in words 0..`last`; `argument` is its CRC-32. Only if that is so, START is allowed."""


class Result(IntEnum):
    """What became of a request; low four bits of a reply's second byte."""

    OK = 0
    FRAME_CRC = 1
    """The CRC of header or data is wrong: send again."""
    TRUNCATED = 2
    """The frame broke off: send again."""
    COMMAND = 3
    """No such command."""
    BUSY = 4
    """The engine runs; only IDENTIFY, STATUS and ABORT are allowed."""
    RANGE = 5
    """An address beyond the end of memory."""
    VERSION = 6
    """The program has another format version."""
    OTHER_CONFIG = 7
    """The program was compiled for another configuration; the value is the hash of the device's own."""
    NO_PROGRAM = 8
    """START without a program, or LOAD_END without an accepted LOAD_BEGIN."""
    IMAGE_CRC = 9
    """Main memory does not hold the image: load again."""
