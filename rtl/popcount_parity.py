"""XNOR and popcount on iCE40: prefix parity in front, small adders in carry chains behind."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .primitives.ice40 import CarryChain, lut4

__all__ = ["ParityPopcount"]


class ParityPopcount(wiring.Component):
    """Popcount of the XNOR of two recoded words, as `o + carry`.

    Parity is linear: with both operands recoded (`recode.parities`), one LUT gives the parity s_k of the products of
    lanes 0..2k, and one more the carry of the full adder of s_{k-1} and the products of lanes 2k-1 and 2k, from
    s_{k-1}, s_k and one raw lane. A chunk of G = 2**m lanes becomes G/2 - 1 such carries of weight 2, which fill a
    tree of full adders without a gap, its parity, and its last lane, which is the carry in of an adder further on.

    One word per cycle, no flow control; `LATENCY` cycles from operands to sum; no resets.

    Parameters
    ----------
    config : Config
        Uses `lanes` and `chunk`; `planes` is 1.

    Members
    -------
    a, w : In(lanes)
        Activations and weights, both recoded.
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
    def _levels(config: Config) -> int:
        """Levels of adders: of the carries of a chunk, then of chunks."""
        return config.chunk.bit_length() - 3 + (config.lanes // config.chunk).bit_length() - 1

    @classmethod
    def latency(cls, config: Config) -> int:
        return 1 + max(1, cls._levels(config) - 1)

    def elaborate(self, platform):
        m = Module()
        size, levels = self.config.chunk, self._levels(self.config)

        def registered(bits: Any) -> Any:
            if isinstance(bits, list):
                return [registered(bit) for bit in bits]
            copy = Signal(reset_less=True)
            m.d.sync += copy.eq(bits)
            return copy

        # Parities and carries; then the first register, as operands come from block RAMs that stand far away.
        rest, parity, loose = [], [], []
        for base in range(0, self.config.lanes, size):
            a, w = self.a[base : base + size], self.w[base : base + size]
            s = [lut4(m, platform, lambda a, w: ~(a ^ w), a[k], w[k], name=f"s{base + k}") for k in range(0, size, 2)]
            rest.append([
                # The products of lanes 2k-1 and 2k are equal where the parity stays; then either is the carry.
                lut4(m, platform, lambda low, high, a, w: ((low ^ high) & low) | (~(low ^ high) & ~(a ^ w)),
                     s[k - 1], s[k], a[2 * k - 1], w[2 * k - 1], name=f"c{base + 2 * k}")
                for k in range(1, size // 2)
            ])  # fmt: skip
            parity.append(s[-1])
            loose.append(lut4(m, platform, lambda a, w: ~(a ^ w), a[-1], w[-1], name=f"x{base + size - 1}"))
        rest, parity, loose = registered([rest, parity, loose])

        # Full adders of three carries, then adders of two numbers and a carry: first in a chunk, until it is one
        # number, then of neighbouring chunks. A register behind each level, but full adders are one LUT only.
        numbers: list[list[list[Value]]] = []
        for level in range(levels):
            if not level:
                adders = size // 8
                numbers = [
                    [self._full_adder(m, platform, carry[3 * i : 3 * i + 3], f"fa{chunk}_{i}") for i in range(adders)]
                    for chunk, carry in enumerate(rest)
                ]
                rest = [carry[3 * adders :] for carry in rest]
            elif len(numbers[0]) > 1:
                pairs = len(numbers[0]) // 2
                jobs = [
                    (chunk[2 * i], chunk[2 * i + 1], carry[i])
                    for chunk, carry in zip(numbers, rest, strict=True)
                    for i in range(pairs)
                ]
                sums = self._adders(m, platform, jobs, f"tree{level}")
                numbers = [sums[i : i + pairs] for i in range(0, len(sums), pairs)]
                rest = [carry[pairs:] for carry in rest]
            else:
                # The last lanes of the chunks are the carries, all but one, which is left for the accumulator.
                if parity:
                    numbers, parity = [[[p, *chunk[0]]] for p, chunk in zip(parity, numbers, strict=True)], []
                pairs = len(numbers) // 2
                jobs = [(numbers[2 * i][0], numbers[2 * i + 1][0], loose[i]) for i in range(pairs)]
                numbers, loose = [[n] for n in self._adders(m, platform, jobs, f"join{level}")], loose[pairs:]
            if level or levels == 1:
                numbers, rest, parity, loose = registered([numbers, rest, parity, loose])
        m.d.comb += [self.o.eq(Cat(*parity, *numbers[0][0])), self.carry.eq(loose[0])]
        return m

    @staticmethod
    def _full_adder(m: Module, platform: object, bits: Sequence[Value], name: str) -> list[Value]:
        return [
            lut4(m, platform, lambda x, y, z: x ^ y ^ z, *bits, name=f"{name}_sum"),
            lut4(m, platform, lambda x, y, z: (x & y) | (z & (x | y)), *bits, name=f"{name}_carry"),
        ]

    @staticmethod
    def _adders(m: Module, platform: object, jobs: list, name: str) -> list[list[Value]]:
        """The sums x + y + carry of numbers of one width."""
        # Several adders to a chain would save cells, but no LUT, and static timing sees a path through all of a chain.
        sums: list[list[Value]] = []
        for k, (x, y, carry) in enumerate(jobs):
            chain = CarryChain(m, platform, f"{name}_{k}")
            chain.feed(carry)
            sums.append([*(chain.add(x_bit, y_bit) for x_bit, y_bit in zip(x, y, strict=True)), chain.top()])
        return sums
