"""The memory that holds the lines of ladders, in whole lines or, where block RAMs are scarce, in halves."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .buffer import Buffer
from .config import Config
from .primitives.dsp import held
from .primitives.ram import BlockRam

__all__ = ["LadderMemory"]


class LadderMemory(wiring.Component):
    """Lines of the channels of one ladder, `Config.line_words` words of 32 bits each. A line stands at `read_data` in
    the cycle behind `read`, or `stages` later.

    With `Config.few_rams` the read port is in domain `fast`, and reads the upper half of a line (offset and shift) in
    its first cycle, the lower half (fraction and multiplier) in its second one. The upper half stands in a register for
    a cycle of `sync`, as the ladder computes with it at once; the lower one comes half a cycle of `sync` late and stays
    as long: no logic may be on its way to the registers in which the ladder takes it, and half a cycle is all it has,
    which constraints and reports have to know (`rtl/delivery.py`, `boards/report.py`).

    Members
    -------
    read : In(1), read_address : In, read_data : Out(32 * line_words)
    write : In(line_words), write_address : In, write_data : In(32)
    last : In(1)
        `Phase.last`; only with `few_rams`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.depth = config.ladder_depth // config.ladders
        address = max(1, (self.depth - 1).bit_length())
        super().__init__(
            {
                "read": In(1),
                "read_address": In(address),
                "read_data": Out(32 * config.line_words),
                "write": In(config.line_words),
                "write_address": In(address),
                "write_data": In(32),
            }
            | ({"last": In(1)} if config.few_rams else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = self.config.line_words
        if not self.config.few_rams:
            m.submodules.buffer = buffer = Buffer(
                width=32 * words, depth=self.depth, granule=32, stages=self.config.stages, copies=words
            )
            for name in ("read", "read_address", "write", "write_address", "write_data"):
                m.d.comb += getattr(buffer, name).eq(getattr(self, name))
            m.d.comb += self.read_data.eq(buffer.read_data)
            return m
        m.submodules.ram = ram = BlockRam(width=32, depth=2 * self.depth, read_domain="fast")
        upper = Signal(32, reset_less=True)
        (lower,) = held(m, platform, (ram.read_data, ~self.last), name="lower", domain="fast")
        m.d.comb += [
            ram.read.eq(self.read),
            ram.read_address.eq(Cat(~self.last, self.read_address)),
            ram.write.eq(self.write.any()),
            ram.write_address.eq(Cat(self.write[1], self.write_address)),
            ram.write_data.eq(self.write_data),
            self.read_data.eq(Cat(lower, upper)),
        ]
        with m.If(self.last):
            m.d.fast += upper.eq(ram.read_data)
        return m
