"""Execute engine: walks the plane pairs of a tile in Horner order and feeds the array."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..golden.isa import ExecReg
from .config import Config
from .isa import EXEC, REGISTER
from .pe import Control
from .primitives.adders import add_or_load, sum_unless

__all__ = ["Execute"]

_ACTIVATION_PLANES = 16
"""GROUPS * W at most (the loader has 4 bits for the number of planes)."""
_WEIGHT_PLANES = 8
"""PLANES at most; a weight has up to 8 bits."""


def _ripple(x: Value, y: Value, carry: Value | int = 0) -> Value:
    """x + y + carry, carry out on top; up to four bits are shorter in LUTs than through a carry chain."""
    bits = []
    for p, q in zip(x, y, strict=True):
        bits.append(p ^ q ^ carry)
        carry = (p & q) | ((p | q) & carry)
    return Cat(*bits, carry)


class Execute(wiring.Component):
    """Takes SET and EXEC instructions; see docs/architecture.md, "Arithmetic of a tile", for runs and pairs.

    SET takes one cycle. EXEC takes one cycle to start (more while it waits for a filled token, one more right behind a
    SET) and one per step, and per exponent without a plane pair; its last step waits until `drain_free` if it has
    `drain`. A step is `Config.pump` words of a pair, or the one that is left; with it come their buffer addresses and
    what the array does with them.

    The words of a run may come in any order, so the walk turns round instead of going back to a start: runs are walked
    through their pairs up (groups ascending) and down in turn, pairs through their words likewise. Then every step
    adds something to the addresses, and no start is kept:

    Of two words the address is the lower one, and the word left alone is always the highest, in either direction.

    ===============================  ============  ========  ================
    step to                          group, plane  a         w
    ===============================  ============  ========  ================
    the next words of the pair                     +-pump    the same
    the next pair of a run going up  +1, -W        +words    -W * words
    the next pair of one going down  -1, +W        -words    +W * words
    a run in the same group          0, -1         0         -words
    a run in the group below         -1, +(W - 1)  -words    +(W - 1) * words
    ===============================  ============  ========  ================

    `drain` and `open` exclude each other. Cycles do not depend on the order.

    Members
    -------
    i : In(stream of 32)
        Instructions.
    filled : In(1), take_filled : Out(1)
        A filled token is there; it is taken.
    freed : Out(1)
        Pulses with the last step of an EXEC that signals.
    drain_free : In(1), commit : Out(1)
        The drain registers may be overwritten; a tile's last step is on its way to them.
    a_address, w_address : Out
        Read addresses of row and column buffers in cycles with `read`.
    read : Out(1), second : Out(1)
        The step reads words; two of them.
    control : Out(Control), sum_weight : Out(1)
        Of the step; `last` and `drain` are meant for its last word.
    busy : Out(1)
        Between the start of an EXEC and its last step.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(32)),
                "filled": In(1),
                "take_filled": Out(1),
                "freed": Out(1),
                "drain_free": In(1),
                "commit": Out(1),
                "a_address": Out(range(config.row_depth)),
                "w_address": Out(range(config.column_depth)),
                "read": Out(1),
                "second": Out(1),
                "control": Out(Control),
                "sum_weight": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        planes = config.planes
        a_width, w_width = len(self.a_address), len(self.w_address)
        # A buffer full of words may count as none: addresses and words are modulo its depth.
        words_width = min(max(a_width, w_width), min(config.row_depth, config.column_depth).bit_length())

        words = Signal(words_width, reset_less=True)
        top_group = Signal(range(max(2, _ACTIVATION_PLANES // planes)), reset_less=True)
        top_plane = Signal(range(_WEIGHT_PLANES), reset_less=True)
        sum_code = Signal(_WEIGHT_PLANES, reset_less=True)
        # A run going down ends at this weight plane or above: PLANES - W, but not below 0.
        low_plane = Signal.like(top_plane, name="low_plane") if planes > 1 else top_plane
        a_top = Signal(a_width, reset_less=True)
        w_top = Signal(w_width, reset_less=True)

        # --- instructions ----------------------------------------------------------------------------
        field, exec_ = Signal(REGISTER), Signal(EXEC)
        running = Signal()
        settled = Signal()
        is_exec, set_, start = Signal(), Signal(), Signal()
        m.d.comb += [
            field.eq(self.i.payload),
            exec_.eq(self.i.payload),
            is_exec.eq(self.i.payload[31]),  # SET is 1, EXEC 8
            self.i.ready.eq(~running & (~is_exec | (settled & (~exec_.wait | self.filled)))),
            set_.eq(self.i.valid & ~running & ~is_exec),
            start.eq(self.i.valid & self.i.ready & is_exec),
            self.take_filled.eq(start & exec_.wait),
        ]
        m.d.sync += settled.eq(~set_)  # `group` and `plane` take a cycle to follow the registers
        with m.If(set_), m.Switch(field.reg):
            for register, target, value in (
                (ExecReg.WORDS, words, field.value),
                (ExecReg.GROUPS, top_group, field.value - 1),
                (ExecReg.PLANES, top_plane, field.value - 1),
                (ExecReg.SUM_CODE, sum_code, field.value),
                (ExecReg.A_TOP, a_top, field.value),
                (ExecReg.W_TOP, w_top, field.value),
            ):
                with m.Case(register):
                    m.d.sync += target.eq(value)
                    if register is ExecReg.PLANES and planes > 1:
                        m.d.sync += low_plane.eq(Mux(field.value[:4] > planes, field.value - planes, 0))
        open_, drain, signal = (Signal(name=n, reset_less=True) for n in ("open", "drain", "signal"))
        with m.If(~running):
            m.d.sync += [open_.eq(exec_.open), drain.eq(exec_.drain), signal.eq(exec_.signal)]

        # --- pairs: `group` and `plane` are those of the next pair -------------------------------------
        last_step = Signal()
        # The pair at work is the last of its run; of the EXEC (or nothing is at work); is none. The run goes up or, in
        # its last pair, the next run is in the group below.
        last_pair, gap, up_or_below = (Signal(name=n, reset_less=True) for n in ("last_pair", "gap", "up_or_below"))
        last_run = Signal(init=1)
        group, plane = Signal.like(top_group, name="group"), Signal.like(top_plane, name="plane")
        next_up, sum_bit = Signal(reset_less=True), Signal(reset_less=True)
        at_low, at_last, at_below, at_gap = Signal(), Signal(), Signal(), Signal()
        group_add, plane_add = Signal.like(group), Signal.like(plane)
        m.d.comb += [
            at_gap.eq(~_ripple(top_plane, ~plane, 1)[-1] if planes > 1 else 0),
            at_low.eq(_ripple(plane, ~low_plane, 1)[-1]),
            at_last.eq(Mux(next_up, (group == top_group) | (plane < planes), (group == 0) | at_low)),
            at_below.eq((group != 0) & (plane == Mux(next_up, 0, low_plane))),
            group_add.eq(Mux(at_last, -at_below, Mux(next_up, 1, -1))),
            plane_add.eq(Mux(at_last, Mux(at_below, planes - 1, -1), Mux(next_up, -planes, planes))),
        ]
        with m.If(last_run & ~start):
            m.d.sync += [group.eq(top_group), plane.eq(top_plane), next_up.eq(1)]
        with m.Elif(last_run | last_step):
            m.d.sync += [
                group.eq(_ripple(group, group_add)),
                plane.eq(_ripple(plane, plane_add)),
                next_up.eq(next_up ^ at_last),
                last_pair.eq(at_last),
                last_run.eq((group == 0) & (plane == 0)),
                gap.eq(at_gap),
                up_or_below.eq(Mux(at_last, at_below, next_up)),
                sum_bit.eq(sum_code.bit_select(plane, 1)),
            ]

        # --- steps ---------------------------------------------------------------------------------------
        a, w = Signal(a_width, reset_less=True), Signal(w_width, reset_less=True)
        # Steps of the pair from here on: two words each are counted by halves, an odd word makes one more.
        steps, odd = (words[1:], words[0]) if config.pump > 1 else (words, Const(0))
        left = Signal.like(steps, name="left", reset_less=True)
        back = Signal()  # down through the words of the pair
        first_step = Signal(reset_less=True)
        first, fresh = Signal(reset_less=True), Signal(reset_less=True)
        ending, stall, step, same_pair, one_step = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            one_step.eq(steps == Mux(odd, 0, 1)),
            ending.eq(last_step & last_run),
            stall.eq(ending & drain & ~self.drain_free),
            step.eq(running & ~stall),
            same_pair.eq(running & ~last_step),
        ]

        # The steps of the table above; x - y = x + ~y + 1.
        pair_step, run_step = Signal(), Signal()
        w_words, words_below = Signal(w_width), Signal(w_width, reset_less=True)
        m.d.sync += words_below.eq(words * (planes - 1))
        a_words, a_minus, w_minus = Signal(), Signal(), Signal()
        a_add, w_add, run_add = Signal(a_width), Signal(w_width), Signal(w_width)
        a_carry, w_carry = Signal(), Signal()
        more = same_pair if config.pump > 1 else Const(0)  # of the words in a step
        a_start, w_start = Signal(a_width), Signal(w_width)
        m.d.comb += [
            w_words.eq(words),
            pair_step.eq(last_step & ~last_pair),
            run_step.eq(last_step & last_pair & ~last_run),
            a_words.eq(last_step & (~last_pair | up_or_below)),
            a_minus.eq(Mux(last_step, last_pair | ~up_or_below, back)),
            w_minus.eq(Mux(last_step, up_or_below, back)),
            a_start.eq(sum_unless(m, platform, running, a_top, exec_.abase, name="a_start")),
            w_start.eq(sum_unless(m, platform, running, w_top, exec_.wbase, name="w_start")),
            a_add.eq(a_start | (((words & a_words.replicate(a_width)) | more) ^ a_minus.replicate(a_width))),
            a_carry.eq(Mux(a_words, a_minus, last_step | ~a_minus)),
            run_add.eq(Mux(run_step, Mux(w_minus, words_below, ~w_words), more ^ w_minus.replicate(w_width))),
            w_add.eq(w_start | (run_add ^ ((words * planes) & pair_step.replicate(w_width)))),
            w_carry.eq((w_minus ^ ~pair_step) & ~ending),
        ]
        # The last word of all adds nothing, so the addresses need no enable while it waits.
        m.d.sync += [
            a.eq(add_or_load(m, platform, a, a_add, a_carry, running, name="a")),
            w.eq(add_or_load(m, platform, w, w_add, w_carry, running, name="w")),
        ]
        with m.If(~stall):
            m.d.sync += [
                back.eq((back ^ (last_step & ~gap)) & ~ending),
                first.eq((start & ~exec_.cont) | run_step),
                left.eq(Mux(same_pair, left + same_pair.replicate(len(left)), steps)),
                last_step.eq(Mux(same_pair, left == Mux(odd, 1, 2), (start | ~last_run) & (at_gap | one_step))),
                first_step.eq(~same_pair),
            ]
        m.d.sync += running.eq(start | (running & ~(ending & ~stall)))

        m.d.comb += [
            self.busy.eq(running),
            self.a_address.eq(a),
            self.w_address.eq(w),
            self.read.eq(step & ~gap),
            self.second.eq(self.read & ~(odd & Mux(back, first_step, last_step)) & (config.pump > 1)),
            self.sum_weight.eq(sum_bit),
            self.control.valid.eq(step & ~gap),
            self.control.first.eq(step & first),
            self.control.last.eq(step & last_step & last_pair & ~(last_run & open_)),
            self.control.fresh.eq(fresh),
            self.control.drain.eq(ending & ~stall & drain),
            self.commit.eq(self.control.drain),
            self.freed.eq(ending & ~stall & signal),
        ]
        m.d.sync += fresh.eq((start & exec_.first) | (fresh & ~self.control.last))
        return m
