"""Max pooling of codes, tile by tile."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.isa import Pool as Mode
from .config import Config
from .delay import delay_line
from .primitives.adders import increment
from .primitives.ram import BlockRam

__all__ = ["Pool"]


class Pool(wiring.Component):
    """Keeps one code per row and column of the tile and takes the maximum over the tiles of a pooling window.

    `ladders` codes per cycle, latency 1 cycle. Mode NONE passes codes; FIRST stores them; NEXT stores the larger one of
    code and stored code; LAST passes and stores the larger one. They stand in a block RAM or, with `Config.few_rams`,
    in a ring of registers per row.

    Members
    -------
    valid, start : In(1)
        Codes are there; they are the first of a tile. Both come one cycle *before* the codes. Between the last codes of
        a tile and the first ones of the next there is a cycle at least.
    mode : In(2), code : In(8 * ladders)
        One cycle after their `valid`.
    o : Out(8 * ladders)
        One cycle after `code`.
    """

    def __init__(self, config: Config):
        self.config = config
        width = 8 * config.ladders
        super().__init__(
            {
                "valid": In(1),
                "start": In(1),
                "mode": In(2),
                "code": In(width),
                "o": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        groups = config.columns // config.ladders
        depth = config.rows * groups
        index, here, previous = (Signal(range(depth), name=n, reset_less=True) for n in ("next", "here", "previous"))
        valid = Signal()
        m.d.comb += here.eq(Mux(self.start, 0, index))
        m.d.sync += [valid.eq(self.valid), previous.eq(here)]
        with m.If(self.valid):
            m.d.sync += index.eq(increment(m, platform, here, name="index"))

        before, best = Signal(8 * config.ladders), Signal(8 * config.ladders)
        o = Signal.like(best, reset_less=True)
        m.d.sync += o.eq(best)
        m.d.comb += self.o.eq(o)
        store = valid & (self.mode != Mode.NONE)
        if config.few_rams:
            rings = [
                [Signal.like(best, name=f"row{r}_{k}", reset_less=True) for k in range(groups)]
                for r in range(config.rows)
            ]
            row = previous >> exact_log2(groups)
            m.d.comb += before.eq(Array(ring[-1] for ring in rings)[row])
            for r, ring in enumerate(rings):
                with m.If(store & (row == r)):
                    m.d.sync += Cat(ring).eq(Cat(best, ring))
        else:
            m.submodules.ram = ram = BlockRam(width=8 * config.ladders, depth=depth)
            write = Cat(store, previous, best)
            if groups > 1:
                # A place is asked for again `groups` + 1 cycles later at the earliest, so `o` may be what goes there.
                late = delay_line(m, Cat(store, previous), 1, "write", reset_less=True)[-1]
                write = Cat(late, o)
            m.d.comb += [
                ram.read_address.eq(here),
                ram.read.eq(self.valid),
                before.eq(ram.read_data),
                Cat(ram.write, ram.write_address, ram.write_data).eq(write),
            ]

        larger = []
        for k in range(config.ladders):
            code, stored = self.code[8 * k : 8 * k + 8], before[8 * k : 8 * k + 8]
            use = (self.mode == Mode.NEXT) | (self.mode == Mode.LAST)
            larger.append(Mux(use & (stored > code), stored, code))
        m.d.comb += best.eq(Cat(larger))
        return m
