"""Run accumulator and Horner register on ECP5: half a carry cell per bit, enables and clears within."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, ShapeLike, Signal, Value

from .accumulator import Accumulator
from .config import Config
from .primitives.ecp5 import CarryChain

__all__ = ["Ecp5Accumulator"]


class Ecp5Accumulator(Accumulator):
    """Two-level shift-accumulate of `o + carry` of a popcount; members and function as of `Accumulator`.

    The table of a half cell masks both operands: the popcount unless valid, the register's own value when a run or a
    tile starts.

    With slack, long registers are cut into halves, as chains of two tiles find a place beside others where those of
    four do not: the upper half does all a cycle later and takes the carry of a cycle ago.
    """

    @staticmethod
    def split(config: Config, shape: ShapeLike, slack: int) -> list[int]:
        half = config.acc_width // 2
        # The popcount must lie in the lower half.
        return [0, half] if slack and config.long_accumulator and len(Signal(shape)) <= half else [0]

    def elaborate(self, platform):
        m = Module()
        config = self.config
        run = Signal(config.run_width, reset_less=True)
        result = Signal(config.acc_width, reset_less=True)
        m.d.comb += self.result.eq(result)
        zero = Const(0)

        def registered(bit: Value, name: str) -> Signal:
            copy = Signal(name=name, reset_less=True)
            m.d.sync += copy.eq(bit)
            return copy

        pop, addend = Signal.like(run, name="pop_extended"), Signal.like(result, name="run_extended")
        m.d.comb += [pop.eq(self.pop), addend.eq(run)]
        valid, first = self.c_run.valid, self.c_run.first
        fresh, last = self.c_result.fresh, self.c_result.last
        # What a part takes from the one below: the carry of the run, that of the result, the bit that doubling moves.
        run_carry, result_carry, below = self.carry, zero, zero
        for part, (low, high) in enumerate(pairwise([*self.parts, config.acc_width])):
            if part:
                below = registered(result[low - 1], f"below{part}")
                first, fresh = registered(first, f"first{part}"), registered(fresh, f"fresh{part}")
                valid, last = Const(1), registered(last, f"last{part}")
            if low < len(run):
                chain = CarryChain(m, platform, f"run{part}")
                chain.inject(run_carry, valid)
                bits = range(low, min(high, len(run)))
                m.d.sync += Cat(run[k] for k in bits).eq(Cat(
                    chain.bit(zero if part else pop[k], valid, run[k], first,
                              lambda pop, valid, run, first: (pop & valid) ^ (run & ~first))
                    for k in bits
                ))  # fmt: skip
                if high < len(run):
                    run_carry = registered(chain.top(), f"run_carry{part}")
                chain.done()

            chain = CarryChain(m, platform, f"result{part}")
            chain.inject(result_carry)
            # 2 * result is even: the lowest bit is that of the run and carries nothing.
            lowest = [] if part else [addend[0]]
            total = Cat(*lowest, *(
                chain.bit(addend[k], zero, result[k - 1] if k > low else below, fresh,
                          lambda run, zero, double, fresh: run ^ (double & ~fresh))
                for k in range(low + len(lowest), high)
            ))  # fmt: skip
            with m.If(last):
                m.d.sync += result[low:high].eq(total)
            if high < config.acc_width:
                result_carry = registered(chain.top(), f"result_carry{part}")
            chain.done()
        return m
