"""Which chunk of a main memory word, or which constant, stands where in the data that the loader writes."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import Config
from .delay import delay_line

__all__ = ["Aligner"]


class Aligner(wiring.Component):
    """Latency from the step that reads to the data: 2 + memory_lag cycles, one of them behind main memory.

    Members
    -------
    rdata : In(mem_width)
        Comes 1 + memory_lag cycles after its step reads.
    act, weight, need : In(1); place, unit_mask : In
        The step that reads: its kind (else ladders), whether it wants a word, chunk address, and, with one plane per
        cycle, chunks per unit - 1.
    constant, pad : In(planes)
        Planes whose chunk does not come from main memory (counts with several planes), and the bit that fills it.
    wdata : Out
        `lanes` bits, for ladders 32; with one plane per cycle those of row buffers, too.
    row_data : Out(planes * chunk)
        With several planes per cycle: a chunk for each plane.
    """

    def __init__(self, config: Config):
        self.config = config
        several = {"row_data": Out(config.planes * config.chunk)} if config.planes > 1 else {}
        super().__init__(
            several
            | {
                "rdata": In(config.mem_width),
                "act": In(1),
                "weight": In(1),
                "need": In(1),
                "place": In(max(1, exact_log2(config.chunks_per_word))),
                "unit_mask": In(max(1, exact_log2(config.chunks_per_lanes))),
                "constant": In(config.planes),
                "pad": In(config.planes),
                "wdata": Out(max(config.lanes, 32)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        planes, per_lanes = config.planes, config.chunks_per_lanes
        per_ladder = 32 // config.chunk
        parts = max(per_lanes, per_ladder)
        width = len(self.place)
        # (A word of one chunk: as if there were two.)
        chunks = [self.rdata.word_select(k % config.chunks_per_word, config.chunk) for k in range(1 << width)]

        def late(value, name: str):
            """`value`, which goes with the step that reads, in the cycle in which the word comes."""
            return delay_line(m, value, 1 + config.memory_lag, name, reset_less=True)[-1]

        whole = Mux(self.weight, per_lanes - 1, per_ladder - 1)  # chunks of a lane word, of 32 bits - 1
        mask = Signal(width)
        m.d.comb += mask.eq(Mux(self.act, self.unit_mask[: exact_log2(per_lanes)], whole) if planes == 1 else whole)
        # Lane words, ladder words and the planes of a chunk may all fill memory words; then no chunk changes its place.
        straight = planes > 1 and {config.chunks_per_word} == {parts, per_lanes, per_ladder, planes}
        if planes > 1:
            constant, pad = late(self.constant, "constant_late"), late(self.pad, "pad_late")
        if straight:
            found = [Mux(constant[p], pad[p].replicate(config.chunk), chunks[p]) for p in range(parts)]
        else:
            # Place p gets chunk (p & mask) | (place & ~mask): a choice of two for each bit of these numbers.
            found = chunks
            for bit in reversed(range(width)):
                odd = [self.place[bit] & ~mask[bit], self.place[bit] | mask[bit]]
                if planes == 1 and bit == 0:  # where no memory word is needed, the choice is the constant
                    odd = [Mux(self.need, o, self.pad) for o in odd]
                odd = [late(o, f"odd{bit}_{k}") for k, o in enumerate(odd)]
                found = [
                    Mux(odd[p >> bit & 1], found[p | 1 << bit], found[p & ~(1 << bit)])
                    for p in range(max(parts, 1 << bit))
                ]
            if planes == 1:
                filled_in = late(~self.need, "filled_in")
                found = [Mux(filled_in, odd[p & 1].replicate(config.chunk), chunk) for p, chunk in enumerate(found)]
        m.d.sync += self.wdata.eq(Cat(found))
        if straight:
            m.d.comb += self.row_data.eq(self.wdata)
        elif planes > 1:
            shift = exact_log2(planes)
            group = late(self.place[shift:], "group")
            for v in range(planes):
                chunk = Mux(constant[v], pad[v].replicate(config.chunk), Array(chunks)[Cat(Const(v, shift), group)])
                m.d.sync += self.row_data.word_select(v, config.chunk).eq(chunk)
        return m
