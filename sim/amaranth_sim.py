"""The engine in Amaranth's own simulator: a few hundred cycles per second, no compilation, names as in the source."""

import random
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator as AmaranthKernel

from ..rtl.config import Config
from .engine import MAX_CYCLES, Factory, RunResult, Simulator

__all__ = ["AmaranthSimulator"]

_PERIOD = 10e-9
"""Seconds of a clock cycle."""
_SLICE = 256
"""Cycles between two calls of `progress`."""


class AmaranthSimulator(Simulator):
    """`Simulator` on `amaranth.sim`; see there for the contract.

    One background testbench plays the main memory and records the trace; `run` moves time one clock period at a
    time and talks to it through attributes.
    """

    def __init__(
        self, config: Config, *, component: Factory | None = None, waves: Path | None = None, seed: int = 1
    ) -> None:
        super().__init__(config, component=component, waves=waves, seed=seed)
        self._memory = np.zeros((config.mem_depth, config.mem_width // 32), np.uint32)
        self._random = random.Random(seed)
        self._stack = ExitStack()
        self._edges = 0
        self._start: int | None = None
        self._abort = False
        self._reset = False
        self._trace = False
        self._cycle = 0
        self._drained: list[tuple[int, int]] = []
        self._status = (0, 0, 0)

    def __enter__(self) -> Self:
        self._dut = self.component(self.config)
        top = Module()
        self._domain: Any = ClockDomain("sync")
        top.domains.sync = self._domain
        top.submodules.dut = self._dut
        if self.config.pump > 1:
            top.domains.fast = ClockDomain("fast", reset_less=True)
        self._kernel = AmaranthKernel(top)
        self._kernel.add_clock(_PERIOD)
        if self.config.pump > 1:
            # The first rising edges of both clocks come together.
            self._kernel.add_clock(_PERIOD / self.config.pump, phase=_PERIOD / 2, domain="fast")
        self._kernel.add_testbench(self._testbench, background=True)
        if self.waves is not None:
            self._stack.enter_context(self._kernel.write_vcd(str(self.waves)))
        self._step()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def memory(self) -> np.ndarray:
        return self._memory

    def reset(self) -> None:
        self._reset = True
        self._step()
        self._step()

    def run(
        self,
        entry: int,
        *,
        max_cycles: int = MAX_CYCLES,
        trace: bool = False,
        abort_at: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> RunResult:
        self._drained = []
        self._trace = trace
        self._start = entry
        self._step()
        self._cycle = 0
        self._abort = abort_at == 1
        self._step()
        while True:
            self._abort = abort_at == self._cycle + 1
            self._step()
            cycle = self._cycle - 1
            if not self._status[0]:
                break
            if cycle >= max_cycles:
                self.reset()
                raise self._timeout(entry, max_cycles)
            if progress is not None and cycle % _SLICE == 0:
                progress(cycle)
        _, error, cycles = self._status
        width = self.config.acc_width
        sums = self.config.columns + 1
        rows = [[value >> width * i & ((1 << width) - 1) for i in range(sums)] for _, value in self._drained]
        return RunResult(
            cycles=cycles,
            elapsed=cycle,
            error=error,
            drained_cycles=np.array([cycle for cycle, _ in self._drained], np.int64),
            drained_words=np.array(rows, np.uint32).reshape(len(rows), sums),
        )

    def _step(self) -> None:
        """One clock edge: ends the current cycle, whose outputs are sampled, and applies the attributes to the next."""
        self._edges += 1
        self._kernel.run_until(self._edges * _PERIOD)

    async def _testbench(self, ctx: Any) -> None:
        dut: Any = self._dut
        mem, two = dut.mem, self.config.mem_ports > 1
        ctx.set(mem.rdata, self._random.getrandbits(self.config.mem_width))
        coming: deque[int | None] = deque([None] * self.config.memory_lag)
        while True:
            ctx.set(dut.start, self._start is not None)
            ctx.set(dut.entry, self._start or 0)
            ctx.set(dut.abort, self._abort)
            ctx.set(self._domain.rst, self._reset)
            self._start = None
            self._abort = False
            self._reset = False
            _, _, busy, error, cycles, valid, data, en, we, addr, waddr, wdata = await ctx.tick().sample(
                dut.busy, dut.error, dut.cycles, dut.drain_valid, dut.drain_data,
                mem.en, mem.we, mem.addr, mem.waddr if two else mem.addr, mem.wdata
            )  # fmt: skip
            self._status = (busy, error, cycles)
            if valid and self._trace:
                self._drained.append((self._cycle, data))
            self._cycle += 1
            wrote = we and (two or en)
            if wrote:
                self._write(waddr, we, wdata)
            word = None
            if en:
                # Behind a write, or of the word that is written, a read gives junk.
                word = self._random.getrandbits(self.config.mem_width) if wrote and addr == waddr else self._read(addr)
            coming.append(word)
            if (word := coming.popleft()) is not None:
                ctx.set(mem.rdata, word)

    def _read(self, addr: int) -> int:
        return int.from_bytes(self._memory[addr].astype("<u4").tobytes(), "little")

    def _write(self, addr: int, we: int, wdata: int) -> None:
        granule = self.config.granule
        mask = sum(((1 << granule) - 1) << granule * g for g in range(self.config.granules_per_word) if we >> g & 1)
        value = self._read(addr) & ~mask | wdata & mask
        self._memory[addr] = np.frombuffer(value.to_bytes(self.config.mem_width // 8, "little"), "<u4")
