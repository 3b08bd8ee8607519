"""The serial line: a pseudo-terminal with a device model behind it."""

import os
import random
import select
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dipole.golden.machine import Machine
from dipole.host.device import Device
from dipole.host.device_model import DeviceModel
from dipole.host.protocol import LinkError
from dipole.host.serial_transport import SerialTransport
from dipole.rtl.presets import PRESETS

CONFIG = PRESETS["test_tiny"]
GAP = 0.02
"""Seconds of silence after which the device drops a frame."""


@contextmanager
def board(model: DeviceModel) -> Iterator[str]:
    """A port with a device; gives its name."""
    master, slave = os.openpty()
    tty.setraw(slave)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            ready, _, _ = select.select([master], [], [], GAP)
            answer = model.feed(os.read(master, 4096)) if ready else model.silence()
            if answer:
                os.write(master, answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        stop.set()
        thread.join()
        os.close(master)
        os.close(slave)


def test_memory_and_errors() -> None:
    model = DeviceModel(CONFIG, Machine(CONFIG))
    with board(model) as port, Device(SerialTransport(port, 115200, quiet=0.05), CONFIG) as device:
        assert device.identify() == CONFIG.hash32
        data = random.Random(1).randbytes(5000)
        device.write(3, data)
        assert device.read(3, 1250) == data
        with pytest.raises(LinkError, match="refuses START: no program is loaded"):
            device.start(0)
        # Half a frame of somebody else, then ours.
        device.transport.write(b"\xd1\x06\x01")
        assert device.identify() == CONFIG.hash32
        assert device.status().link_errors > 0


def test_no_port() -> None:
    with pytest.raises(LinkError, match=r"cannot open serial port '/dev/nothing' at 9600 baud: .*check its name"):
        SerialTransport("/dev/nothing", 9600)
    with pytest.raises(LinkError, match="cannot open serial port"):
        SerialTransport("nothing://here", 9600)


def test_nobody_there() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    with serial_device(os.ttyname(slave)) as device, pytest.raises(LinkError, match="no good answer from the device"):
        device.identify()
    os.close(slave)
    os.close(master)


def test_port_goes_away() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    with serial_device(os.ttyname(slave)) as device:
        os.close(slave)
        os.close(master)
        with pytest.raises(LinkError, match=r"lost serial port '.*': Input/output error; connect the board again"):
            device.identify()


def serial_device(port: str) -> Device:
    return Device(SerialTransport(port, 115200, quiet=0.02), CONFIG, timeout=0.05, retries=1)
