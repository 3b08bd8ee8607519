"""Requantization ladder: one accumulator value to one code, by a proved multiplication and shift."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .primitives.adders import add_turned
from .primitives.dsp import multiply_add, shift_right

__all__ = ["Ladder", "parameters_layout"]


def parameters_layout(config: Config) -> data.StructLayout:
    """The line of a ladder in main memory and in the ladder memory, see `golden.ladder.pack_ladder`."""
    fields = {
        "fraction": config.mul_width,
        "multiplier": config.mul_width,
        "offset": config.acc_width,
        "shift": 6,
        "negate": 1,
    }
    if config.corrections:
        fields["double"] = 1
    return data.StructLayout({**fields, "unused": 32 * config.line_words - config.ladder_bits})


class Ladder(wiring.Component):
    """Computes, with d = total - offset (negate: offset - total) as a signed number of acc_width bits,

        code = 0 if d < 0 else min((multiplier * d + fraction) >> shift, 2**bits - 1)

    With `Config.corrections`, code k is taken back to k - 1 at the first point of k on the line (the point before, 1
    or with `double`
    2 nearer to the offset, has a smaller code) if bit k of the channel's correction bits is set.
    One result per cycle, `config.ladder_latency` cycles, no flow control, no reset. Parameters come one cycle after the
    result, as block RAM delivers them.

    Members
    -------
    result, sum : In(acc_width)
        Drain registers of the PE and of the activation-sum column; the total is their sum modulo 2**acc_width.
    zero : In(1)
        With the result: its code is 0, whatever the total.
    parameters : In
    bits : In(4)
        1..8; constant while results are under way.
    total : Out(acc_width)
        The total, one cycle after `result`.
    code : Out(8)
    channel : In, late_read : Out(1), late_address : Out, late_word : In(32)
        With corrections: the place of the channel in the ladder memory, with `result`; reading of its correction
        bits, 32 at
        a time.
    """

    def __init__(self, config: Config):
        self.config = config
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

        def stage(shape, name, value):
            register = Signal(shape, name=name, reset_less=True)
            m.d.sync += register.eq(value)
            return register

        # 1: add the sum column; the parameters come with the total.
        m.d.comb += self.total.eq(stage(acc_width, "total1", self.result + self.sum))
        zero = stage(1, "zero1", self.zero)
        parameters = self.parameters
        # 2: distance from the offset, which stands in memory such that the sum needs at most to be complemented.
        turned = add_turned(m, platform, self.total, parameters.offset, parameters.negate, name="turned")
        distance = stage(signed(acc_width), "distance2", turned)
        shift = stage(6, "shift2", parameters.shift)
        zero = stage(1, "zero2", zero)
        # 3, 4: multiply, add.
        width = acc_width - 1 + mul_width
        scaled = multiply_add(
            m, platform, distance[: acc_width - 1], parameters.multiplier, parameters.fraction, name="scaled4"
        )
        below = stage(1, "below3", (distance < 0) | zero)
        shift = stage(6, "shift3", shift)
        below, shift = stage(1, "below4", below), stage(6, "shift4", shift)
        if self.config.corrections:
            # The first point of a code: what the shift drops is less than one step of the line.
            step = stage(mul_width + 1, "step2", parameters.multiplier << parameters.double)
            step = stage(mul_width + 1, "step4", stage(mul_width + 1, "step3", step))
            dropped = stage(width + 1, "dropped5", scaled & ((1 << shift) - 1))
            first = stage(1, "first6", dropped < stage(mul_width + 1, "step5", step))
        else:
            first = None
        # 5, 6: shift in two steps, coarse by 8, fine by 0..7; what lies above the code saturates it.
        coarse, over = Signal(16), Signal()
        with m.Switch(shift[3:]):
            for coarse_shift in range(0, 64, 8):
                with m.Case(coarse_shift // 8):
                    m.d.comb += coarse.eq(scaled[coarse_shift:])
                    m.d.comb += over.eq(scaled[coarse_shift + 16 :].any() if coarse_shift + 16 < width + 1 else 0)
        over, below = stage(1, "over5", over), stage(1, "below5", below)
        fine = shift_right(m, platform, coarse, shift[:3], name="fine6")
        over, below = stage(1, "over6", over), stage(1, "below6", below)
        # 7: clamp.
        top = Cat(self.bits > k for k in range(8))
        saturated = over | (fine[8:] != 0) | ((fine[:8] & ~top) != 0)
        code = stage(8, "code7", Mux(below, 0, Mux(saturated, top, fine[:8])))
        if first is None:
            m.d.comb += self.code.eq(code)
            return m

        # 8, 9: fetch the correction bit of this code, apply it.
        taken_back = stage(1, "first7", first & ~saturated & ~below)
        channel = self.channel
        for k in range(1, 8):
            channel = stage(len(self.channel), f"channel{k}", channel)
        m.d.comb += [self.late_read.eq(taken_back), self.late_address.eq(Cat(code[5:], channel))]
        code8, taken_back = stage(8, "code8", code), stage(1, "first8", taken_back)
        late = self.late_word.bit_select(code8[:5], 1)
        m.d.comb += self.code.eq(stage(8, "code9", code8 - (taken_back & late)))
        return m
