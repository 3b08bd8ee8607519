"""Top with its UART: requests over two wires, with noise on the line."""

import random
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from link_bench import StubEngine, StubMachine, stub_config

from dipole.golden.link import Command, Result
from dipole.host.device import Device
from dipole.host.device_model import DeviceModel
from dipole.host.protocol import Request
from dipole.host.transport import InProcessTransport
from dipole.rtl.top import Top
from dipole.rtl.uart import Uart

CONFIG = stub_config()
BIT = 4
GAP = 128
"""Cycles; more than a byte's."""
_PERIOD = 1e-6


class Wires:
    """A host's UART across the wires from a `Top`, and noise on the wire to it."""

    def __init__(self) -> None:
        self.top = Top(CONFIG, StubEngine(CONFIG), clocks_per_bit=BIT, gap=GAP)
        self.host = Uart(BIT)
        self.noise = Signal()
        module = Module()
        module.submodules.top, module.submodules.host = self.top, self.host
        module.d.comb += [self.top.rx.eq(self.host.tx ^ self.noise), self.host.rx.eq(self.top.tx)]
        self._in: list[int] = []
        self.levels: list[int] = []
        """Noise of the coming cycles."""
        self._out = bytearray()
        self._cycle = 0
        self._simulator = Simulator(module)
        self._simulator.add_clock(_PERIOD)
        self._simulator.add_testbench(self._drive, background=True)

    async def _drive(self, ctx: Any) -> None:
        host: Any = self.host
        ctx.set(host.o.ready, 1)
        while True:
            valid = bool(self._in)
            ctx.set(host.i.valid, valid)
            ctx.set(host.i.payload, self._in[0] if self._in else 0)
            ctx.set(self.noise, self.levels.pop(0) if self.levels else 0)
            _, _, takes, offers, payload = await ctx.tick().sample(host.i.ready, host.o.valid, host.o.payload)
            if takes and valid:
                self._in.pop(0)
            if offers:
                self._out.append(payload)

    def run(self, cycles: int) -> bytes:
        self._cycle += cycles
        self._simulator.run_until(self._cycle * _PERIOD)
        taken = bytes(self._out)
        self._out.clear()
        return taken

    def transport(self) -> InProcessTransport:
        return InProcessTransport(self._in.extend, lambda: self.run(12 * BIT), patience=40)


def test_memory_over_wires() -> None:
    wires = Wires()
    device = Device(wires.transport(), CONFIG)
    assert device.identify() == CONFIG.hash32
    data = random.Random(1).randbytes(12)
    device.write(4, data)
    assert device.read(4, 3) == data
    assert device.status().link_errors == 0


def test_framing_noise() -> None:
    """Noise costs attempts, never the data, and the status counts it."""
    wires = Wires()
    device = Device(wires.transport(), CONFIG, retries=5)
    pick = random.Random(7)
    data = pick.randbytes(8)
    wires.levels = [0] * 60 + [pick.randrange(2) for _ in range(40)]
    device.write(1, data)
    wires.levels = [0] * 300 + [1] * 5 * BIT
    assert device.read(1, 2) == data
    wires.levels = [pick.randrange(2) for _ in range(200)]
    wires.run(200 + 2 * GAP)
    assert device.read(1, 2) == data
    assert device.status().link_errors > 0


def test_break_leaves_the_link_alive() -> None:
    wires = Wires()
    device = Device(wires.transport(), CONFIG)
    wires.levels = [1] * 40 * BIT
    wires.run(60 * BIT + 2 * GAP)
    status = device.status()
    assert status.link_errors == 1 and not status.busy


def test_model_answers_the_same() -> None:
    wires = Wires()
    model = DeviceModel(CONFIG, StubMachine(CONFIG))
    for request in (
        Request(command=Command.STATUS, tag=7), Request(command=Command.READ, last=1), Request(command=Command.START)
    ):  # fmt: skip
        wires._in += request.encode()
        expected = model.feed(request.encode()) + model.silence()
        assert wires.run(40 * 10 * BIT + GAP) == expected
    assert expected[1] == Result.NO_PROGRAM
