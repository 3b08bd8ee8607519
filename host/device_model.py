"""A device in Python: the link protocol, reply by reply as `rtl/link.py`, around a golden machine."""

import zlib
from collections.abc import Callable
from typing import Any, Protocol

from ..golden.link import PROGRAM_VERSION, REQUEST_SYNC, Command, Result
from ..rtl.config import Config
from .protocol import CHECK_BYTES, HEADER_BYTES, Reply, Request, check_data, check_sum
from .transport import InProcessTransport

__all__ = ["DeviceModel", "MachineLike"]


class MachineLike(Protocol):
    """What runs the programs, `golden.machine.Machine` for one."""

    @property
    def memory(self) -> Any:
        """Main memory as writable bytes (bytearray or uint8 array)."""
        ...

    def run(self, entry: int) -> int:
        """Run from an instruction index; 0 or the engine's error number."""
        ...


class DeviceModel:
    """Answers requests as a device does; time is what the caller says: bytes by `feed`, a gap by `silence`.

    Parameters
    ----------
    config : Config
    machine : MachineLike
    cycles : callable (entry) -> int, optional
        Cycles that a run takes, asked before the run; without it runs take 0 cycles.
    deferred : bool
        True: the engine stays busy after START until `finish`. False: it is busy in the reply to START only.
    """

    def __init__(
        self,
        config: Config,
        machine: MachineLike,
        *,
        cycles: Callable[[int], int] | None = None,
        deferred: bool = False,
    ) -> None:
        self.config = config
        self.machine = machine
        self.deferred = deferred
        self._count = cycles
        self._memory = memoryview(machine.memory)
        self._word = config.mem_width // 8
        self._received = bytearray()
        self._request: Request | None = None
        self._waiting: int | None = None  # entry of the run going on
        self._drop: Result | None = None  # the answer after the next silence
        self._command = self._tag = self._address = 0
        self._errors = self._runs = self._error = self._cycles = 0
        self._accepted = self._program = False

    # --- the line --------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Bytes to the device; returns what it answers."""
        return b"".join(self._byte(byte) for byte in data)

    def silence(self) -> bytes:
        """The line is silent for the device's gap; returns what it answers."""
        if self._drop is None:
            if not self._received and self._request is None:
                return b""
            self._errors += 1
            self._drop = Result.TRUNCATED
        return self._reply(self._drop)

    def line_error(self) -> None:
        """The UART has lost a byte."""
        self._errors += 1

    def finish(self) -> None:
        """The run going on comes to its end."""
        if self._waiting is not None:
            entry, self._waiting = self._waiting, None
            self._cycles = self._count(entry) if self._count else 0
            self._error = int(self.machine.run(entry))

    def transport(self) -> InProcessTransport:
        """A line to this device for `Device`."""
        answers = bytearray()

        def receive() -> bytes:
            taken = bytes(answers) or self.silence()
            answers.clear()
            return taken

        return InProcessTransport(lambda data: answers.extend(self.feed(data)), receive)

    # --- frames ----------------------------------------------------------------------------------

    def _byte(self, byte: int) -> bytes:
        if self._drop is not None:
            return b""
        if self._request is not None:
            self._received.append(byte)
            return self._data(self._request)
        if not self._received and byte != REQUEST_SYNC:
            return b""
        self._received.append(byte)
        if len(self._received) == 5:
            self._command, self._tag = self._received[1] & 15, self._received[1] >> 4
        if len(self._received) < HEADER_BYTES:
            return b""
        request = Request.decode(bytes(self._received))
        self._received.clear()
        if request is None:
            self._errors += 1
            return self._refuse(Result.FRAME_CRC)
        result = self._result(request)
        if result is not Result.OK:
            return self._refuse(result)
        if request.command == Command.WRITE:
            self._request, self._address = request, request.argument
            return b""
        return self._reply(Result.OK, self._words(request) if request.command == Command.READ else b"")

    def _data(self, request: Request) -> bytes:
        """Data of WRITE: whole words go to memory as they arrive."""
        depth, size = self.config.mem_depth, self._word
        count = ((request.last - request.argument) % depth + 1) * size
        have = len(self._received)
        if have <= count and have % size == 0:
            at = (request.argument + have // size - 1) % depth * size
            self._memory[at : at + size] = bytes(self._received[-size:])
        if have < count + CHECK_BYTES:
            return b""
        data, self._request = check_data(bytes(self._received)), None
        self._received.clear()
        if data is None:
            self._errors += 1
            return self._refuse(Result.FRAME_CRC)
        return self._reply(Result.OK)

    def _words(self, request: Request) -> bytes:
        first, depth = request.argument, self.config.mem_depth
        addresses = [(first + k) % depth * self._word for k in range((request.last - first) % depth + 1)]
        data = b"".join(bytes(self._memory[at : at + self._word]) for at in addresses)
        return data + check_sum(data)

    def _refuse(self, result: Result) -> bytes:
        self._drop = result
        return b""

    def _reply(self, result: Result, data: bytes = b"") -> bytes:
        self._received.clear()
        self._request = self._drop = None
        running = self._waiting is not None
        value = self._cycles if self._command & 1 else self.config.hash32
        reply = Reply(
            result=result, tag=self._tag, busy=running, program=self._program, accepted=self._accepted,
            error=self._error, link_errors=self._errors % 16, runs=self._runs % 16, value=value,
        )  # fmt: skip
        if not self.deferred:
            self.finish()
        return reply.encode() + data

    # --- commands --------------------------------------------------------------------------------

    def _result(self, request: Request) -> Result:
        """Carries out a request, but for the data of READ and WRITE."""
        command, argument, last = request.command, request.argument, request.last
        if command > max(Command):
            return Result.COMMAND
        if self._waiting is not None and command not in (Command.IDENTIFY, Command.STATUS, Command.ABORT):
            return Result.BUSY
        if command in (Command.READ, Command.WRITE) and max(argument, last) >= self.config.mem_depth:
            return Result.RANGE
        if command == Command.LOAD_BEGIN:
            return self._load_begin(last, argument)
        if command == Command.LOAD_END:
            return self._load_end(last, argument)
        if command == Command.START:
            if not self._program:
                return Result.NO_PROGRAM
            self._runs += 1
            self._waiting, self._error, self._cycles = argument & 0xFFFFF, 0, 0
        if command == Command.ABORT:
            self._waiting = None
        return Result.OK

    def _load_begin(self, version: int, config_hash: int) -> Result:
        self._program = self._accepted = False
        if version != PROGRAM_VERSION:
            return Result.VERSION
        if config_hash != self.config.hash32:
            return Result.OTHER_CONFIG
        self._accepted = True
        return Result.OK

    def _load_end(self, last: int, image_crc: int) -> Result:
        if last >= self.config.mem_depth:
            return Result.RANGE
        if not self._accepted:
            return Result.NO_PROGRAM
        self._program = zlib.crc32(self._memory[: (last + 1) * self._word]) == image_crc
        return Result.OK if self._program else Result.IMAGE_CRC
