"""iCE40 logic cells: LUT4 and carry chain, instantiated one to one on the device, as equations everywhere else.

A logic cell (FPGA-DS-02008) is a LUT of I0..I3, a carry majority(I1, I2, CI) and a flip-flop behind the LUT; in a
chain I3 is the carry in. So the LUT of an adder bit has one input left, and what it computes does not touch the carry.
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Const, Instance, Module, Signal, Value

from .family import family_of

__all__ = ["CarryChain", "lut4"]

_SHARED = 6
"""Cells of a chain from which on it is not shared."""

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

    Separated adders share a chain: `inject` makes its argument the carry in of the cell above and returns the carry
    that comes from the cell below. Static timing sees a path through the whole chain, so keep chains short. In a UP5K
    that is nearly full, the router takes ways of 20 ns to a separator, whose cell wants one signal at two
    inputs; so chains of `_SHARED` cells or more are not shared, and the bottom of a chain gets it at one.
    """

    def __init__(self, m: Module, platform: object, name: str):
        self._m = m
        self._platform = platform
        self._name = name
        self._carry: Value = Const(0)
        self._above = 0
        self.cells = 0

    def bit(self, i1: Value, i2: Value, i0: Value | None = None, function: Function | None = None) -> Signal:
        """An adder bit: carry out majority(i1, i2, carry in); returns function(i0, i1, i2, carry in), by
        default the sum.
        """
        function = function or (lambda i0, i1, i2, ci: i1 ^ i2 ^ ci)
        name = f"{self._name}_{self.cells}"
        ends, table = (i2, self._carry), function
        if i1 is i2 and not self._above:
            # At the bottom of a chain majority(i1, 0, 1) is i1, too.
            ends = (Const(0), Const(1))

            def table(i0, i1, i2, ci):
                return function(i0, i1, i1, ci)

        self.cells, self._above = self.cells + 1, self._above + 1
        o = lut4(self._m, self._platform, table, Const(0) if i0 is None else i0, i1, ends[0], self._carry, name=name)
        carry = Signal(name=f"{name}_carry")
        if family_of(self._platform) == "ice40":
            self._m.submodules += Instance("SB_CARRY", i_I0=i1, i_I1=ends[0], i_CI=ends[1], o_CO=carry)
        else:
            self._m.d.comb += carry.eq((i1 & i2) | (self._carry & (i1 | i2)))
        self._carry = carry
        return o

    def add(self, x: Value, y: Value) -> Signal:
        """An adder bit of x and y; returns the sum."""
        return self.bit(x, y)

    def inject(self, carry: Value) -> Signal:
        """A separator: the carry from below comes out, `carry` goes on upwards."""
        if self._above < _SHARED:
            return self.bit(carry, carry)
        # A chain of its own begins here, for one cell more.
        below = self.top()
        self._carry, self._above = Const(0), 0
        self.bit(carry, carry)
        return below

    def top(self) -> Signal:
        """The carry out of the chain, in a cell of its own."""
        name = f"{self._name}_{self.cells}"
        self.cells += 1
        zero = Const(0)
        return lut4(self._m, self._platform, lambda i0, i1, i2, ci: ci, zero, zero, zero, self._carry, name=name)

    def done(self) -> None:
        """Nothing; every cell is complete when it is taken."""
