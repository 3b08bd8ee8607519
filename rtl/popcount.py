"""XNOR and popcount of one word of lanes, portable version."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config

__all__ = ["Popcount"]

_GROUP = 8
"""Lanes summed in front of the first register."""
_FAN_IN = 4
"""Operands of each adder behind it."""


class Popcount(wiring.Component):
    """Weighted popcount ``sum over planes v of 2**v * popcount(xnor(a[v], w))``, as `o + carry`.

    Every family's popcount has these members and this function, of operands as `recode.recode` leaves them.

    One word per cycle, no flow control; `LATENCY` cycles from operands to sum. Registers have no reset: what comes out
    depends only on what went in `LATENCY` cycles before.

    Parameters
    ----------
    config : Config
        Uses `lanes` and `planes`.

    Members
    -------
    a : In(planes * lanes)
        Activation planes, plane 0 in the lowest lanes.
    w : In(lanes)
        Weight plane.
    o : Out
    carry : Out(1)
        Here o is the whole sum, 0..lanes * (2**planes - 1), and carry is 0.
    """

    def __init__(self, config: Config):
        self.config = config
        self.LATENCY = self.latency(config)
        self.width = (config.lanes * ((1 << config.planes) - 1)).bit_length()
        super().__init__(
            {
                "a": In(config.planes * config.lanes),
                "w": In(config.lanes),
                "o": Out(self.width),
                "carry": Out(1),
            }
        )

    @staticmethod
    def latency(config: Config) -> int:
        stages, operands = 1, -(-config.lanes // _GROUP)
        while operands > 1:
            stages, operands = stages + 1, -(-operands // _FAN_IN)
        operands = config.planes
        while operands > 1:
            stages, operands = stages + 1, -(-operands // _FAN_IN)
        return stages

    def elaborate(self, platform):
        m = Module()
        lanes = self.config.lanes

        def registered(operands, high: int):
            total = Signal(range(high + 1), reset_less=True)
            m.d.sync += total.eq(sum(operands[1:], operands[0]))
            return total, high

        def reduced(terms):
            while len(terms) > 1:
                groups = [terms[i : i + _FAN_IN] for i in range(0, len(terms), _FAN_IN)]
                terms = [registered([t for t, _ in group], sum(h for _, h in group)) for group in groups]
            return terms[0]

        planes = []
        for plane in range(self.config.planes):
            match = Signal(lanes, name=f"match{plane}")
            m.d.comb += match.eq(~(self.a[plane * lanes : (plane + 1) * lanes] ^ self.w))
            groups = [registered(list(match[i : i + _GROUP]), _GROUP) for i in range(0, lanes, _GROUP)]
            total, high = reduced(groups)
            planes.append((Cat(Const(0, plane), total) if plane else total, high << plane))
        total, _ = reduced(planes)
        m.d.comb += self.o.eq(total)
        return m
