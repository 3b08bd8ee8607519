"""Requantization ladder: one accumulator value to one code, by a proved multiplication and shift."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import Config

__all__ = ["Ladder", "parameters_layout"]


def parameters_layout(config: Config) -> data.StructLayout:
    """Parameters of one ladder in main memory and in the ladder memory, lowest bit first."""
    return data.StructLayout(
        {
            "fraction": config.mul_width,
            "multiplier": config.mul_width,
            "offset": config.acc_width,
            "shift": 6,
            "negate": 1,
            "unused": 32 * config.ladder_words - config.ladder_bits,
        }
    )


class Ladder(wiring.Component):
    """Computes, with d = total - offset (negate: offset - total) as a signed number of acc_width bits,

        code = 0 if d < 0 else min((multiplier * d + fraction) >> shift, 2**bits - 1)

    One result per cycle, `LATENCY` cycles, no flow control, no reset. Parameters come one cycle after the result,
    as block RAM delivers them.

    Members
    -------
    result, sum : In(acc_width)
        Drain registers of the PE and of the activation-sum column; the total is their sum modulo 2**acc_width.
    parameters : In
    bits : In(4)
        1..8; constant while results are under way.
    total : Out(acc_width)
        The total, two cycles after `result`.
    code : Out(8)
    """

    LATENCY = 8

    def __init__(self, config: Config):
        self.config = config
        assert self.LATENCY == config.ladder_latency
        super().__init__(
            {
                "result": In(config.acc_width),
                "sum": In(config.acc_width),
                "parameters": In(parameters_layout(config)),
                "bits": In(4),
                "total": Out(config.acc_width),
                "code": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        acc_width, mul_width = self.config.acc_width, self.config.mul_width

        def stage(shape, name, value):
            register = Signal(shape, name=name, reset_less=True)
            m.d.sync += register.eq(value)
            return register

        # 1, 2: select and add the sum column; the parameters join.
        result = stage(acc_width, "result1", self.result)
        sum_ = stage(acc_width, "sum1", self.sum)
        m.d.comb += self.total.eq(stage(acc_width, "total2", result + sum_))
        parameters = stage(parameters_layout(self.config), "parameters2", self.parameters)
        # 3: distance from the offset.
        negate = parameters.negate
        flipped = Signal(acc_width)
        m.d.comb += flipped.eq(self.total ^ negate.replicate(acc_width))
        distance = stage(
            signed(acc_width),
            "distance3",
            flipped + Mux(negate, parameters.offset, ~parameters.offset) + 1,
        )
        multiplier = stage(mul_width, "multiplier3", parameters.multiplier)
        fraction = stage(mul_width, "fraction3", parameters.fraction)
        shift = stage(6, "shift3", parameters.shift)
        # 4, 5: multiply, with a register behind the multiplier to absorb.
        width = acc_width - 1 + mul_width
        product = stage(width, "product4", multiplier * distance[: acc_width - 1])
        below = stage(1, "below4", distance < 0)
        fraction, shift = stage(mul_width, "fraction4", fraction), stage(6, "shift4", shift)
        scaled = stage(width + 1, "scaled5", product + fraction)
        below, shift = stage(1, "below5", below), stage(6, "shift5", shift)
        # 6, 7: shift in two steps, coarse by 8, fine by 0..7; what lies above the code saturates it.
        coarse, over = Signal(16), Signal()
        with m.Switch(shift[3:]):
            for step in range(8):
                with m.Case(step):
                    m.d.comb += coarse.eq(scaled[8 * step :])
                    m.d.comb += over.eq(scaled[8 * step + 16 :].any() if 8 * step + 16 < width + 1 else 0)
        coarse = stage(16, "coarse6", coarse)
        over, below, shift = stage(1, "over6", over), stage(1, "below6", below), stage(3, "shift6", shift[:3])
        fine = stage(16, "fine7", coarse >> shift)
        over, below = stage(1, "over7", over), stage(1, "below7", below)
        # 8: clamp.
        top = Cat(self.bits > k for k in range(8))
        saturated = over | (fine[8:] != 0) | ((fine[:8] & ~top) != 0)
        m.d.comb += self.code.eq(stage(8, "code8", Mux(below, 0, Mux(saturated, top, fine[:8]))))
        return m
