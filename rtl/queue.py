"""A small first-in first-out queue of registers."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """`depth` payloads in registers, oldest in slot 0; no block RAM, no combinational path from input to output.

    Latency one cycle; one payload per cycle. `i.ready` is low while all slots are taken, also in a cycle that frees
    one.

    Members
    -------
    i : In(stream), o : Out(stream)
    """

    def __init__(self, shape, depth: int):
        self.shape = shape
        self.depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        level = Signal(range(self.depth + 1))
        slots = [Signal(self.shape, name=f"slot{k}", reset_less=True) for k in range(self.depth)]
        push, pop = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(level != self.depth),
            self.o.valid.eq(level != 0),
            self.o.payload.eq(slots[0]),
            push.eq(self.i.valid & self.i.ready),
            pop.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += level.eq(level + push - pop)
        # A free slot takes whatever is at the input, pushed or not: so no path leads from `i.valid` to the slots. The
        # last one need not do so in the cycle in which it becomes free, and has none from `o.ready` either.
        for k, slot in enumerate(slots[:-1]):
            with m.If(pop | (level <= k)):
                m.d.sync += slot.eq(Mux(level > k + 1, slots[k + 1], self.i.payload))
        with m.If(self.i.ready):
            m.d.sync += slots[-1].eq(self.i.payload)
        return m
