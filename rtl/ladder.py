"""Requantization ladder: one accumulator value to one code, by a proved multiplication and shift."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..golden.ladder import has_validity
from .config import Config
from .delay import delay_line
from .primitives.adders import add_turned
from .primitives.dsp import PRODUCT, multiply_add, shift_right
from .primitives.ice40 import lut4

__all__ = ["Ladder", "parameters_layout"]


def parameters_layout(config: Config) -> data.StructLayout:
    """The line of a ladder in main memory and in the ladder memory, see `golden.ladder.pack_ladder`; the ladder itself
    does not use `valid`."""
    fields = {
        "fraction": config.mul_width,
        "multiplier": config.mul_width,
        "offset": config.acc_width,
        "shift": 6,
        "negate": 1,
    }
    if config.corrections:
        fields["double"] = 1
    if has_validity(config):
        fields["valid"] = 1
    return data.StructLayout({**fields, "unused": 32 * config.line_words - config.ladder_bits})


class Ladder(wiring.Component):
    """Computes, with d = total - offset (negate: offset - total) as a signed number of acc_width bits,

        code = 0 if d < 0 else min((multiplier * d + fraction) >> shift, 2**bits - 1)

    With `Config.corrections`, code k is taken back to k - 1 at the first point of k on the line (the point before, 1
    or with `double`
    2 nearer to the offset, has a smaller code) if bit k of the channel's correction bits is set.
    One result per cycle, `config.ladder_latency` cycles, no flow control, no reset. Parameters come one cycle after the
    result.

    Members
    -------
    result, sum : In(acc_width)
        Drain registers of the PE and of the activation-sum column; the total is their sum modulo 2**acc_width.
    zero : In(1)
        With the result: its code is 0, whatever the total.
    parameters : In
    bits : In(4)
        1..8; constant while results are under way, and in the cycle before.
    total : Out(acc_width)
        The total, one cycle after `result`.
    code : Out(8)
    channel : In, late_read : Out(1), late_address : Out, late_word : In(32)
        With corrections: the place of the channel in the ladder memory, with `result`; reading of its correction
        bits, 32 at a time, `LATE` cycles before the code comes; a word comes 1 + `stages` cycles later.
    """

    def __init__(self, config: Config):
        self.config = config
        self.LATE = 2 + config.stages + (config.stages > 0)
        places = config.ladder_depth // config.ladders
        members = {
            "result": In(config.acc_width),
            "sum": In(config.acc_width),
            "zero": In(1),
            "parameters": In(parameters_layout(config)),
            "bits": In(4),
            "total": Out(config.acc_width),
            "code": Out(8),
        }
        if config.corrections:
            members |= {
                "channel": In(range(max(2, places))),
                "late_read": Out(1),
                "late_address": Out(range(8 * max(2, places))),
                "late_word": In(32),
            }
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        acc_width, mul_width = self.config.acc_width, self.config.mul_width

        deep, stages = self.config.stages > 0, self.config.stages

        def after(cycles: int, name: str, value):
            return delay_line(m, value, cycles, name, reset_less=True)[-1]

        # 1: add the sum column; the parameters come with the total.
        m.d.comb += self.total.eq(after(1, "total", self.result + self.sum))
        zero = after(2, "zero", self.zero)
        parameters = self.parameters
        # 2: distance from the offset, which stands in memory such that the sum needs at most to be complemented.
        turned = add_turned(m, platform, self.total, parameters.offset, parameters.negate, name="turned")
        distance = Signal(signed(acc_width))
        m.d.comb += distance.eq(after(1, "distance", turned))
        # 3, 4 (deep: 7): multiply, add.
        width, product = acc_width - 1 + mul_width, PRODUCT + 3 * deep
        scaled = multiply_add(
            m, platform, distance[: acc_width - 1], parameters.multiplier, parameters.fraction, name="scaled", deep=deep
        )
        below = after(product, "below", (distance < 0) | zero)
        shift = after(1 + product, "shift", parameters.shift)
        # The next two: shift, coarse by 8, fine by 0..7; what lies above the code saturates it.
        coarse, over = Signal(16), Signal()
        with m.Switch(shift[3:]):
            for coarse_shift in range(0, 64, 8):
                with m.Case(coarse_shift // 8):
                    m.d.comb += coarse.eq(scaled[coarse_shift:])
                    m.d.comb += over.eq(scaled[coarse_shift + 16 :].any() if coarse_shift + 16 < width + 1 else 0)
        fine = shift_right(m, platform, coarse, shift[:3], name="fine")
        over, below = after(2, "over", over), after(2, "below_fine", below)
        # Clamp (deep: in two cycles).
        top = after(1, "top", Cat(self.bits > k for k in range(8)))
        saturated = after(int(deep), "saturated", self._above(m, platform, over, fine, top))
        low, below = after(int(deep), "low", fine[:8]), after(int(deep), "below_clamped", below)
        # What is not above the code has no bits there.
        clamped = [
            lut4(
                m, platform, lambda low, a, b, top: (low | a | b) & top, low[k], *saturated, top[k], name=f"clamped{k}"
            )
            for k in range(8)
        ]
        code = after(1, "code", Mux(below, 0, Cat(clamped)))
        if not self.config.corrections:
            m.d.comb += self.code.eq(code)
            return m

        # The first point of a code: what the shift drops is less than one step of the line.
        step = after(2 + product, "step", parameters.multiplier << parameters.double)
        dropped = after(1, "dropped", (scaled & ((1 << shift) - 1))[: width + 1])
        first = after(1 + deep, "first", dropped < step)
        taken_back = after(1, "first_code", first & ~saturated.any() & ~below)
        # The last ones: fetch the correction bit of this code, choose it (deep: a cycle of its own), apply it.
        channel = after(self.config.ladder_latency - self.LATE, "channel", self.channel)
        m.d.comb += [self.late_read.eq(taken_back), self.late_address.eq(Cat(code[5:], channel))]
        code, taken_back = after(1 + stages, "code_late", code), after(1 + stages, "first_late", taken_back)
        late = after(int(deep), "late", taken_back & self.late_word.bit_select(code[:5], 1))
        m.d.comb += self.code.eq(after(1, "code_corrected", after(int(deep), "code_chosen", code) - late))
        return m

    @staticmethod
    def _above(m: Module, platform: object, over: Value, fine: Value, top: Value) -> Value:
        """Two bits; one is 1 where a value lies above the highest code, whose bits are `top`. In two LUTs: synthesis
        takes four, as it knows longer ways elsewhere, but these begin at a multiplier."""

        def any_of(*bits: Value, name: str) -> Value:
            return lut4(m, platform, lambda *bits: reduce(or_, bits), *bits, name=name)

        def beyond(x, y, top_x, top_y):
            return (x & ~top_x) | (y & ~top_y)

        pairs = [
            lut4(m, platform, beyond, fine[k], fine[k + 1], top[k], top[k + 1], name=f"above{k}")
            for k in range(0, 8, 2)
        ]
        high = [any_of(*fine[k : k + 4], name=f"above{k}") for k in (8, 12)]
        return Cat(any_of(over, *high, pairs[0], name="above_a"), any_of(*pairs[1:], name="above_b"))
