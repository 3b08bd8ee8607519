"""Weighted popcount of several activation planes at once on iCE40: pairs of lanes, chosen from sums made before."""

from functools import reduce
from operator import xor
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .pair_sums import sums_width
from .primitives import ice40

__all__ = ["PairPopcount"]


class PairPopcount(wiring.Component):
    """Weighted popcount as of `Popcount`, as `o + carry`, from the sums of pairs of a row.

    A product of weight 1 gives the code A of its lane, of weight 0 its complement ~A = 2**W - 1 - A. So a pair gives u
    = A0 + A1 for weights 1 1, v = A0 + ~A1 for 1 0, and, with q the complements of u and v, ~u - 1 for 0 0 and ~v - 1
    for 0 1: in each case q + w0 - 1, where each bit of q is one LUT of a bit of u, a bit of v and two weights. The w0
    are the carry ins of the adders of the tree, which are as many but one, and the lanes / 2 ones come off on the way.

    The lowest bits of two pairs and a weight are three inputs of an adder: two LUTs make its sum and carry, one behind
    the other. Where the array has a clock of its own and a register behind each level, the carry chain adds them, too:
    a LUT more for two pairs, in a cell that else held a flip-flop, and one LUT less on the way from the buffers.

    One word per cycle, no flow control; `LATENCY` cycles from the operands to the sum; no resets.

    Parameters
    ----------
    config : Config
        Uses `lanes`, `planes`, which is more than 1, `levels` between two registers: the choice of the pairs is
        the first one, adders are the others; and `pump`.

    Members
    -------
    a : In(sums_width(lanes, planes))
        See `pair_sums`.
    w : In(lanes)
    o : Out
        Signed; -1 with carry is a sum of 0.
    carry : Out(1)
        The first weight of the last pair.
    """

    def __init__(self, config: Config):
        self.config = config
        self.LATENCY = self.latency(config)
        highest = config.lanes * ((1 << config.planes) - 1)
        super().__init__(
            {
                "a": In(sums_width(config.lanes, config.planes)),
                "w": In(config.lanes),
                "o": Out(signed(highest.bit_length() + 1)),
                "carry": Out(1),
            }
        )

    @staticmethod
    def latency(config: Config) -> int:
        return -(-(config.lanes.bit_length() - 1) // config.levels)

    def elaborate(self, platform):
        m = Module()
        lanes, width = self.config.lanes, self.config.planes + 1

        def registered(bits: Any) -> Any:
            if isinstance(bits, list):
                return [registered(bit) for bit in bits]
            copy = Signal(reset_less=True)
            m.d.sync += copy.eq(bits)
            return copy

        def passed(bits: Any, made: int) -> Any:
            """What comes out of so many levels, registered where that is due."""
            return bits if made % self.config.levels else registered(bits)

        chained = self.config.levels == 1 and self.config.pump > 1  # lowest bits in carry chains

        # Pairs as u, v and the weights of the two lanes; of every second pair bit 0 of u is that of both pairs' sum.
        pairs = []
        for k in range(lanes // 2):
            bits = [self.a[k * (2 * width - 1) + n] for n in range(2 * width - 1)]
            pairs.append((bits[:width], [~bits[0], *bits[width:]], self.w[2 * k], self.w[2 * k + 1]))
        carries = [w0 for *_, w0, _ in pairs[::2] + pairs[1::2]]
        numbers: list[list[Value]] = [self._choose(m, platform, *pair, name=f"q{k}") for k, pair in enumerate(pairs)]

        if chained:
            for k, (u, _, _, w1) in enumerate(pairs):
                sum_bits = [u[0]] if k % 2 == 0 else [u[0], pairs[k - 1][0][0]]
                numbers[k][0] = self._parity(m, platform, [*sum_bits, w1], f"q{k}_0")

        # The lanes / 2 = 2**ones come off where the highest bit of the last number at a level weighs as much, by its
        # complement. From there on the last number is negative where all its bits from that one on are 1, which
        # turns round the highest bit of the next sum. With many planes every number is too wide for that.
        ones = lanes.bit_length() - 2
        turned = ones - self.config.planes
        if turned == 0:
            numbers[-1][1:] = self._choose(m, platform, *pairs[-1], name="q_turned", turned=True)[1:]
        numbers, carries = passed([numbers, carries], 1)

        # An adder to a chain: sharing saves no LUT, and nextpnr's default router may not come to an end with the cells
        # that separate adders; static timing sees paths from level to level through the chains.
        levels = lanes.bit_length() - 2
        adders: list[tuple[str, list, list, Value, Value, list]] = []
        for level in range(levels):
            count = len(numbers) // 2
            sums = [Signal(width + level + 1, name=f"sum{level}_{k}") for k in range(count)]
            for k, (x, y, carry, total) in enumerate(
                zip(numbers[::2], numbers[1::2], carries[:count], sums, strict=True)
            ):
                turn = []
                if turned >= 0 and k == count - 1 and level >= turned - 1:
                    turn = [Const(1)] if level == turned - 1 else y[ones:]
                if not level and not chained:
                    low, carry = passed([*self._lowest(m, platform, pairs[2 * k], pairs[2 * k + 1], f"low{k}")], 1)
                    m.d.comb += total[0].eq(low)
                    x, y, total = x[1:], y[1:], total[1:]
                adders.append((f"chain{level}_{k}", x, y, carry, total, turn))
            numbers, carries = [list(total) for total in sums], carries[count:]
            if level < levels - 1:
                numbers, carries = passed([numbers, carries], level + 2)
        for adder in adders:
            self._chain(m, platform, *adder)
        total = Signal(len(numbers[0]))
        if turned >= 0:
            o = Signal.like(total, name="o_registered", reset_less=True)
            m.d.sync += o.eq(total)
            m.d.comb += self.o.eq(Cat(o, o[ones:].all()))
        else:
            o = Signal.like(self.o, name="o_registered", reset_less=True)
            high = Signal(signed(len(o) - ones))
            m.d.comb += [high.eq(total[ones:] - 1), self.o.eq(o)]
            m.d.sync += o.eq(Cat(total[:ones], high))
        m.d.comb += total.eq(Cat(*numbers[0]))
        m.d.comb += self.carry.eq(registered(carries[0]))
        return m

    @staticmethod
    def _choose(
        m: Module, platform: object, u: list, v: list, w0: Value, w1: Value, name: str, *, turned: bool = False
    ) -> list[Value]:
        """The bits of q of a pair, but for the lowest one; the highest one turned round if asked for."""

        def choose(not_u, v, w0, w1):
            return ~w0 ^ (((w0 ^ w1) & v) | (~(w0 ^ w1) & ~not_u))

        def second(not_u, a0, w0, w1):
            return choose(not_u, not_u ^ a0, w0, w1)

        def highest(not_u, v, w0, w1):
            return choose(not_u, v, w0, w1) ^ turned

        bits: list[Value] = [Const(0)]
        for k, function in enumerate([second, *[choose] * (len(u) - 3), highest], 1):
            bits.append(ice40.lut4(m, platform, function, u[k], v[k], w0, w1, name=f"{name}_{k}"))
        return bits

    @staticmethod
    def _parity(m: Module, platform: object, bits: list[Value], name: str) -> Value:
        """Whether an even number of up to three bits is 1."""
        return ice40.lut4(m, platform, lambda *i: ~reduce(xor, i), *bits, name=name)

    @staticmethod
    def _lowest(m: Module, platform: object, first: tuple, second: tuple, name: str) -> tuple[Value, Value]:
        """Sum and carry of the lowest bits of q of two pairs and the first weight.

        The lowest bit of q is ~(u ^ w1). So one LUT makes the sum of four signals, and the other, from that, the carry:
        that of x + y + z is the majority of x, ~(x ^ y ^ z) and z.
        """
        (u, _, w0, w1), (both, _, _, other) = first, second
        low = ice40.lut4(m, platform, lambda u, w0, w1, w3: u ^ w0 ^ w1 ^ w3, both[0], w0, w1, other, name=name)
        carry = ice40.lut4(
            m, platform, lambda s, u, w0, w1: (~(u ^ w1) & ~s) | (w0 & (~(u ^ w1) | ~s)), low, u[0], w0, w1,
            name=f"{name}_carry",
        )  # fmt: skip
        return low, carry

    @staticmethod
    def _chain(
        m: Module, platform: object, name: str, x: list, y: list, carry: Value, total: Value, turn: list
    ) -> None:
        """total = x + y + carry, the highest bit turned round where all of `turn` are 1."""
        chain = ice40.CarryChain(m, platform, name)
        chain.feed(carry)
        m.d.comb += Cat(total[:-1]).eq(Cat(chain.add(*bits) for bits in zip(x, y, strict=True)))
        m.d.comb += total[-1].eq(chain.top(turn) if turn else chain.top())
        chain.done()
