"""A small machine with the ports of the engine, to test simulators and the Verilog export on their own.

It has what these must cope with: an array of equal PEs, a local RAM, registers without reset, names that are keywords
of Verilog, drained rows, masked writes, an error state. Instructions are the low 32 bits of main memory words:

* 1 LEARN a: the local RAM's word a % 8 becomes the low lanes of memory word a;
* 2 COUNT a: PE (r, c) adds popcount(xnor(memory word a, RAM word c)) + r; the sum column adds 1;
* 3 DRAIN: drains row 0, row 1, ..., one per cycle, and clears the PEs;
* 4 WRITE a, mask in bits 27..16: writes granules of word a with the instruction word repeated;
* 5 BREAK: an assertion fails;
* 15 HALT. Everything else stops with error 1, `abort` with error 2.
"""

import operator
from functools import reduce

import numpy as np
from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from dipole.rtl.config import Config
from dipole.rtl.memory import MemorySignature

__all__ = ["Demonstrator", "predict"]


class Cell(wiring.Component):
    """One PE: acc += popcount(xnor(a, w)) + extra when `add`, 0 when `clear`. `a` is registered without reset."""

    def __init__(self, lanes: int, width: int) -> None:
        super().__init__(
            {"a": In(lanes), "w": In(lanes), "extra": In(5), "add": In(1), "clear": In(1), "acc": Out(width)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        equal = Signal(self.a.shape(), reset_less=True)
        add = Signal()
        m.d.sync += [equal.eq(~(self.a ^ self.w)), add.eq(self.add)]
        count = Signal(range(len(self.a) + 1))
        m.d.comb += count.eq(reduce(operator.add, equal))
        with m.If(self.clear):
            m.d.sync += self.acc.eq(0)
        with m.Elif(add):
            m.d.sync += self.acc.eq(self.acc + count + self.extra)
        return m


class Demonstrator(wiring.Component):
    """See the module docstring. `busy` from the cycle after `start`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "entry": In(20),
                "abort": In(1),
                "busy": Out(1),
                "error": Out(4),
                "cycles": Out(32),
                "mem": Out(MemorySignature(config)),
                "drain_valid": Out(1),
                "drain_data": Out((config.columns + 1) * config.acc_width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.ram = ram = memory.Memory(shape=config.lanes, depth=8, init=[])
        write, read = ram.write_port(), ram.read_port()
        begin = Signal(20)
        broken = Signal()
        if platform is None:
            m.d.sync += Assert(~broken, "instruction 5")
        reg = Signal(32, reset_less=True)
        word = Signal(32)
        step = Signal(range(config.columns + 2))
        drain = Signal(range(config.rows + 1))
        add, clear = Signal(), Signal()
        m.d.comb += word.eq(self.mem.rdata)

        cells = []
        for r in range(config.rows):
            row = []
            for c in range(config.columns + 1):
                m.submodules[f"cell_{r}_{c}"] = cell = Cell(config.lanes, config.acc_width)
                last = c == config.columns
                enable = Signal(name=f"enable_{r}_{c}")
                m.d.comb += [
                    enable.eq(add if last else add & (step == c + 1)),
                    cell.a.eq(self.mem.rdata),
                    cell.w.eq(~self.mem.rdata if last else read.data),
                    cell.extra.eq(1 if last else r),
                    cell.add.eq(add & (step == 1) if last else enable),
                    cell.clear.eq(clear),
                ]
                row.append(cell.acc)
            cells.append(row)
        for r in range(config.rows):
            with m.If(drain == r):
                m.d.comb += self.drain_data.eq(Cat(cells[r]))

        with m.If(self.busy):
            m.d.sync += self.cycles.eq(self.cycles + 1)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [self.busy.eq(1), self.error.eq(0), self.cycles.eq(0), begin.eq(self.entry)]
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [self.mem.en.eq(1), self.mem.addr.eq(begin)]
                m.d.sync += begin.eq(begin + 1)
                m.next = "DECODE"
            with m.State("DECODE"):
                m.d.sync += [reg.eq(word), step.eq(0), drain.eq(0)]
                with m.Switch(word[28:32]):
                    with m.Case(1, 2):
                        m.d.comb += [self.mem.en.eq(1), self.mem.addr.eq(word)]
                        m.next = "DATA"
                    with m.Case(3):
                        m.next = "DRAIN"
                    with m.Case(4):
                        m.next = "WRITE"
                    with m.Case(5):
                        m.d.comb += broken.eq(1)
                        m.next = "FETCH"
                    with m.Case(15):
                        m.d.sync += self.busy.eq(0)
                        m.next = "IDLE"
                    with m.Default():
                        m.d.sync += [self.busy.eq(0), self.error.eq(1)]
                        m.next = "IDLE"
            with m.State("DATA"):
                m.d.comb += [read.addr.eq(step), read.en.eq(1), write.addr.eq(reg), write.data.eq(self.mem.rdata)]
                m.d.sync += step.eq(step + 1)
                with m.If(reg[28:32] == 1):
                    m.d.comb += write.en.eq(1)
                    m.next = "FETCH"
                with m.Else():
                    m.d.comb += add.eq(step != 0)
                    with m.If(step == config.columns):
                        m.next = "LAST"
            with m.State("LAST"):
                m.next = "FETCH"
            with m.State("DRAIN"):
                m.d.comb += self.drain_valid.eq(drain != config.rows)
                m.d.sync += drain.eq(drain + 1)
                with m.If(drain == config.rows):
                    m.d.comb += clear.eq(1)
                    m.next = "FETCH"
            with m.State("WRITE"):
                m.d.comb += [
                    self.mem.en.eq(1),
                    self.mem.addr.eq(reg),
                    self.mem.we.eq(reg[16:28]),
                    self.mem.wdata.eq(reg.replicate(config.mem_width // 32)),
                ]
                m.next = "FETCH"
        # A drain before anything was counted must see zeros: the PEs are cleared when a run starts.
        with m.If(self.start & ~self.busy):
            m.d.comb += clear.eq(1)
        with m.If(self.abort & self.busy):
            m.d.sync += [self.busy.eq(0), self.error.eq(2), begin.eq(0)]
        return m


def predict(
    config: Config, memory_words: np.ndarray, entry: int
) -> tuple[np.ndarray, int, list[tuple[int, tuple[int, ...]]], int]:
    """What a run does: memory afterwards, error, drained rows with their cycles, cycles."""
    memory_after = memory_words.copy()
    lanes = (1 << config.lanes) - 1
    ram = [0] * 8
    cells = np.zeros((config.rows, config.columns + 1), np.int64)
    drained = []
    cycle = 1
    while True:
        word = int(memory_after[entry][0])
        entry += 1
        cycle += 2
        address = word % config.mem_depth
        data = int.from_bytes(memory_after[address].tobytes(), "little")
        match word >> 28:
            case 1:
                ram[address % 8] = data & lanes
                cycle += 1
            case 2:
                for c in range(config.columns):
                    cells[:, c] += (~(data ^ ram[c]) & lanes).bit_count() + np.arange(config.rows)
                cells[:, -1] += 1
                cycle += config.columns + 2
            case 3:
                drained += [(cycle + r, tuple(int(v) for v in cells[r])) for r in range(config.rows)]
                cells[:] = 0
                cycle += config.rows + 1
            case 4:
                value = int.from_bytes(np.full(config.mem_width // 32, word, "<u4").tobytes(), "little")
                mask = 0
                for g in range(min(12, config.granules_per_word)):
                    if word >> 16 + g & 1:
                        mask |= ((1 << config.granule) - 1) << g * config.granule
                mixed = data & ~mask | value & mask
                memory_after[address] = np.frombuffer(mixed.to_bytes(config.mem_width // 8, "little"), "<u4")
                cycle += 1
            case 15:
                return memory_after, 0, drained, cycle
            case _:
                return memory_after, 1, drained, cycle
