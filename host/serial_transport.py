"""Bytes over a serial port (pyserial)."""

import time

import serial

try:
    from termios import error as _TerminalError  # pyserial lets it through when a port goes away
except ImportError:  # Windows
    _TerminalError = OSError

from .protocol import LinkError
from .transport import Transport

__all__ = ["SerialTransport"]

_FAILURES = (serial.SerialException, OSError, _TerminalError)


class SerialTransport(Transport):
    """A serial port, 8 data bits, no parity, one stop bit.

    Parameters
    ----------
    port : str
        Name of the port (/dev/ttyUSB1, COM3), or a URL that pyserial knows.
    baud : int
        Bits per second: what the bitstream was built for.
    quiet : float
        Seconds of silence that `settle` keeps; more than the device's gap (22 ms at 12 MHz, less above).
    """

    def __init__(self, port: str, baud: int, *, quiet: float = 0.1) -> None:
        self.port = port
        self.quiet = quiet
        try:
            self._serial = serial.serial_for_url(port, baudrate=baud, timeout=0, write_timeout=10)
        except (*_FAILURES, ValueError) as error:
            raise LinkError(
                f"cannot open serial port {port!r} at {baud} baud: {_reason(error)}; check its name, the cable and "
                "your right to open it"
            ) from error

    def write(self, data: bytes) -> None:
        try:
            self._serial.reset_input_buffer()
            self._serial.write(data)
            self._serial.flush()
        except _FAILURES as error:
            raise self._lost(error) from error

    def read(self, count: int, timeout: float) -> bytes:
        taken = bytearray()
        try:
            self._serial.timeout = timeout
            while len(taken) < count:
                # One byte with patience, then whatever else is there.
                data = self._serial.read(max(1, min(count - len(taken), self._serial.in_waiting)))
                if not data:
                    break
                taken += data
        except _FAILURES as error:
            raise self._lost(error) from error
        return bytes(taken)

    def settle(self) -> None:
        end = time.monotonic() + 20 * self.quiet
        while self.read(1 << 16, self.quiet) and time.monotonic() < end:
            pass

    def close(self) -> None:
        self._serial.close()

    def _lost(self, error: Exception) -> LinkError:
        return LinkError(f"lost serial port {self.port!r}: {_reason(error)}; connect the board again")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error.args[-1] if error.args else "")
    return text.splitlines()[0] if text else type(error).__name__
