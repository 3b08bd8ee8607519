"""XNOR and popcount on ECP5: the XNORs absorbed in the carry cells, small adders in shared chains."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .chains import Adder, add_adders
from .config import Config
from .delay import delay_line
from .primitives.ecp5 import CarryChain

__all__ = ["AbsorbedPopcount", "stagger"]


def _xor(a, w):
    return a ^ w


def _xnor(a, w):
    return ~(a ^ w)


def stagger(m: Module, word: Value, config: Config, name: str) -> Signal:
    """`word` with each lane as late as `AbsorbedPopcount` takes it."""
    delays = AbsorbedPopcount.delays(config)
    out = Signal(config.lanes, name=f"{name}_staggered")
    late = delay_line(m, word, max(delays), f"{name}_late", reset_less=True)
    m.d.comb += out.eq(Cat(late[delay][lane] for lane, delay in enumerate(delays)))
    return out


class AbsorbedPopcount(wiring.Component):
    """Popcount of the XNOR of two words, as `o + carry`, for one activation plane per cycle.

    Level 1 adds three products with two half cells: a full adder of two XORs, and in front of it the half that makes
    the third XOR its carry in. A full adder of complements gives complements, so the number of mismatches becomes that
    of matches where level 2 inverts its operands. Level k adds two k-bit numbers and one more product. N - 1 =
    2**levels - 1 products fill the tree without a gap, the last one is left for the accumulator.

    One word per cycle, no flow control; `LATENCY` cycles from operands to sum, one per `Config.levels` levels; no
    resets. The lanes of the levels behind the first register come so much later (`stagger`), which takes registers once
    per row and column instead of in each PE.

    Parameters
    ----------
    config : Config
        Uses `lanes` and `levels`; `planes` is 1.

    Members
    -------
    a, w : In(lanes)
        Lane k `delays(config)[k]` cycles later than lane 0.
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
        return (config.lanes - 1).bit_length() - 1

    @classmethod
    def latency(cls, config: Config) -> int:
        return -(-cls._levels(config) // config.levels)

    @classmethod
    def delays(cls, config: Config) -> list[int]:
        """Cycles by which each lane's operands come later than those of lane 0: registers in front of its level."""
        lanes, levels = config.lanes, cls._levels(config)
        counts = [3 * lanes // 4, *(lanes >> (level + 1) for level in range(2, levels + 1))]
        delays = [level // config.levels for level, count in enumerate(counts) for _ in range(count)]
        return [*delays, (levels - 1) // config.levels]

    def elaborate(self, platform):
        m = Module()
        lanes, levels, spacing = self.config.lanes, self._levels(self.config), self.config.levels
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

        # By their level's place between two registers.
        adders: list[list[Adder]] = [[] for _ in range(spacing)]
        numbers: list[Any] = []
        for level in range(1, levels + 1):
            made = []
            for k in range(lanes >> (level + 1)):
                operands = take(2) if level == 1 else list(zip(*numbers[2 * k : 2 * k + 2], strict=True))
                (carry,) = take(1)
                made.append([Signal(name=f"sum{level}_{k}_{bit}") for bit in range(level + 1)])
                adders[level % spacing].append(self._adder(level, operands, carry, made[-1]))
            numbers = registered(made) if level % spacing == 0 or level == levels else made
        (a, w), last = products[0], Signal(reset_less=True)
        m.d.sync += last.eq(~(a ^ w))
        for place, members in enumerate(adders):
            add_adders(m, platform, f"chain{place}", members)
        m.d.comb += [self.o.eq(Cat(*numbers[0])), self.carry.eq(last)]
        return m

    @staticmethod
    def _adder(level: int, operands: list, carry: tuple, total: list[Signal]) -> Adder:
        def bits(chain: CarryChain) -> list[Signal]:
            if level > 1:
                return [chain.add(*pair, inverted=level == 2) for pair in operands]
            (a, w), (b, x) = operands
            return [chain.bit(a, w, b, x, lambda a, w, b, x: a ^ w ^ b ^ x)]

        return Adder(lambda chain: chain.inject(*carry, function=_xor if level == 1 else _xnor), bits, total)
