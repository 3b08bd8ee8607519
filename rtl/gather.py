"""Codes of a row of results, which come a few channels at a time, to bit planes of all of its channels."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config

__all__ = ["Gather"]


class Gather(wiring.Component):
    """Turns codes, bits of one channel side by side, into planes, the same bit of all channels side by side.

    With many groups of planes (W = 1) complete planes move on by a group per cycle, so that nothing chooses among
    them; with few, codes wait behind one another in shift registers until their group is shown.

    Members
    -------
    codes : In(code_bits) per ladder
        Codes of neighbouring channels. Those of a row come in successive cycles, lowest channels first.
    complete : In(1)
        With the last codes of a row. Groups that are shown must have been by then.
    group : In
        Number of the group that is shown: from 0 in the cycle behind `complete`, one more in each cycle.
    o : Out(columns) per plane of a group
        Planes of the group, channel 0 lowest.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.code_bits = 8 + (config.planes > 1)
        """Bits of a code: 8, with several planes per cycle and a validity plane 9."""
        super().__init__(
            {
                "codes": In(self.code_bits).array(config.ladders),
                "complete": In(1),
                "group": In(range(8)),
                "o": Out(config.columns).array(config.planes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns, ladders, planes = self.config.columns, self.config.ladders, self.config.planes
        incoming = [Cat(code[k] for code in self.codes) for k in range(self.code_bits)]
        if planes == 1:
            moving = [Signal(columns, name=f"plane{k}", reset_less=True) for k in range(self.code_bits)]
            for k, new in enumerate(incoming):
                gathered = Signal(columns - ladders, name=f"gathered{k}", reset_less=True)
                m.d.sync += [
                    gathered.eq(Cat(gathered, new)[ladders:]),
                    moving[k].eq(Mux(self.complete, Cat(gathered, new), Cat(moving[k + 1 : k + 2]))),
                ]
            m.d.comb += self.o[0].eq(moving[0])
            return m
        # When group g is shown, a row has gone g places further; it then fills the lowest ones.
        waiting = []
        for k, new in enumerate(incoming):
            plane = Signal(columns + k // planes * ladders, name=f"plane{k}", reset_less=True)
            m.d.sync += plane.eq(Cat(plane, new)[ladders:])
            waiting.append(plane[:columns])
        m.d.comb += [shown.eq(Array(waiting[v::planes])[self.group]) for v, shown in enumerate(self.o)]
        return m
