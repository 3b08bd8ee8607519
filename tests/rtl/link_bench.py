"""Test bench of the link: a core with a small stand-in for the engine, main memory, random gaps on both streams."""

import random
from collections import deque
from typing import Any

from amaranth.hdl import Cat, ClockDomain, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from dipole.host.transport import InProcessTransport
from dipole.rtl.config import Config
from dipole.rtl.memory import MemorySignature
from dipole.rtl.top import Top

__all__ = ["GAP", "LinkBench", "StubEngine", "StubMachine", "stub_config"]

GAP = 16
_PERIOD = 1e-6


def stub_config(mem_width: int = 32, mem_depth: int = 256, columns: int = 8, memory_lag: int = 0) -> Config:
    return Config(
        name="link", rows=1, columns=columns, lanes=8, mem_width=mem_width, mem_depth=mem_depth, memory_lag=memory_lag
    )


class StubEngine(wiring.Component):
    """Ports of the engine, and `hold`.

    A run reads word `entry`, is busy for as many cycles as its low four bits say and for as long as `hold` is 1, writes
    the word with all its bits inverted to the last word of memory, and ends with error (bits 7..4) and 3 + low four
    bits as `cycles`.
    """

    start: Signal
    entry: Signal
    abort: Signal
    busy: Signal
    error: Signal
    cycles: Signal
    mem: Any
    hold: Signal

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1), "entry": In(20), "abort": In(1), "busy": Out(1), "error": Out(4), "cycles": Out(32),
                "mem": Out(MemorySignature(config)),
                "drain_valid": Out(1), "drain_data": Out((config.columns + 1) * config.acc_width), "hold": In(1),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        left, entry = Signal(4), Signal(20)
        word = Signal(self.config.mem_width)
        mem = self.mem
        m.d.comb += mem.wdata.eq(~word)
        with m.FSM():
            with m.State("IDLE"):
                # Junk that must not get through while idle.
                m.d.comb += [mem.en.eq(1), mem.we.eq(~0), mem.addr.eq(1)]
                with m.If(self.start):
                    m.d.sync += [self.busy.eq(1), self.error.eq(0), self.cycles.eq(0), entry.eq(self.entry)]
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [mem.en.eq(1), mem.addr.eq(entry)]
                m.d.sync += left.eq(self.config.memory_lag)
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.next = "WORD"
            with m.State("WORD"):
                m.d.sync += [word.eq(mem.rdata), left.eq(mem.rdata[:4])]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.sync += left.eq(left - (left != 0))
                with m.If((left == 0) & ~self.hold):
                    m.d.comb += [mem.en.eq(1), mem.we.eq(~0), mem.addr.eq(self.config.mem_depth - 1)]
                    m.d.sync += [self.busy.eq(0), self.error.eq(word[4:8]), self.cycles.eq(word[:4] + 3)]
                    m.next = "IDLE"
        with m.If(self.abort):
            m.d.sync += self.busy.eq(0)
        return ResetInserter(self.abort & self.busy)(m)


class StubMachine:
    """What StubEngine does, in Python."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.memory = bytearray(config.mem_depth * config.mem_width // 8)

    def _word(self, entry: int) -> bytes:
        size = self.config.mem_width // 8
        at = entry % self.config.mem_depth * size
        return bytes(self.memory[at : at + size])

    def run(self, entry: int) -> int:
        word = self._word(entry)
        self.memory[-len(word) :] = bytes(byte ^ 0xFF for byte in word)
        return word[0] >> 4

    def cycles(self, entry: int) -> int:
        return (self._word(entry)[0] & 15) + 3


class LinkBench:
    """`Top` around a StubEngine, driven from plain Python.

    Runs go on until `finish`. `feed` brings bytes with random gaps shorter than the link's, and random waits on the way
    out, then is silent for longer than the link's gap, and returns all answers.
    """

    def __init__(self, config: Config, seed: int, *, pauses: int = 3) -> None:
        self.config = config
        self.random = random.Random(seed)
        self.pauses = pauses
        self.engine = self.make_engine(config)
        self.dut = Top(config, self.engine, gap=GAP)
        self.hold = True
        self.busy = False
        self._in: deque[int] = deque()
        self._out = bytearray()
        self._cycle = self._quiet = self._line_errors = 0
        self._reset = False
        top = Module()
        self._domain: Any = ClockDomain("sync")
        top.domains.sync = self._domain
        top.submodules.dut = self.dut
        self._simulator = Simulator(top)
        self._simulator.add_clock(_PERIOD)
        self._simulator.add_testbench(self._drive, background=True)
        self.run(2)

    def make_engine(self, config: Config) -> Any:
        return StubEngine(config)

    async def _drive(self, ctx: Any) -> None:
        dut: Any = self.dut
        inputs = {
            "rst": self._domain.rst, "hold": getattr(self.engine, "hold", Signal()), "error": dut.line_error,
            "valid": dut.i.valid, "ready": dut.o.ready, "payload": dut.i.payload,
        }  # fmt: skip
        now = dict.fromkeys(inputs, 0)
        sampled = Cat(dut.i.ready, dut.o.valid, dut.busy, dut.o.payload)
        pause, valid = 0, False
        while True:
            pause -= 1
            if not valid and pause < 0 and self._in:
                valid = True
            wanted = {
                "rst": self._reset, "hold": self.hold, "error": self._line_errors > 0, "valid": valid,
                "ready": self.random.random() < 0.7,
                # Junk where there is no byte.
                "payload": self._in[0] if valid else now["payload"] if pause else self.random.randrange(256),
            }  # fmt: skip
            for name, value in wanted.items():  # setting an input is what costs time
                if value != now[name]:
                    ctx.set(inputs[name], value)
            now = wanted
            self._line_errors = max(0, self._line_errors - 1)
            outputs = (await ctx.tick().sample(sampled))[2]
            takes, offers, self.busy = outputs & 1, outputs & 2, bool(outputs & 4)
            self._quiet += 1
            if self._reset:
                valid = False
                continue
            if valid and takes:
                self._in.popleft()
                valid, pause, self._quiet = False, self.random.randint(-2 * self.pauses, self.pauses), 0
            if offers:
                self._quiet = 0
                if now["ready"]:
                    self._out.append(outputs >> 3)

    def run(self, cycles: int) -> None:
        self._cycle += cycles
        self._simulator.run_until(self._cycle * _PERIOD)

    def feed(self, data: bytes, expect: int = 0) -> bytes:
        """Answers to `data` and to the gap behind it; where there are less than `expect` bytes, it waits longer."""
        self._in += data
        self._quiet = 0
        while self._in or self._quiet < (2 * GAP if len(self._out) >= expect else 200 * GAP):
            self.run(4)
        return self._taken()

    def _taken(self) -> bytes:
        taken = bytes(self._out)
        self._out.clear()
        return taken

    def finish(self) -> None:
        """The run going on comes to its end."""
        self.hold = False
        self.run(4)
        while self.busy:
            self.run(4)
        self.hold = True
        self.run(2)

    def line_error(self) -> None:
        self._line_errors += 1
        self.run(3)

    def reset(self) -> None:
        """Reset of the whole device; bytes under way are lost."""
        self._in.clear()
        self._reset = True
        self.run(4)
        self._reset = False
        self.run(4)
        self._out.clear()

    def transport(self) -> InProcessTransport:
        def receive() -> bytes:
            self.run(2 * GAP)
            return self._taken()

        return InProcessTransport(self._in.extend, receive, patience=30)
