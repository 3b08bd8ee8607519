"""A register on a long way that several others share."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .delay import delay_line

__all__ = ["Relay"]


class Relay(wiring.Component):
    """A register, without reset, which would have a long way, too.

    As a component it stays one of its own, where synthesis would merge equal ones at several places.

    Parameters
    ----------
    width : int

    Members
    -------
    i : In(width), o : Out(width)
        `o` is `i` a cycle ago.
    """

    i: Signal
    o: Signal

    def __init__(self, width: int) -> None:
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(delay_line(m, self.i, 1, "late", reset_less=True)[-1])
        return m
