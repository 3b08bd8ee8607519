"""Weighted popcount of several activation planes at once: pairs of lanes, chosen from sums made once per row."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .chains import pack
from .config import Config
from .primitives import ecp5, ice40

__all__ = ["PairPopcount", "pair_sums"]

_CHAINS = {"ice40": ice40.CarryChain, "ecp5": ecp5.CarryChain}
_CELLS = {"ice40": 16, "ecp5": 26}
"""Cells of a carry chain: static timing sees a path through all of them."""
_LEVELS = 2
"""Levels of carry chains between two registers, behind the first level."""


def _difference(low: Value, high: Value) -> Value:
    """(low + ~high) >> 1 in LUTs: the carry of an iCE40 cell would need the complements as signals, a LUT each."""
    bits, carry = [], Const(0)
    for k, (x, y) in enumerate(zip(low, ~high, strict=True)):
        if k:
            bits.append(x ^ y ^ carry)
        carry = (x & y) | ((x | y) & carry)
    return Cat(*bits, carry)


def pair_sums(m: Module, a: Value, config: Config, name: str) -> Signal:
    """For the word `a` of a row, what all its PEs take instead: registered, so one cycle later.

    With A0 and A1 the W-bit activation codes of lanes 2k and 2k + 1: A0 + A1, then A0 + ~A1, of W + 1 bits each.
    """
    planes, lanes = config.planes, config.lanes
    word = Signal(lanes * planes, name=f"{name}_word")
    m.d.comb += word.eq(a)
    sums = []
    for lane in range(0, lanes, 2):
        low, high = (Cat(word[v * lanes + k] for v in range(planes)) for k in (lane, lane + 1))
        plus = Signal(planes + 1, name=f"{name}_plus{lane}", reset_less=True)
        minus = Signal(planes, name=f"{name}_minus{lane}", reset_less=True)
        # The lowest bits are complements of each other, so one register serves both.
        m.d.sync += [plus.eq(low + high), minus.eq(_difference(low, high))]
        sums += [plus, ~plus[0], minus]
    out = Signal(lanes * (planes + 1), name=f"{name}_sums")
    m.d.comb += out.eq(Cat(sums))
    return out


class PairPopcount(wiring.Component):
    """Weighted popcount as of `Popcount`, as `o + carry`, from the sums of pairs of a row.

    A product of weight 1 gives the code A of its lane, of weight 0 its complement ~A = 2**W - 1 - A. So a pair gives u
    = A0 + A1 for weights 1 1, v = A0 + ~A1 for 1 0, and, with q the complements of u and v, ~u - 1 for 0 0 and ~v - 1
    for 0 1: in each case q + w0 - 1, where each bit of q is one LUT of a bit of u, a bit of v and two weights. The w0
    are the carry ins of the adders of the tree, which are as many but one, and the lanes / 2 ones come off at the end.

    One word per cycle, no flow control; `LATENCY` cycles from the activations at the edge of the row to the sum, one
    less from the weights; no resets.

    Parameters
    ----------
    config : Config
        Uses `lanes` and `planes`, which is more than 1.
    family : str
        "ice40" or "ecp5".

    Members
    -------
    a : In((planes + 1) * lanes)
        See `pair_sums`.
    w : In(lanes)
    o : Out
        Signed; -1 with carry is a sum of 0.
    carry : Out(1)
        The first weight of the last pair.
    """

    def __init__(self, config: Config, family: str):
        self.config = config
        self.family = family
        self.LATENCY = self.latency(config)
        highest = config.lanes * ((1 << config.planes) - 1)
        super().__init__(
            {
                "a": In((config.planes + 1) * config.lanes),
                "w": In(config.lanes),
                "o": Out(signed(highest.bit_length() + 1)),
                "carry": Out(1),
            }
        )

    @staticmethod
    def latency(config: Config) -> int:
        return 2 + -(-(config.lanes.bit_length() - 3) // _LEVELS)

    def elaborate(self, platform):
        m = Module()
        lanes, width = self.config.lanes, self.config.planes + 1

        def registered(bits: Any) -> Any:
            if isinstance(bits, list):
                return [registered(bit) for bit in bits]
            copy = Signal(reset_less=True)
            m.d.sync += copy.eq(bits)
            return copy

        def choose(plus, minus, w0, w1):
            return (w0 & ((w1 & plus) | (~w1 & minus))) | (~w0 & ((w1 & ~minus) | (~w1 & ~plus)))

        numbers: list[list[Value]] = []
        for lane in range(0, lanes, 2):
            w0, w1 = self.w[lane], self.w[lane + 1]
            number = []
            for k in range(lane * width, (lane + 1) * width):
                plus, minus = self.a[k], self.a[k + width]
                if k == lane * width:
                    number.append(~(plus ^ w1))  # the lowest bits are complements of each other
                elif self.family == "ice40":
                    number.append(ice40.lut4(m, platform, choose, plus, minus, w0, w1, name=f"q{k}"))
                else:
                    number.append(bit := Signal(name=f"q{k}"))
                    m.d.comb += bit.eq(Mux(w0, Mux(w1, plus, minus), ~Mux(w1, minus, plus)))
            numbers.append(number)
        carries = [self.w[lane] for lane in range(0, lanes, 2)]

        # Adders as (two operands, carry, sum). On ECP5 levels that no path joins share chains, which saves cells; on
        # iCE40 it saves none, and static timing sees paths from level to level through the chains.
        levels = lanes.bit_length() - 2
        groups: dict[int, list[tuple[list, list, Value, Signal]]] = {}
        for level in range(levels):
            pairs = len(numbers) // 2
            sums = [Signal(width + level + 1, name=f"sum{level}_{k}") for k in range(pairs)]
            group = groups.setdefault(level % _LEVELS if self.family == "ecp5" else level, [])
            group += zip(numbers[::2], numbers[1::2], carries[:pairs], sums, strict=True)
            numbers, carries = [list(total) for total in sums], carries[pairs:]
            if level % _LEVELS == 0 and level < levels - 1:
                numbers, carries = registered([numbers, carries])
        for name, adders in groups.items():
            sizes = [len(adder[0]) + 1 for adder in adders]
            for number, members in enumerate(pack(sizes, _CELLS[self.family] - 1)):
                self._chain(m, platform, f"chain{name}_{number}", [adders[k] for k in members])
        low = lanes.bit_length() - 2
        total = Signal(len(numbers[0]))
        high = Signal(signed(len(self.o) - low))
        o = Signal(signed(len(self.o)), reset_less=True)
        m.d.comb += [total.eq(Cat(*numbers[0])), high.eq(total[low:] - 1), self.o.eq(o)]
        m.d.sync += o.eq(Cat(total[:low], high))
        m.d.comb += self.carry.eq(registered(carries[0]))
        return m

    def _chain(self, m: Module, platform: object, name: str, adders: list) -> None:
        """One chain of separated adders (operand, operand, carry, sum)."""
        chain = _CHAINS[self.family](m, platform, name)
        below = None
        for x, y, carry, total in adders:
            top = chain.inject(carry)
            if below is not None:
                m.d.comb += below.eq(top)
            m.d.comb += Cat(total[:-1]).eq(Cat(chain.add(*bits) for bits in zip(x, y, strict=True)))
            below = total[-1]
        assert below is not None
        m.d.comb += below.eq(chain.top())
        chain.done()
