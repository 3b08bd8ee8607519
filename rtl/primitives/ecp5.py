"""ECP5 carry cells: halves of CCU2C, instantiated one to one on the device, as equations everywhere else.

Half of a CCU2C (FPGA-TN-02200, and Yosys' model of the cell) has a LUT4 of A..D, which is the propagate signal, and the
LUT2 of A and B in the lowest quarter of its table, which is the carry out where the LUT4 is 0:
s = lut4 ^ carry in; carry out = carry in if lut4 else lut2. So an adder bit takes operands that are functions of
inputs.
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Const, Instance, Module, Signal, Value

from .family import family_of

__all__ = ["CarryChain"]

Function = Callable[..., Any]

_ZERO = Const(0)
_ONE = Const(1)


class CarryChain:
    """One carry chain, from the bottom up; every method takes the next half cell, and the first must be `inject`.

    A carry in from outside the chain, even a constant, would cost a cell of its own. `done` closes the chain and must
    be called once. Separated adders share a chain, see `primitives.ice40.CarryChain`.
    """

    def __init__(self, m: Module, platform: object, name: str):
        self._m = m
        self._platform = platform
        self._name = name
        self._halves: list[tuple[int, tuple[Value, ...], Any, Any, Signal]] = []

    def _half(self, propagate: Function, generate: Function, *inputs: Value) -> Signal:
        """The next half: `propagate` of the inputs A..D where one of C and D is 1 or the lowest quarter agrees."""
        rows = [[row >> k & 1 for k in range(4)] for row in range(16)]
        bits = [(generate(*row[:2]) if index < 4 else propagate(*row)) & 1 for index, row in enumerate(rows)]
        s = Signal(name=f"{self._name}_{len(self._halves)}")
        table = sum(bit << index for index, bit in enumerate(bits))
        self._halves.append((table, inputs, propagate(*inputs), generate(*inputs[:2]), s))
        return s

    def bit(self, a: Value, b: Value, c: Value, d: Value, function: Function) -> Signal:
        """An adder bit of two operands; returns the sum.

        `function`(a, b, c, d) is their exclusive or, and with c = d = 0 the first operand must be function(a, b, 0, 0)
        and the other one 0: where they are equal, the carry is the first one.
        """
        return self._half(function, lambda a, b: function(a, b, 0, 0), a, b, c, d)

    def add(self, x: Value, y: Value, *, inverted: bool = False) -> Signal:
        """An adder bit of x and y, or of their complements."""
        generate = (lambda a, b: ~a) if inverted else (lambda a, b: a)
        return self._half(lambda a, b, c, d: a ^ c, generate, x, _ZERO, y, _ONE)

    def inject(self, a: Value, b: Value = _ONE, function: Function = lambda a, b: a & b) -> Signal:
        """A separator: the carry from below comes out, `function`(a, b) goes on upwards."""
        return self._half(lambda a, b, c, d: 0, function, a, b, _ONE, _ONE)

    def top(self) -> Signal:
        """The carry out of the chain, in a half of its own."""
        return self.inject(_ZERO)

    def done(self) -> None:
        if len(self._halves) % 2:
            self.inject(_ZERO)
        carry: Value = _ZERO
        for at in range(0, len(self._halves), 2):
            pair = self._halves[at : at + 2]
            out = Signal(name=f"{self._name}_{at}_carry")
            if family_of(self._platform) == "ecp5":
                ports: dict[str, Any] = {}
                for k, (table, inputs, _, _, s) in enumerate(pair):
                    ports |= {f"p_INIT{k}": Const(table, 16), f"p_INJECT1_{k}": "NO", f"o_S{k}": s}
                    ports |= {f"i_{pin}{k}": value for pin, value in zip("ABCD", inputs, strict=True)}
                if at:
                    ports["i_CIN"] = carry
                self._m.submodules += Instance("CCU2C", o_COUT=out, **ports)
            else:
                within = carry
                for _, _, propagated, generated, s in pair:
                    propagate, generate = Signal(), Signal()
                    self._m.d.comb += [propagate.eq(propagated), generate.eq(generated), s.eq(propagate ^ within)]
                    within = (propagate & within) | (~propagate & generate)
                self._m.d.comb += out.eq(within)
            carry = out
