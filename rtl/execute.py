"""Execute engine: walks the plane pairs of a tile in Horner order and feeds the array."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..golden.isa import ExecReg, Op
from .config import Config
from .isa import EXEC, REGISTER
from .pe import Control

__all__ = ["Execute"]


class Execute(wiring.Component):
    """Takes SET and EXEC instructions; see docs/architecture.md, "Arithmetic of a tile", for the order of words.

    SET takes one cycle. EXEC takes one cycle to start (more while it waits for a filled token) and one per word, and
    per
    exponent without a plane pair; its last word waits until `drain_free` if it has `drain`. In each cycle of a word the
    buffer addresses are out; `control` and `sum_weight` belong to the data that the buffers deliver one cycle later,
    and
    come with it.

    Members
    -------
    i : In(stream of 32)
        Instructions.
    filled : In(1), take_filled : Out(1)
        A filled token is there; it is taken.
    freed : Out(1)
        Pulses with the address of the last word of an EXEC that signals.
    drain_free : In(1), commit : Out(1)
        The drain registers may be overwritten; a tile's last word is on its way to them.
    a_address, w_address : Out
        Read addresses of row and column buffers in cycles with `read`.
    read : Out(1)
    control : Out(Control), sum_weight : Out(1)
    busy : Out(1)
        Between the start of an EXEC and its last word.
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

        word_range = range(min(config.row_depth, config.column_depth) + 1)
        registers = {
            ExecReg.WORDS: (words := Signal(word_range, reset_less=True)),
            ExecReg.GROUPS: (groups := Signal(4, reset_less=True)),
            ExecReg.PLANES: (weight_planes := Signal(4, reset_less=True)),
            ExecReg.SUM_CODE: (sum_code := Signal(8, reset_less=True)),
            ExecReg.A_TOP: (a_top := Signal(a_width, reset_less=True)),
            ExecReg.W_TOP: (w_top := Signal(w_width, reset_less=True)),
        }
        opcode = self.i.payload[28:]
        field = Signal(REGISTER)
        exec_ = Signal(EXEC)
        m.d.comb += [field.eq(self.i.payload), exec_.eq(self.i.payload)]

        running = Signal()
        fresh = Signal(reset_less=True)
        open_, drain, signal, cont = (Signal(name=n, reset_less=True) for n in ("open", "drain", "signal", "cont"))
        # The first pair of the run and the pair at work: group, weight plane, word. A negative plane is an exponent
        # without a pair (planes > weight planes).
        exponent = Signal(5, reset_less=True)
        run_group, group = Signal(4, reset_less=True), Signal(4, reset_less=True)
        run_plane, plane = Signal(signed(5), reset_less=True), Signal(signed(5), reset_less=True)
        run_a, a = Signal(a_width, reset_less=True), Signal(a_width, reset_less=True)
        run_w, pair_w, w = (Signal(w_width, name=n, reset_less=True) for n in ("run_w", "pair_w", "w"))
        word = Signal(word_range, reset_less=True)
        first_pair = Signal(reset_less=True)

        gap, last_word, last_pair, last_run, stall, step = (Signal(name=n) for n in (
            "gap", "last_word", "last_pair", "last_run", "stall", "step"))  # fmt: skip
        m.d.comb += [
            gap.eq(run_plane < 0),
            last_word.eq(gap | (word == words - 1)),
            last_pair.eq(gap | (group == groups - 1) | (plane < planes)),
            last_run.eq(exponent == 0),
            stall.eq(last_word & last_pair & last_run & drain & ~self.drain_free),
            step.eq(running & ~stall),
        ]

        next_control = Signal(Control)
        m.d.comb += [
            self.busy.eq(running),
            self.a_address.eq(a),
            self.w_address.eq(w),
            self.read.eq(step & ~gap),
            next_control.valid.eq(step & ~gap),
            next_control.first.eq(step & (gap | (first_pair & (word == 0) & ~cont))),
            next_control.last.eq(step & last_word & last_pair & ~(last_run & open_)),
            next_control.fresh.eq(fresh),
            next_control.drain.eq(next_control.last & last_run & drain),
            self.commit.eq(next_control.drain),
            self.freed.eq(step & last_word & last_pair & last_run & signal),
        ]
        m.d.sync += [self.control.eq(next_control), self.sum_weight.eq(sum_code.bit_select(plane[:3], 1))]

        with m.If(~running), m.Switch(opcode):
            with m.Case(Op.SET):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid), m.Switch(field.reg):
                    for register, target in registers.items():
                        with m.Case(register):
                            m.d.sync += target.eq(field.value)
            with m.Case(Op.EXEC):
                m.d.comb += self.i.ready.eq(~exec_.wait | self.filled)
                with m.If(self.i.valid & self.i.ready):
                    a_start = (exec_.abase + a_top)[:a_width]
                    w_start = (exec_.wbase + w_top)[:w_width]
                    m.d.comb += self.take_filled.eq(exec_.wait)
                    m.d.sync += [
                        running.eq(1),
                        fresh.eq(fresh | exec_.first),
                        cont.eq(exec_.cont),
                        open_.eq(exec_.open),
                        drain.eq(exec_.drain),
                        signal.eq(exec_.signal),
                        exponent.eq(planes * (groups - 1) + weight_planes - 1),
                        run_group.eq(groups - 1),
                        group.eq(groups - 1),
                        run_plane.eq(weight_planes - 1),
                        plane.eq(weight_planes - 1),
                        run_a.eq(a_start),
                        a.eq(a_start),
                        run_w.eq(w_start),
                        pair_w.eq(w_start),
                        w.eq(w_start),
                        word.eq(0),
                        first_pair.eq(1),
                    ]
        # The next run starts one group lower if that group's plane exists, else one weight plane lower.
        lower = Signal()
        next_plane = Signal(signed(5))
        next_a = Signal(a_width)
        next_w = Signal(w_width)
        m.d.comb += [
            lower.eq((run_group != 0) & (run_plane + (planes - 1) < weight_planes)),
            next_plane.eq(Mux(lower, run_plane + (planes - 1), run_plane - 1)),
            next_a.eq(Mux(lower, run_a - words, run_a)),
            next_w.eq(Mux(lower, run_w + (planes - 1) * words, run_w - words)),
        ]
        with m.If(step):
            m.d.sync += [word.eq(word + 1), a.eq(a + 1), w.eq(w + 1)]
            with m.If(last_word):
                m.d.sync += [word.eq(0), first_pair.eq(0)]
                m.d.sync += [
                    group.eq(group + 1),
                    plane.eq(plane - planes),
                    pair_w.eq(pair_w - planes * words),
                    w.eq(pair_w - planes * words),
                ]
                with m.If(last_pair):
                    m.d.sync += [cont.eq(0), exponent.eq(exponent - 1), first_pair.eq(1)]
                    m.d.sync += [run_group.eq(run_group - lower), group.eq(run_group - lower)]
                    m.d.sync += [run_plane.eq(next_plane), plane.eq(next_plane)]
                    m.d.sync += [run_a.eq(next_a), a.eq(next_a)]
                    m.d.sync += [run_w.eq(next_w), pair_w.eq(next_w), w.eq(next_w)]
                    with m.If(next_control.last):
                        m.d.sync += fresh.eq(0)
                    with m.If(last_run):
                        m.d.sync += running.eq(0)
        return m
