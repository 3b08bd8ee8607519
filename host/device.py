"""The driver: brings programs and images to a device, starts it, reads results."""

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..compiler.program import MAGIC, Program
from ..compiler.transfer import pack_input, unpack_output
from ..golden.errors import DipoleError
from ..golden.link import Command, Result
from ..rtl.config import Config
from .protocol import CHECK_BYTES, REPLY_BYTES, LinkError, Reply, Request, check_data
from .transport import Transport

__all__ = ["Device", "DeviceStatus", "EngineError"]

_ADVICE = {
    Result.COMMAND: "device and host speak different versions of the protocol; build the bitstream again",
    Result.BUSY: "the engine is running; wait for it or abort it",
    Result.RANGE: "the address is beyond the end of main memory",
    Result.VERSION: "the program has another format version; compile the network again",
    Result.OTHER_CONFIG: "the program is for another configuration; compile the network for the device's own",
    Result.NO_PROGRAM: "no program is loaded; load one",
    Result.IMAGE_CRC: "main memory does not hold the image of the program; load it again",
}
_ENGINE_ERRORS = {1: "bad opcode", 2: "address out of range", 3: "watchdog: no progress"}


class EngineError(DipoleError):
    """A program that the engine stopped."""


@dataclass(frozen=True)
class DeviceStatus:
    """What a device says about itself."""

    busy: bool
    program: bool
    """A program is loaded and its image has been checked."""
    error: int
    """Of the last run: 0 none, 1 bad opcode, 2 address out of range, 3 watchdog."""
    link_errors: int
    """Broken frames and line errors since power-up, modulo 16."""
    runs: int
    """Runs started since power-up, modulo 16."""
    cycles: int
    """Of the run going on, or of the last one."""


class Device:
    """One device on a line. Every failure is a one-line DipoleError; damaged and lost frames are sent again.

    Parameters
    ----------
    transport : Transport
    config : Config
        What the device must be built for.
    timeout : float
        Seconds without a byte after which a reply counts as lost; more than the device's gap.
    retries : int
        How often a request is sent again.
    chunk : int
        Bytes of data per request.
    """

    def __init__(
        self, transport: Transport, config: Config, *, timeout: float = 1.0, retries: int = 3, chunk: int = 1024
    ) -> None:
        self.transport = transport
        self.config = config
        self.timeout = timeout
        self.retries = retries
        self.chunk_words = max(1, chunk * 8 // config.mem_width)
        self._tag = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()

    # --- programs ----------------------------------------------------------------------------------

    def identify(self) -> int:
        """Configuration hash of the device; LinkError where it is not that of `config`."""
        found = self._request(Command.IDENTIFY).value
        if found != self.config.hash32:
            raise LinkError(
                f"the device is built for configuration hash {found:08x}, not for {self.config.name!r} "
                f"({self.config.hash32:08x}): flash the bitstream of {self.config.name!r} or name its configuration"
            )
        return found

    def load(self, program: Program, progress: Callable[[int, int], None] | None = None) -> None:
        """Bring a program to the device and have it check the image. `progress` gets (bytes done, bytes in all)."""
        program.require_config(self.config)
        self.load_image(program.device_header, program.image, progress)

    def load_image(self, header: bytes, image: bytes, progress: Callable[[int, int], None] | None = None) -> None:
        """The same from a header (magic, version, configuration hash, image length, image CRC-32) and an image."""
        magic, version, config_hash, length, image_crc = struct.unpack("<4s4I", header)
        if magic != MAGIC:
            raise LinkError(f"not a program: its header begins with {magic!r}, must be {MAGIC!r}")
        if length != len(image) or length == 0 or length * 8 % self.config.mem_width:
            raise LinkError(
                f"program image has {len(image)} bytes, its header says {length}; it must be whole words of "
                f"{self.config.mem_width} bits: compile the network again"
            )
        words = length * 8 // self.config.mem_width
        if words > self.config.mem_depth:
            raise LinkError(f"program image has {words} words, main memory {self.config.mem_depth}")
        self._request(Command.LOAD_BEGIN, last=version, argument=config_hash)
        self.write(0, image, progress)
        self._request(Command.LOAD_END, last=words - 1, argument=image_crc, patience=10)

    def verify(self, program: Program) -> None:
        """Have the device check once more that its main memory holds the image of a loaded program."""
        words = len(program.image) * 8 // self.config.mem_width
        crc = struct.unpack("<4s4I", program.device_header)[4]
        self._request(Command.LOAD_END, last=words - 1, argument=crc, patience=10)

    def write_input(self, program: Program, codes: np.ndarray) -> None:
        """Input codes [channels, height, width] of one image."""
        size = self.config.mem_width // 8
        for address, words in pack_input(program, codes):
            self.write(address, b"".join(word.to_bytes(size, "little") for word in words))

    def read_output(self, program: Program) -> np.ndarray:
        """Output of the network, int64 [channels, height, width] (see `compiler.transfer.unpack_output`)."""
        layout = program.layers[-1].layout
        size = self.config.mem_width // 8
        data = self.read(layout.address, layout.words)
        return unpack_output(
            program, [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]
        )

    def infer(self, program: Program, codes: np.ndarray, timeout: float = 60) -> np.ndarray:
        """Output for input codes, by a program that is loaded."""
        self.write_input(program, codes)
        self.start(program.entry)
        self.wait(timeout)
        return self.read_output(program)

    # --- runs --------------------------------------------------------------------------------------

    def start(self, entry: int) -> None:
        """Start the loaded program at an instruction index."""
        if not 0 <= entry < 1 << 20:
            raise LinkError(f"entry is {entry}, must be in 0..{(1 << 20) - 1}")
        before = self.status().runs
        request = self._next(Command.START, argument=entry)
        for _ in range(self.retries + 1):
            reply, _ = self._send(request, 0, 1)
            if reply is not None and reply.result not in (Result.FRAME_CRC, Result.TRUNCATED):
                return self._accept(reply, Command.START)
            self.transport.settle()
            # START is the one command that must not be carried out twice: ask before sending it again.
            if self.status().runs != before:
                return None
        raise self._silent(Command.START)

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end of the run; its cycles. EngineError where the engine stopped it."""
        end = time.monotonic() + timeout
        pause = 0.0005
        while (status := self.status()).busy:
            if time.monotonic() > end:
                raise LinkError(f"the device is still busy after {timeout:g} s ({status.cycles} cycles): abort it")
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        if status.error:
            reason = _ENGINE_ERRORS.get(status.error, f"error {status.error}")
            raise EngineError(
                f"the engine stopped the program after {status.cycles} cycles: {reason}; load it or compile it again"
            )
        return status.cycles

    def status(self) -> DeviceStatus:
        reply = self._request(Command.STATUS)
        return DeviceStatus(
            busy=reply.busy, program=reply.program, error=reply.error, link_errors=reply.link_errors,
            runs=reply.runs, cycles=reply.value,
        )  # fmt: skip

    def cycles(self) -> int:
        """Cycles of the run going on, or of the last one."""
        return self._request(Command.STATUS).value

    def abort(self) -> None:
        """Stop the engine at once; main memory and the program stay."""
        self._request(Command.ABORT)

    # --- memory ------------------------------------------------------------------------------------

    def write(self, address: int, data: bytes, progress: Callable[[int, int], None] | None = None) -> None:
        """Write whole words from word `address` on."""
        size = self.config.mem_width // 8
        if len(data) % size:
            raise LinkError(f"{len(data)} bytes are no whole words of {size} bytes")
        self._check_range(address, len(data) // size)
        step = self.chunk_words * size
        for at in range(0, len(data), step):
            part = data[at : at + step]
            first = address + at // size
            self._request(Command.WRITE, last=first + len(part) // size - 1, argument=first, data=part)
            if progress is not None:
                progress(at + len(part), len(data))

    def read(self, address: int, words: int) -> bytes:
        """`words` words from word `address` on."""
        self._check_range(address, words)
        data = bytearray()
        for first in range(address, address + words, self.chunk_words):
            last = min(first + self.chunk_words, address + words) - 1
            request = self._next(Command.READ, last=last, argument=first)
            data += self._exchange(request, (last - first + 1) * self.config.mem_width // 8)[1]
        return bytes(data)

    def _check_range(self, address: int, words: int) -> None:
        if address < 0 or words < 0 or address + words > self.config.mem_depth:
            raise LinkError(
                f"words {address}..{address + words - 1} exceed main memory ({self.config.mem_depth} words)"
            )

    # --- frames ------------------------------------------------------------------------------------

    def _next(self, command: Command, *, last: int = 0, argument: int = 0, data: bytes = b"") -> Request:
        self._tag = (self._tag + 1) % 16
        return Request(command=command, tag=self._tag, last=last, argument=argument, data=data)

    def _request(
        self, command: Command, *, last: int = 0, argument: int = 0, data: bytes = b"", patience: int = 1
    ) -> Reply:
        return self._exchange(self._next(command, last=last, argument=argument, data=data), 0, patience)[0]

    def _exchange(self, request: Request, count: int, patience: int = 1) -> tuple[Reply, bytes]:
        """Send until it is answered; `count` bytes of data come with the answer."""
        for attempt in range(self.retries + 1):
            if attempt:
                self.transport.settle()
            reply, data = self._send(request, count, patience)
            if reply is None or reply.result in (Result.FRAME_CRC, Result.TRUNCATED):
                continue
            self._accept(reply, Command(request.command))
            if data is not None:
                return reply, data
        raise self._silent(Command(request.command))

    def _send(self, request: Request, count: int, patience: int) -> tuple[Reply | None, bytes | None]:
        """One attempt: reply and data, None where they did not come or are damaged."""
        self.transport.write(request.encode())
        timeout = self.timeout * patience
        frame = self.transport.read(REPLY_BYTES, timeout)
        reply = Reply.decode(frame)
        if reply is None or (reply.tag != request.tag and reply.result not in (Result.FRAME_CRC, Result.TRUNCATED)):
            return None, None
        if reply.result is not Result.OK or not count:
            return reply, b""
        data = check_data(self.transport.read(count + CHECK_BYTES, timeout))
        return reply, data if data is not None and len(data) == count else None

    def _accept(self, reply: Reply, command: Command) -> None:
        if reply.result is not Result.OK:
            other = f" (hash {reply.value:08x})" if reply.result is Result.OTHER_CONFIG else ""
            raise LinkError(f"the device refuses {command.name}: {_ADVICE[reply.result]}{other}")

    def _silent(self, command: Command) -> LinkError:
        return LinkError(
            f"no good answer from the device to {command.name} after {self.retries + 1} attempts: check the cable, the "
            "port, the speed, and that the bitstream is in the device"
        )
