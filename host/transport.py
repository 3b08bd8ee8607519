"""What carries the bytes between `Device` and a device; the one inside this process, for simulators and models."""

from abc import ABC, abstractmethod
from collections.abc import Callable

__all__ = ["InProcessTransport", "Transport"]


class Transport(ABC):
    """A byte stream in both directions. Bytes may be lost or damaged; `Device` repairs that."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Forget what has arrived and was not read, then send."""

    @abstractmethod
    def read(self, count: int, timeout: float) -> bytes:
        """`count` bytes; fewer when none has come for `timeout` seconds."""

    @abstractmethod
    def settle(self) -> None:
        """Be silent long enough for a device to drop an unfinished request, and forget what it says to that."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Give the line back."""


class InProcessTransport(Transport):
    """Bytes to and from a simulated device.

    Parameters
    ----------
    send : callable (bytes)
        Brings bytes to the device.
    receive : callable () -> bytes
        Lets the device run for a while and returns what it has sent, possibly nothing.
    patience : int
        Calls of `receive` in a row that return nothing after which no more is expected. Stands for every time-out, and
        must cover the silence after which a device answers a bad request (`rtl.link.Link.gap`).
    """

    def __init__(self, send: Callable[[bytes], None], receive: Callable[[], bytes], *, patience: int = 2) -> None:
        self._send = send
        self._receive = receive
        self._patience = patience
        self._arrived = bytearray()

    def write(self, data: bytes) -> None:
        self._arrived.clear()
        self._send(data)

    def read(self, count: int, timeout: float) -> bytes:
        idle = 0
        while len(self._arrived) < count and idle < self._patience:
            data = self._receive()
            idle = 0 if data else idle + 1
            self._arrived += data
        taken = bytes(self._arrived[:count])
        del self._arrived[:count]
        return taken

    def settle(self) -> None:
        while self.read(1 << 16, 0):
            pass
