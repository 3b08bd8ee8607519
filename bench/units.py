"""Dot product units that `dipole bench pe` compares, and the frame of registers in which they are placed and routed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..rtl.config import Config
from ..rtl.control import Control
from ..rtl.pe import accumulator_of, popcount_of
from ..rtl.recode import chunk_width, recode_chunk

__all__ = ["COLUMNS_OF_A_ROW", "Frame", "Recoding", "Unit", "bismo", "dipole_unit", "plain"]

ACC_WIDTH = 24
"""Bits of the accumulator, in every unit."""
COLUMNS_OF_A_ROW = 8
"""PEs that share what stands in front of the row buffers: a row of them, in arrays of one row."""


@dataclass(frozen=True)
class Unit:
    """A dot product unit: what it takes and gives per cycle, and how it is made."""

    name: str
    lanes: int
    planes: int
    build: Callable[[Module, Any], tuple[list[Value], Value]]
    """Adds the unit to a module (second argument: family of the fabric); returns its inputs and its result."""
    config: Config | None = None
    """Of our units."""

    @property
    def operations(self) -> int:
        """Operations per cycle: a product of two bits and its addition are two."""
        return 2 * self.lanes * self.planes


def dipole_unit(lanes: int, planes: int) -> Unit:
    """Our PE without its drain register: popcount, run accumulator, Horner register."""
    config = Config(
        name="bench", rows=1, columns=4, lanes=lanes, planes=planes, chunk=8 if planes > 1 else min(lanes, 16),
        mem_width=128, mem_depth=256, acc_width=ACC_WIDTH,
    )  # fmt: skip

    def build(m: Module, family: str) -> tuple[list[Value], Value]:
        m.submodules.popcount = popcount = popcount_of(config, family)
        m.submodules.accumulator = accumulator = accumulator_of(config, family, popcount.o.shape())
        m.d.comb += [accumulator.pop.eq(popcount.o), accumulator.carry.eq(popcount.carry)]
        control = [Signal(Control, name=f"control{stage}") for stage in range(3)]
        m.d.comb += [
            port.eq(word)
            for port, word in zip((accumulator.c_ahead, accumulator.c_run, accumulator.c_result), control, strict=True)
        ]
        return [popcount.a, popcount.w, Cat(map(Value.cast, control))], accumulator.result

    return Unit(f"Dipole, W = {planes}", lanes, planes, build, config)


class Recoding(wiring.Component):
    """What stands once in front of the row buffers of PEs that take sums of pairs of lanes: those of a chunk."""

    def __init__(self, config: Config, family: str):
        self.config = config
        self.family = family
        super().__init__({"a": In(config.planes * config.chunk), "o": Out(chunk_width(config, family))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(recode_chunk(m, platform, self.a, self.config, self.family))
        return m


def plain(lanes: int) -> Unit:
    """What one writes first: a sum of all products in one expression, a register, a shift-accumulator."""

    def build(m: Module, family: str) -> tuple[list[Value], Value]:
        a, w, first, shift, valid = Signal(lanes), Signal(lanes), Signal(), Signal(), Signal()
        match, count = Signal(lanes), Signal(range(lanes + 1), reset_less=True)
        total = Signal(ACC_WIDTH, reset_less=True)
        m.d.comb += match.eq(~(a ^ w))
        m.d.sync += count.eq(sum(match[1:], match[0]))
        with m.If(valid):
            m.d.sync += total.eq(Mux(first, 0, Mux(shift, total << 1, total)) + count)
        return [a, w, Cat(first, shift, valid)], total

    return Unit("sum(~(a ^ w))", lanes, 1, build)


def bismo(lanes: int) -> Unit:
    """Our re-creation of the dot product unit of BISMO v2 from its publication (Umuroglu et al., arXiv 1901.00370).

    AND of two bit vectors, popcount by a compressor tree, negation for the sign planes of two's complement, and an
    accumulator that shifts left between bit positions. The publication's compressors are made for 6-input LUTs; here
    they are full adders with a register behind every second level and an adder at the end, so figures on 6-input LUTs
    do not carry over.
    """

    def build(m: Module, family: str) -> tuple[list[Value], Value]:
        a, w, negate, shift, clear, valid = Signal(lanes), Signal(lanes), Signal(), Signal(), Signal(), Signal()

        def registered(bit: Value) -> Signal:
            copy = Signal(reset_less=True)
            m.d.sync += copy.eq(bit)
            return copy

        product = Signal(lanes)
        m.d.comb += product.eq(a & w)
        columns: list[list[Value]] = [[product[k] for k in range(lanes)]]
        level = 0
        while max(map(len, columns)) > 2:
            compressed: list[list[Value]] = [[] for _ in range(len(columns) + 1)]
            for weight, bits in enumerate(columns):
                while len(bits) >= 3:
                    x, y, z = bits[:3]
                    total = Signal(2)
                    m.d.comb += total.eq(Cat(x ^ y ^ z, (x & y) | (z & (x ^ y))))
                    compressed[weight].append(total[0])
                    compressed[weight + 1].append(total[1])
                    bits = bits[3:]
                compressed[weight] += bits
            columns = [bits for bits in compressed if bits]
            level += 1
            if level % 2 == 0:
                columns = [[registered(bit) for bit in bits] for bits in columns]
        x, y = (Cat(bits[k] if k < len(bits) else 0 for bits in columns) for k in range(2))
        count = Signal(range(lanes + 1), reset_less=True)
        m.d.sync += count.eq(x + y)
        addend, total = Signal(ACC_WIDTH, reset_less=True), Signal(ACC_WIDTH, reset_less=True)
        m.d.sync += addend.eq(Mux(negate, -count, count))
        with m.If(clear):
            m.d.sync += total.eq(0)
        with m.Elif(valid):
            m.d.sync += total.eq(Mux(shift, total << 1, total) + addend)
        return [a, w, Cat(negate, shift, clear, valid)], total

    return Unit("BISMO v2 (our re-creation)", lanes, 1, build)


class Frame(Elaboratable):
    """A unit between registers: one shift register feeds all inputs from a pin, another takes the result to a pin.

    `flip_flops` and `muxes` are what the frame itself takes: a flip-flop per input, and per bit of the result a
    flip-flop behind a multiplexer.
    """

    def __init__(self, unit: Unit, family: str):
        self.unit = unit
        self.family = family
        self.i = Signal()
        self.o = Signal()
        self.flip_flops = 0
        self.muxes = 0

    def elaborate(self, platform):
        m = Module()
        inputs, result = self.unit.build(m, self.family)
        feed = Cat(inputs)
        shift = Signal(len(feed), reset_less=True)
        m.d.sync += shift.eq(Cat(self.i, shift))
        offset = 0
        for value in inputs:
            m.d.comb += value.eq(shift[offset : offset + len(value)])
            offset += len(value)
        taken = Signal(len(result), reset_less=True)
        m.d.sync += taken.eq(Mux(self.i, result, taken >> 1))
        m.d.comb += self.o.eq(taken[0])
        self.flip_flops, self.muxes = len(feed), len(result)
        return m
