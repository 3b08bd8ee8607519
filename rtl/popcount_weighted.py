"""Weighted popcount of several activation planes at once on ECP5: the XNORs absorbed in carry cells."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .chains import Adder, add_adders
from .config import Config
from .primitives.ecp5 import CarryChain

__all__ = ["WeightedPopcount"]


class WeightedPopcount(wiring.Component):
    """Weighted popcount as of `Popcount`, by a tree of adders whose first level takes activations and weights.

    A product of weight 1 is the code A of its lane, of weight 0 the complement 2**W - 1 - A: for each bit of the code
    the XNOR with the weight. A half cell adds two bits that are functions of two inputs each, and those can be the
    XORs, which are the complements of products p and q. So level 1 makes x = (2**W - 1 - p) + (2**W - 1 - q) + 1, and
    level 2 inverts its operands: 2**(W + 1) - 1 - x = p + q.

    One word per cycle, no flow control; `LATENCY` cycles from operands to sum, one per `Config.levels` levels; no
    resets.

    Parameters
    ----------
    config : Config
        Uses `lanes`, `planes`, which is more than 1, and `levels`.

    Members
    -------
    a, w, o, carry
        As of `Popcount`.
    """

    def __init__(self, config: Config):
        self.config = config
        self.LATENCY = self.latency(config)
        super().__init__(
            {
                "a": In(config.planes * config.lanes),
                "w": In(config.lanes),
                "o": Out((config.lanes * ((1 << config.planes) - 1)).bit_length()),
                "carry": Out(1),
            }
        )

    @staticmethod
    def _levels(config: Config) -> int:
        return config.lanes.bit_length() - 1

    @classmethod
    def latency(cls, config: Config) -> int:
        return -(-cls._levels(config) // config.levels)

    def elaborate(self, platform):
        m = Module()
        lanes, planes, spacing = self.config.lanes, self.config.planes, self.config.levels
        levels = self._levels(self.config)
        # Numbers as bits; products as inputs of half cells.
        numbers: list[list[Any]] = [
            [(self.a[plane * lanes + lane], self.w[lane]) for plane in range(planes)] for lane in range(lanes)
        ]
        # By their level's place between two registers.
        adders: list[list[Adder]] = [[] for _ in range(spacing)]
        for level in range(1, levels + 1):
            sums = []
            for k, (x, y) in enumerate(zip(numbers[::2], numbers[1::2], strict=True)):
                sums.append(total := Signal(planes + level, name=f"sum{level}_{k}"))
                adders[level % spacing].append(self._adder(level, x, y, total))
            numbers = [list(total) for total in sums]
            if level % spacing == 0 or level == levels:
                copies = [Signal.like(total, name=f"{total.name}_registered", reset_less=True) for total in sums]
                m.d.sync += [copy.eq(total) for copy, total in zip(copies, sums, strict=True)]
                numbers = [list(copy) for copy in copies]
        for place, members in enumerate(adders):
            add_adders(m, platform, f"chain{place}", members)
        m.d.comb += self.o.eq(Cat(*numbers[0]))
        return m

    @staticmethod
    def _adder(level: int, x: list, y: list, total: Signal) -> Adder:
        def bits(chain: CarryChain) -> list[Signal]:
            if level > 1:
                return [chain.add(p, q, inverted=level == 2) for p, q in zip(x, y, strict=True)]
            return [chain.bit(*p, *q, function=lambda a, w, b, x: a ^ w ^ b ^ x) for p, q in zip(x, y, strict=True)]

        return Adder(lambda chain: chain.inject(Const(level == 1)), bits, total)
