"""Fetch: reads instructions in order, loops, and hands each to the queue of its engine."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.isa import Engine, Op
from .config import Config
from .isa import REGISTER, REPEAT

__all__ = ["Fetch"]

_ENGINE_OF = {
    Op.LOADA: Engine.LOAD,
    Op.LOADW: Engine.LOAD,
    Op.LOADP: Engine.LOAD,
    Op.AWAIT: Engine.LOAD,
    Op.EXEC: Engine.EXEC,
    Op.STORE: Engine.STORE,
    Op.DONE: Engine.STORE,
}


class Fetch(wiring.Component):
    """Three cycles per instruction: request (more while loader or store use the main memory port), word, dispatch
    (more while
    the queue is full). REPEAT is dispatched in one cycle, HALT when `idle` says that queues and engines are empty.

    Members
    -------
    start : In(1), entry : In(20)
        Begin at that instruction.
    request : Out(1), grant : In(1), address : Out, rdata : In
        Read of a main memory word.
    o : Out(stream of 32) per engine
    idle : In(1)
    running : Out(1)
        From the cycle after `start` to HALT or an error.
    bad_opcode, range_error : Out(1)
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "entry": In(20),
                "request": Out(1),
                "grant": In(1),
                "address": Out(range(config.mem_depth)),
                "rdata": In(config.mem_width),
                "o": Out(stream.Signature(32)).array(len(Engine)),
                "idle": In(1),
                "running": Out(1),
                "bad_opcode": Out(1),
                "range_error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        slots = exact_log2(config.mem_width // 32)

        pc = Signal(min(20, len(self.address) + slots + 1), reset_less=True)
        word = Signal(32, reset_less=True)
        opcode = word[28:]
        repeat, field = Signal(REPEAT), Signal(REGISTER)
        counters = [Signal(13, name=f"counter{k}") for k in range(2)]
        m.d.comb += [
            repeat.eq(word),
            field.eq(word),
            self.address.eq(pc >> slots),
            [port.payload.eq(word) for port in self.o],
        ]

        # `back` counts from the REPEAT itself, pc stands behind it: pc - 1 - back = pc + ~back.
        jump = Signal()
        next_pc = Signal.like(pc)
        m.d.comb += next_pc.eq(pc + Mux(jump, Cat(~repeat.back, Const(-1, len(pc))), 1))

        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [pc.eq(self.entry), self.running.eq(1), Cat(counters).eq(0)]
                m.next = "request"
            with m.State("request"):
                m.d.comb += [
                    self.request.eq(1),
                    self.range_error.eq((pc >> slots)[len(self.address) :] != 0),
                ]
                with m.If(self.grant):
                    m.next = "word"
            with m.State("word"):
                m.d.sync += [word.eq(self.rdata.word_select(pc[:slots], 32)), pc.eq(next_pc)]
                m.next = "dispatch"
            with m.State("dispatch"):
                m.d.comb += jump.eq(1)
                with m.Switch(opcode):
                    with m.Case(Op.SET, Op.ADD), m.Switch(field.engine):
                        for engine in Engine:
                            with m.Case(engine):
                                m.d.comb += self.o[engine].valid.eq(1)
                                with m.If(self.o[engine].ready):
                                    m.next = "request"
                        with m.Default():
                            m.d.comb += self.bad_opcode.eq(1)
                    for op, engine in _ENGINE_OF.items():
                        with m.Case(op):
                            m.d.comb += self.o[engine].valid.eq(1)
                            with m.If(self.o[engine].ready):
                                m.next = "request"
                    with m.Case(Op.REPEAT):
                        for k, counter in enumerate(counters):
                            with m.If(repeat.slot == k):
                                with m.If(counter == repeat.count):
                                    m.d.sync += counter.eq(0)
                                with m.Else():
                                    m.d.sync += [counter.eq(counter + 1), pc.eq(next_pc)]
                        m.next = "request"
                    with m.Case(Op.HALT), m.If(self.idle):
                        m.d.sync += self.running.eq(0)
                        m.next = "idle"
                    with m.Default():
                        m.d.comb += self.bad_opcode.eq(1)
        return m
