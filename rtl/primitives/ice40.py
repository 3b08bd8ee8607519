"""iCE40 logic cells: LUT4 and carry chain, instantiated one to one on the device, as equations everywhere else.

A logic cell (FPGA-DS-02008) is a LUT of I0..I3, a carry majority(I1, I2, CI) and a flip-flop behind the LUT; in a
chain I3 is the carry in. So the LUT of an adder bit has one input left, and what it computes does not touch the carry.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import and_
from typing import Any

from amaranth.hdl import Const, Instance, Module, Signal, Value

from .family import family_of

__all__ = ["CarryChain", "lut4"]

Function = Callable[..., Any]
"""A function of up to four bits by &, |, ^ and ~; it gets numbers to make the truth table, or signals."""


def _truth_table(function: Function, inputs: int) -> int:
    rows = range(1 << inputs)
    table = sum((function(*(row >> k & 1 for k in range(inputs))) & 1) << row for row in rows)
    return sum(table << (k << inputs) for k in range(16 >> inputs))  # inputs not used do not matter


def lut4(m: Module, platform: object, function: Function, *inputs: Value, name: str) -> Signal:
    """One LUT: `function` of up to four one-bit inputs, I0 first."""
    o = Signal(name=name)
    if family_of(platform) == "ice40":
        ports = {f"i_I{k}": inputs[k] if k < len(inputs) else Const(0) for k in range(4)}
        m.submodules += Instance("SB_LUT4", p_LUT_INIT=Const(_truth_table(function, len(inputs)), 16), **ports, o_O=o)
    else:
        m.d.comb += o.eq(function(*inputs))
    return o


class CarryChain:
    """One carry chain, from the bottom up; every method takes the next cell, and the carry in of the first is 0.

    Static timing sees a path through the whole chain, so keep chains short, and give each adder its own: a cell that
    separates two wants one signal at both operands, and nextpnr's routers take ways of 20 ns to it on a UP5K that is
    nearly full, or do not come to an end. At the bottom one operand is enough.
    """

    def __init__(self, m: Module, platform: object, name: str):
        self._m = m
        self._platform = platform
        self._name = name
        self._carry: Value = Const(0)
        self.cells = 0

    def bit(self, i1: Value, i2: Value, i0: Value | None = None, function: Function | None = None) -> Signal:
        """An adder bit: carry out majority(i1, i2, carry in); returns function(i0, i1, i2, carry in), by
        default the sum.
        """
        function = function or (lambda i0, i1, i2, ci: i1 ^ i2 ^ ci)
        name = f"{self._name}_{self.cells}"
        ends, table = (i2, self._carry), function
        if i1 is i2 and not self.cells:
            # Majority(i1, 0, 1) is i1, too.
            ends = (Const(0), Const(1))

            def table(i0, i1, i2, ci):
                return function(i0, i1, i1, ci)

        self.cells += 1
        o = lut4(self._m, self._platform, table, Const(0) if i0 is None else i0, i1, ends[0], self._carry, name=name)
        carry = Signal(name=f"{name}_carry")
        if family_of(self._platform) == "ice40":
            self._m.submodules += Instance("SB_CARRY", i_I0=i1, i_I1=ends[0], i_CI=ends[1], o_CO=carry)
        else:
            self._m.d.comb += carry.eq((i1 & i2) | (self._carry & (i1 | i2)))
        self._carry = carry
        return o

    def start(self, x: Value) -> Signal:
        """At the bottom of the chain: the lowest bit of x + 1, with its carry; returns the sum.

        A carry with two constants is `x`, and so Yosys would leave the cell out, and nextpnr make one that takes `x`
        into the chain, if it were not kept.
        """
        if family_of(self._platform) != "ice40":
            return self.bit(x, Const(1))
        name = f"{self._name}_0"
        self.cells += 1
        o, carry = Signal(name=name), Signal(name=f"{name}_carry")
        one, zero = Const(1), Const(0)
        table = Const(_truth_table(lambda i0, i1, i2, ci: ~i1, 4), 16)
        self._m.submodules += [
            Instance("SB_LUT4", a_keep=1, p_LUT_INIT=table, i_I0=zero, i_I1=x, i_I2=one, i_I3=zero, o_O=o),
            Instance("SB_CARRY", a_keep=1, i_I0=x, i_I1=one, i_CI=zero, o_CO=carry),
        ]
        self._carry = carry
        return o

    def add(self, x: Value, y: Value) -> Signal:
        """An adder bit of x and y; returns the sum."""
        return self.bit(x, y)

    def feed(self, carry: Value) -> None:
        """At the bottom of the chain: `carry` is the carry in. nextpnr makes a cell for it."""
        self.cells += 1
        self._carry = carry

    def top(self, turn: Sequence[Value] = ()) -> Signal:
        """The carry out of the chain, in a cell of its own; turned round where all of `turn`, of which there are some,
        are 1. More than three take a LUT more.
        """
        name = f"{self._name}_{self.cells}"
        self.cells += 1
        if len(turn) > 3:
            four = lut4(self._m, self._platform, lambda a, b, c, d: a & b & c & d, *turn[:4], name=f"{name}_turn")
            turn = [four, *turn[4:]]
        # Each of them at one input only: nextpnr's router swaps several of one net without end.
        inputs = [*turn, *[Const(0)] * (3 - len(turn))]
        return lut4(
            self._m, self._platform, lambda *i: i[3] ^ reduce(and_, i[: len(turn)]) if turn else i[3], *inputs,
            self._carry, name=name,
        )  # fmt: skip

    def done(self) -> None:
        """Nothing; every cell is complete when it is taken."""
