"""Run accumulator and Horner register on iCE40: one logic cell per bit, a few more in all."""

from collections.abc import Sequence
from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, ShapeLike, Signal, Value

from .accumulator import Accumulator
from .config import Config
from .delay import delay_line
from .primitives.ice40 import CarryChain

__all__ = ["Ice40Accumulator"]

_BITS = 10
"""Bits of a part of the registers, if there is slack enough: static timing sees a path through all of them."""


class Ice40Accumulator(Accumulator):
    """Two-level shift-accumulate of `o + carry` of a popcount; members as of `Accumulator`.

    A cell's LUT can take the popcount instead of the sum when a run starts, but its carry cannot, so on that word the
    `carry` of the popcount has no place to go. It is always added one word later: to the next word of the run, or,
    behind the last one, to the Horner register, whose lowest bit has no other operand (2 * result is even).

    The Horner register is cleared in all cycles with `fresh`. So the first of them must come at least two cycles behind
    the last word of the tile before, which the execute engine's start cycle sees to.

    With slack both registers are cut into parts, for the sake of their carry chains: a part does all some cycles later
    than the one below, and takes the carry of so many cycles ago. Of a signed popcount all but the lowest part take the
    sign. They hold together along the drain chain, far from the popcount perhaps: with slack enough there is a register
    more on the way to them.
    """

    @staticmethod
    def split(config: Config, shape: ShapeLike, slack: int) -> list[int]:
        pop = Signal(shape)
        parts = min(slack + 1, -(-config.acc_width // _BITS))
        if parts == 1 or len(pop) > config.acc_width:
            return [0]
        # The popcount must lie in the lowest part: of a run the others take nothing but a carry and a sign.
        if pop.shape().signed:
            lowest = len(pop) - 1
            return [0, lowest] if slack < 3 else [0, lowest, (lowest + config.acc_width) // 2]
        return list(range(0, config.acc_width, max(len(pop), -(-config.acc_width // parts))))

    @staticmethod
    def lags_of(parts: list[int], slack: int) -> list[int]:
        return [0, 2, 3] if len(parts) == 3 and slack >= 3 else list(range(len(parts)))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # Without its carry a signed popcount, and with it a run, may be -1; the Horner register must see that.
        signed = self.pop.shape().signed
        run = Signal(min(config.acc_width, config.run_width + signed), reset_less=True)
        late = Signal(reset_less=True)
        result = Signal(config.acc_width, reset_less=True)
        m.d.comb += self.result.eq(result)

        def registered(bit: Value, name: str, cycles: int = 1) -> Value:
            return delay_line(m, bit, cycles, name, reset_less=True)[-1]

        def update(cells: Sequence[tuple[Value, Value]], enable: Value, clear: Value) -> None:
            bits, values = Cat(bit for bit, _ in cells), Cat(value for _, value in cells)
            with m.If(enable):
                m.d.sync += bits.eq(values)
                with m.If(clear):
                    m.d.sync += bits.eq(0)

        def pop_or_add(first, bit, pop, carry):
            return (first & pop) | (~first & (bit ^ pop ^ carry))

        def zero_or_add(first, bit, below, carry):
            return ~first & (bit ^ below ^ carry)

        # Enables drive many cells, so they come straight from flip-flops; the PEs of an array share them.
        ahead = self.c_ahead
        word, empty = registered(ahead.first | ahead.valid, "word"), registered(~ahead.valid, "empty")
        enable = registered(ahead.fresh | self.c_run.last, "enable")
        first, fresh = self.c_run.first, self.c_run.fresh

        pop = Signal.like(run, name="pop_extended")
        addend = Signal.like(result, name="run_extended")
        m.d.comb += [pop.eq(self.pop), addend.eq(run.as_signed() if signed else run)]
        # What a part takes from the one below: the carry of the run, that of the result, the bit that doubling moves.
        run_carry, result_carry, below, sign = Const(0), Const(0), late, self.pop[-1]
        for part, (low, high) in enumerate(pairwise([*self.parts, config.acc_width])):
            if part:
                lag = self.lags[part] - self.lags[part - 1]
                below = registered(result[low - 1], f"below{part}", lag)
                run_carry = registered(run_carry, f"run_carry{part}", lag - 1)
                result_carry = registered(result_carry, f"result_carry{part}", lag - 1)
                words = delay_line(m, word, lag, f"word{part}", reset_less=True)
                word, first = words[-1], registered(first, f"first{part}", lag)
                enable, fresh = registered(enable, f"enable{part}", lag), registered(fresh, f"fresh{part}", lag)
                if signed:
                    # What no word has is no sign, either: so the last register on the way is placed near this part.
                    sign = registered(registered(sign, f"sign{part}", lag - 1) & words[-2], f"sign{part}_here")
                    empty = registered(empty, f"empty{part}", lag)
            # Flip-flops of carries have the enable and the clear of their chains, or the tiles would not take them.
            chain = CarryChain(m, platform, f"run{part}")
            cells: list[tuple[Value, Value]] = []
            if not part:
                # Nothing but `late` enters here: a control signal, which drives many cells, would come late.
                cells.append((late, chain.bit(late, late, self.carry, lambda carry, *_: carry)))
            elif signed:
                chain.feed(run_carry)
            for k in range(low, min(high, len(run))):
                if not part or signed:
                    operand, function = sign if part else pop[k], pop_or_add
                else:
                    operand, function = run_carry if k == low else Const(0), zero_or_add
                cells.append((run[k], chain.bit(run[k], operand, first, function)))
            if high < len(run):
                cells.append((run_carry := Signal(name=f"run_top{part}", reset_less=True), chain.top()))
            update(cells, word, empty if signed or not part else Const(0))

            chain = CarryChain(m, platform, f"result{part}")
            if part:
                chain.feed(result_carry)
            cells = [(result[k], chain.bit(result[k - 1] if k > low else below, addend[k])) for k in range(low, high)]
            if high < config.acc_width:
                cells.append((result_carry := Signal(name=f"result_top{part}", reset_less=True), chain.top()))
            update(cells, enable, fresh)
        return m
