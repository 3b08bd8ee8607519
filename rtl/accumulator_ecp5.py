"""Run accumulator and Horner register on ECP5: half a carry cell per bit, enables and clears within."""

from amaranth.hdl import Cat, Const, Module, Signal

from .accumulator import Accumulator
from .primitives.ecp5 import CarryChain

__all__ = ["Ecp5Accumulator"]


class Ecp5Accumulator(Accumulator):
    """Two-level shift-accumulate of `o + carry` of a popcount; members and function as of `Accumulator`.

    The table of a half cell masks both operands: the popcount unless valid, the register's own value when a run or a
    tile starts.
    """

    def elaborate(self, platform):
        m = Module()
        config = self.config
        run = Signal(config.run_width, reset_less=True)
        result = Signal(config.acc_width, reset_less=True)
        zero = Const(0)

        pop = Signal.like(run, name="pop_extended")
        m.d.comb += pop.eq(self.pop)
        chain = CarryChain(m, platform, "run")
        chain.inject(self.carry, self.c_run.valid)
        next_run = Cat(
            chain.bit(pop[k], self.c_run.valid, run[k], self.c_run.first,
                      lambda pop, valid, run, first: (pop & valid) ^ (run & ~first))
            for k in range(len(run))
        )  # fmt: skip
        chain.done()
        m.d.sync += run.eq(next_run)

        # 2 * result is even: the lowest bit is that of the run and carries nothing.
        chain = CarryChain(m, platform, "result")
        chain.inject(zero)
        next_result = Cat(
            run[0],
            *(chain.bit(run[k] if k < len(run) else zero, zero, result[k - 1], self.c_result.fresh,
                        lambda run, zero, double, fresh: run ^ (double & ~fresh))
              for k in range(1, len(result))),
        )  # fmt: skip
        chain.done()
        with m.If(self.c_result.last):
            m.d.sync += result.eq(next_result)
        m.d.comb += self.result.eq(result)
        return m
