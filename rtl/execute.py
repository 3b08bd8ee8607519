"""Execute engine: walks the plane pairs of a tile in Horner order and feeds the array."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..golden.isa import ExecReg
from .config import Config
from .control import Control, access_layout
from .isa import EXEC, REGISTER
from .primitives.adders import add_or_load
from .primitives.ice40 import lut4
from .turns import GROUPS, PLANES, Turns

__all__ = ["Execute"]


class Execute(wiring.Component):
    """Takes SET and EXEC instructions; see docs/architecture.md, "Arithmetic of a tile", for runs and pairs.

    SET takes one cycle. EXEC takes one cycle to start (more while it waits for a filled token, one more right behind a
    SET) and one per step, and per exponent without a plane pair; its last step waits until `drain_free` if it has
    `drain`. With each step come the buffer addresses of its words and what the array does with them.

    A *turn* goes through the words of a pair; with `pump` = 2 a step takes two of them, or the one that is left, which
    is always the highest. With W = 1 no word is left alone if the run has another pair: where the number of words is
    odd, a turn goes through two neighbouring pairs of a run, *twins*, side by side, a word of each per step.

    The words of a run may come in any order, so the walk turns round instead of going back to a start: a turn up
    through the words, then one down, as runs go up and down through their pairs (`rtl/turns.py`). Then every step adds
    something to the addresses, and no start is kept: within a turn 1 for twins, else `pump`, up or down (of two words
    of a pair the address is the lower one); behind it STRIDE times the step in group (a) and WORDS times that in weight
    plane (w).

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
    first, second : Out(access_layout(config))
        Of the words of the step; with `pump` = 1 there is no second one.
    pair : Out(1)
        The step has two words; also said where it has to wait and has none, which is known later.
    control : Out(Control)
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
                "first": Out(access_layout(config)),
                "second": Out(access_layout(config)),
                "pair": Out(1),
                "control": Out(Control),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        planes = config.planes
        a_width, w_width = len(self.first.a), len(self.first.w)
        # A buffer full of words may count as none: addresses and words are modulo its depth.
        words_width = min(max(a_width, w_width), min(config.row_depth, config.column_depth).bit_length())

        words = Signal(words_width, reset_less=True)
        stride = Signal(a_width, reset_less=True)
        top_group = Signal(range(max(2, GROUPS // planes)), reset_less=True)
        top_plane = Signal(range(PLANES), reset_less=True)
        sum_code = Signal(PLANES, reset_less=True)
        # A run going down from this exponent or below ends in group 0: max(PLANES, W) - 1.
        low_top = Signal.like(top_plane, name="low_top") if planes > 1 else top_plane

        # --- instructions ----------------------------------------------------------------------------
        field, exec_ = Signal(REGISTER), Signal(EXEC)
        running = Signal()
        settled = Signal()
        is_exec, set_, served, start = Signal(), Signal(), Signal(), Signal()
        may_start = lut4(
            m, platform, lambda valid, is_exec, running, settled: valid & is_exec & ~running & settled, self.i.valid,
            is_exec, running, settled, name="may_start",
        )  # fmt: skip
        m.d.comb += [
            field.eq(self.i.payload),
            exec_.eq(self.i.payload),
            is_exec.eq(self.i.payload[31]),  # SET is 1, EXEC 8
            self.i.ready.eq(~running & (~is_exec | (settled & served))),
            set_.eq(self.i.valid & ~running & ~is_exec),
            # A token that it waits for is there, or it waits for none.
            served.eq(~exec_.wait | self.filled),
            start.eq(may_start & served),
            self.take_filled.eq(start & exec_.wait),
        ]
        m.d.sync += settled.eq(~set_)  # `exponent`, `plane` and `one_step` take a cycle to follow the registers
        with m.If(set_), m.Switch(field.reg):
            for register, target, value in (
                (ExecReg.WORDS, words, field.value),
                (ExecReg.STRIDE, stride, field.value),
                (ExecReg.GROUPS, top_group, field.value - 1),
                (ExecReg.PLANES, top_plane, field.value - 1),
                (ExecReg.SUM_CODE, sum_code, field.value),
            ):
                with m.Case(register):
                    m.d.sync += target.eq(value)
                    if register is ExecReg.PLANES and planes > 1:
                        m.d.sync += low_top.eq(Mux(field.value[:4] > planes, field.value, planes) - 1)
        open_, drain, signal = (Signal(name=n, reset_less=True) for n in ("open", "drain", "signal"))
        with m.If(~running):
            m.d.sync += [open_.eq(exec_.open), drain.eq(exec_.drain), signal.eq(exec_.signal)]

        # --- turns -----------------------------------------------------------------------------------
        # An odd word leaves room in its step for one of the next pair.
        odd = words[0] if config.pump > 1 else Const(0)
        last_step, ending, may_end, stall = (Signal(name=n) for n in ("last_step", "ending", "may_end", "stall"))
        m.submodules.turns = turns = Turns(config)
        m.d.comb += [
            turns.top_group.eq(top_group),
            turns.top_plane.eq(top_plane),
            turns.low_top.eq(low_top),
            turns.sum_code.eq(sum_code),
            turns.odd.eq(odd),
            turns.start.eq(Cat(may_start, served)),
            turns.step_on.eq(last_step),
            turns.renew.eq(running | ~settled),
            ending.eq(last_step & turns.last_run),
            may_end.eq(~drain | self.drain_free),
            stall.eq(ending & ~may_end),
        ]

        # --- steps of a turn ---------------------------------------------------------------------------
        # Two words of a pair at a time, and an odd one; or one of each twin.
        steps = words[1:] if config.pump > 1 else words
        left = Signal(len(words), reset_less=True)
        back = Signal()  # down through the words
        first_step, same_turn = Signal(reset_less=True), Signal()
        # The step at work is the last but one of its turn; a turn that has pairs has one step.
        one_left, one_step = Signal(), Signal(reset_less=True)
        m.d.sync += one_step.eq(steps == Mux(odd, 0, 1))
        m.d.comb += [
            same_turn.eq(running & ~last_step),
            one_left.eq(Mux(odd, left == 1, left[: len(steps)] == 2)),  # behind this step; full buffers are 0 steps
        ]
        with m.If(~stall):
            m.d.sync += [
                left.eq(Mux(same_turn, left + same_turn.replicate(len(left)), steps << turns.next_twins)),
                first_step.eq(~same_turn),
            ]
        # Behind the last step of a turn: the next turn's first step is its last one, or this one waits.
        behind = lut4(
            m, platform, lambda last_run, may_end, gap, one: (last_run & ~may_end) | (~last_run & (gap | one)),
            turns.last_run, may_end, turns.next_gap, one_step, name="behind",
        )  # fmt: skip
        next_is_last = lut4(
            m, platform, lambda last, behind, running, one: (last & behind) | (~last & running & one), last_step,
            behind, running, one_left, name="next_is_last",
        )  # fmt: skip
        # No enables: with a reset these are ORs of both.
        m.d.sync += [
            back.eq(
                lut4(
                    m, platform, lambda back, turn, ending, stall: ((back ^ turn) & ~ending) | (stall & back), back,
                    last_step & ~turns.gap, ending, stall, name="next_back",
                )
            ),
            # Or the first turn of another EXEC comes to its last step. That it starts comes late.
            last_step.eq(
                lut4(
                    m, platform, lambda this, begins_last, may, served: this | (begins_last & may & served),
                    next_is_last, turns.next_gap | one_step, may_start, served, name="next_last_step",
                )
            ),
        ]  # fmt: skip

        # --- addresses ---------------------------------------------------------------------------------
        a, w = Signal(a_width, reset_less=True), Signal(w_width, reset_less=True)
        # What is added: behind a turn its step, else the way to the next words, or what a start loads. An EXEC never
        # starts in a last step, so these two share one choice, and `running` tells them apart.
        two_on = ~turns.twins if config.pump > 1 else Const(0)
        for address, top, apart, step, sizes, name in (
            (a, exec_.atop, stride, turns.group_step, turns.group_sizes, "a"),
            (w, exec_.wtop, words, turns.plane_step, turns.plane_sizes, "w"),
        ):
            n = len(address)
            chosen = []
            for has_size, size in zip(step, sizes, strict=False):
                multiple = apart * size
                if size & (size - 1):
                    multiple = Signal(n, name=f"{name}_{size}", reset_less=True)
                    m.d.sync += multiple.eq(apart * size)
                chosen.append(Cat(Mux(has_size, multiple, 0), Const(0, n))[:n])
            down = step[-1]
            # Behind a turn: two sizes, and what is left, turned round, are a LUT of each bit.
            two, turned = reduce(or_, chosen[:2]), reduce(or_, chosen[2:], Const(0, n)) ^ down.replicate(n)
            within = Mux(running, Cat(two_on, Const(0, n - 1)) ^ back.replicate(n), top)
            addend = Cat(
                lut4(
                    m, platform, lambda last, two, turned, within: (last & (two ^ turned)) | (~last & within),
                    last_step, *bits, name=f"{name}_addend",
                )
                for bits in zip(two, turned, within[:n], strict=True)
            )  # fmt: skip
            # The last word of all adds nothing, so the addresses need no enable while it waits.
            carry = Mux(last_step, down, ~back)
            m.d.sync += address.eq(add_or_load(m, platform, address, addend, carry, running, name=name))

        # The next word of the pair, or the same one of the other twin: a group further, and a plane the other way.
        if config.pump > 1:
            for address, second, apart, minus, name in (
                (a, self.second.a, stride, ~turns.up, "a"),
                (w, self.second.w, words, turns.up, "w"),
            ):
                n = len(address)
                beside = Mux(turns.twins, Cat(apart, Const(0, n))[:n] ^ minus.replicate(n), 0)
                carry = ~turns.twins | minus
                m.d.comb += second.eq(add_or_load(m, platform, address, beside, carry, Const(1), name=f"{name}_second"))

        # --- what the step does --------------------------------------------------------------------------
        step, read, alone = Signal(), Signal(), Signal()
        first_of_run, fresh = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(~stall):
            m.d.sync += first_of_run.eq((start & ~exec_.cont) | (last_step & turns.last & ~turns.last_run))
        m.d.sync += [
            running.eq(start | (running & ~(ending & may_end))),
            fresh.eq((start & exec_.first) | (fresh & ~self.control.last)),
        ]
        m.d.comb += [
            step.eq(running & ~stall),
            read.eq(step & ~turns.gap),
            alone.eq(odd & ~turns.twins & Mux(back, first_step, last_step)),
            Cat(self.first.read, self.first.a, self.first.w, self.first.sum).eq(Cat(read, a, w, turns.sums[0])),
            self.second.read.eq(read & ~alone & (config.pump > 1)),
            self.pair.eq(running & ~turns.gap & ~alone & (config.pump > 1)),
            self.second.sum.eq(turns.sums[1]),
            self.control.valid.eq(read),
            self.control.first.eq(step & first_of_run),
            self.control.last.eq(running & last_step & turns.last & ~(turns.last_run & (open_ | ~may_end))),
            self.control.fresh.eq(fresh),
            self.control.drain.eq(ending & may_end & drain),
            self.commit.eq(self.control.drain),
            self.freed.eq(ending & may_end & signal),
            self.busy.eq(running),
        ]
        return m
