"""Run accumulator and Horner register on iCE40: one logic cell per bit, one more in all."""

from amaranth.hdl import Cat, Module, Signal

from .accumulator import Accumulator
from .primitives.ice40 import CarryChain, lut4

__all__ = ["Ice40Accumulator"]


class Ice40Accumulator(Accumulator):
    """Two-level shift-accumulate of `o + carry` of a popcount; members as of `Accumulator`.

    A cell's LUT can take the popcount instead of the sum when a run starts, but its carry cannot, so on that word the
    `carry` of the popcount has no place to go. It is always added one word later: to the next word of the run, or,
    behind the last one, to the Horner register, whose lowest bit has no other operand (2 * result is even).

    The Horner register is cleared while the first run of a tile is summed. So that run must start at least two cycles
    behind the last word of the tile before, which the execute engine's start cycle sees to.
    """

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # Without its carry a signed popcount, and with it a run, may be -1; the Horner register must see that.
        signed = self.pop.shape().signed
        run = Signal(min(config.acc_width, config.run_width + signed), reset_less=True)
        late = Signal(reset_less=True)
        result = Signal(config.acc_width, reset_less=True)
        m.d.comb += self.result.eq(result)
        word = Signal()
        m.d.comb += word.eq(self.c_run.first | self.c_run.valid)

        pop = Signal.like(run, name="pop_extended")
        m.d.comb += pop.eq(self.pop)
        chain = CarryChain(m, platform, "run")
        # Nothing but `late` enters the chain here: a control signal, which drives many cells, would come late.
        next_late = chain.bit(late, late, self.carry, lambda i0, i1, i2, ci: i0)
        next_run = Cat(
            chain.bit(bit, pop[k], self.c_run.first,
                      lambda i0, i1, i2, ci: (i0 & i2) | (~i0 & (i1 ^ i2 ^ ci)))
            for k, bit in enumerate(run)
        )  # fmt: skip
        with m.If(word):
            m.d.sync += [run.eq(next_run), late.eq(next_late)]
            with m.If(~self.c_run.valid):
                m.d.sync += [run.eq(0), late.eq(0)]

        addend = Signal.like(result, name="run_extended")
        m.d.comb += addend.eq(run.as_signed() if signed else run)
        chain = CarryChain(m, platform, "result")
        next_result = Cat(chain.bit(result[k - 1] if k else late, addend[k]) for k in range(len(result)))
        clear = Signal()
        m.d.comb += clear.eq(word & self.c_run.fresh)
        # One LUT by itself: the enable of many cells must not come through several.
        enable = lut4(
            m, platform, lambda first, valid, fresh, last: ((first | valid) & fresh) | last,
            self.c_run.first, self.c_run.valid, self.c_run.fresh, self.c_result.last, name="enable",
        )  # fmt: skip
        with m.If(enable):
            m.d.sync += result.eq(next_result)
            with m.If(clear):
                m.d.sync += result.eq(0)
        return m
