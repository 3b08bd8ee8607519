"""XNOR and popcount on ECP5: the XNORs absorbed in the carry cells, small adders in shared chains."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .primitives.ecp5 import CarryChain

__all__ = ["AbsorbedPopcount"]

_HALVES = 26
"""Half cells of a chain: static timing sees a path through all of them."""


def _xor(a, w):
    return a ^ w


def _xnor(a, w):
    return ~(a ^ w)


class AbsorbedPopcount(wiring.Component):
    """Popcount of the XNOR of two words, as `o + carry`, for one activation plane per cycle.

    Level 1 adds three products with two half cells: a full adder of two XORs, and in front of it the half that makes
    the third XOR its carry in. A full adder of complements gives complements, so the number of mismatches becomes that
    of matches where level 2 inverts its operands. Level k adds two k-bit numbers and one more product. N - 1 =
    2**levels - 1 products fill the tree without a gap, the last one is left for the accumulator.

    One word per cycle, no flow control; `LATENCY` cycles from operands to sum, one per level; no resets.

    Parameters
    ----------
    config : Config
        Uses `lanes`; `planes` is 1.

    Members
    -------
    a, w : In(lanes)
    o : Out
        Sum of all products but the last, 0..lanes - 1.
    carry : Out(1)
        The product of the last lane.
    """

    def __init__(self, config: Config):
        self.config = config
        self.LATENCY = self.latency(config)
        super().__init__(
            {
                "a": In(config.lanes),
                "w": In(config.lanes),
                "o": Out((config.lanes - 1).bit_length()),
                "carry": Out(1),
            }
        )

    @staticmethod
    def latency(config: Config) -> int:
        return (config.lanes - 1).bit_length() - 1

    def elaborate(self, platform):
        m = Module()
        lanes, levels = self.config.lanes, (self.config.lanes - 1).bit_length() - 1
        products = list(zip(self.a, self.w, strict=True))

        def registered(bits: Any) -> Any:
            if isinstance(bits, list | tuple):
                return type(bits)(map(registered, bits))
            copy = Signal(reset_less=True)
            m.d.sync += copy.eq(bits)
            return copy

        def take(count: int) -> list:
            taken = products[:count]
            del products[:count]
            return taken

        numbers: list[Any] = []
        for level in range(1, levels + 1):
            adders = lanes >> (level + 1)
            chains = -(-adders * (level + 1) // (_HALVES - 1))
            share = -(-adders // chains)
            sums: list[Any] = []
            for at in range(0, adders, share):
                chain = CarryChain(m, platform, f"level{level}_{at}")
                for k in range(at, min(at + share, adders)):
                    if level == 1:
                        (a, w), (b, x), carry = take(3)
                    else:
                        (carry,) = take(1)
                    below = chain.inject(*carry, function=_xor if level == 1 else _xnor)
                    if k > at:
                        sums[-1].append(below)
                    if level == 1:
                        sums.append([chain.bit(a, w, b, x, lambda a, w, b, x: a ^ w ^ b ^ x)])
                    else:
                        low, high = numbers[2 * k : 2 * k + 2]
                        sums.append([chain.add(*bits, inverted=level == 2) for bits in zip(low, high, strict=True)])
                sums[-1].append(chain.top())
                chain.done()
            numbers = registered(sums)
            # The lanes of the levels to come wait as they are: flip-flops are idle in the cells, LUTs are not.
            if level == levels:
                products = [~(a ^ w) for a, w in products]
            products = registered(products)
        m.d.comb += [self.o.eq(Cat(*numbers[0])), self.carry.eq(products[0])]
        return m
