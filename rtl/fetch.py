"""Fetch: reads instructions in order, loops, and hands each to the queue of its engine."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.isa import Engine, Op
from .config import Config
from .delay import delay_line
from .isa import REGISTER, REPEAT
from .primitives.adders import add_or_load
from .primitives.dsp import held

__all__ = ["Fetch"]

_OPERATIONS = {
    Engine.LOAD: (Op.LOADA, Op.LOADW, Op.LOADP, Op.AWAIT),
    Engine.EXEC: (Op.EXEC,),
    Engine.STORE: (Op.STORE, Op.DONE),
}


class Fetch(wiring.Component):
    """An instruction at the start of a main memory word takes 2 + memory_lag cycles: word, dispatch (more while the
    queue is full), in which the next word is requested (more while loader or store use the main memory port). Others
    take one, dispatch, as they came with the one before. Behind a REPEAT main memory is read anew, and requested in
    the second cycle after its dispatch. HALT is dispatched when `idle` says that queues and engines are empty.

    Members
    -------
    start : In(1), entry : In(20)
        Begin at that instruction.
    request : Out(1), grant : In(1), address : Out, rdata : In
        Read of a main memory word; `rdata` comes 1 + memory_lag cycles after a cycle with request and grant.
    urgent : Out(1)
        The request goes before one of the loader: it was refused once, or follows a REPEAT or `start`. Never where a
        word holds several instructions, as fewer words are wanted then.
    access : Out(1)
        Perhaps a request: at least in cycles with `request`, and early. What is read without it goes unused.
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
                "urgent": Out(1),
                "access": Out(1),
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
        slot = pc[:slots]
        word = Signal(32, reset_less=True)
        repeat, field = Signal(REPEAT), Signal(REGISTER)
        m.d.comb += [repeat.eq(word), field.eq(word), [port.payload.eq(word) for port in self.o]]

        # --- decode ------------------------------------------------------------------------------------
        reading, dispatch, follow = Signal(), Signal(), Signal()
        others = Cat(
            held(m, platform, (self.rdata.word_select(k, 32), reading), name=f"other{k}_") for k in range(1, 1 << slots)
        )
        is_register, is_repeat, is_halt = Signal(), Signal(), Signal()
        targets = Signal(len(Engine))
        opcode = Signal(4)
        m.d.comb += [
            opcode.eq(word[28:]),
            is_register.eq((opcode == Op.SET) | (opcode == Op.ADD)),
            is_repeat.eq(opcode == Op.REPEAT),
            is_halt.eq(opcode == Op.HALT),
            self.bad_opcode.eq(dispatch & ~(targets.any() | is_repeat | is_halt)),
        ]
        for engine, operations in _OPERATIONS.items():
            m.d.comb += [
                targets[engine].eq(opcode.matches(*operations) | (is_register & (field.engine == engine))),
                self.o[engine].valid.eq(dispatch & targets[engine]),
            ]

        # --- loops: the counter of an active one holds the jumps left, that of this REPEAT included ---------
        agains = []
        for k in range(2):
            counter = Signal(13, name=f"counter{k}", reset_less=True)
            active, more = Signal(name=f"active{k}"), Signal(name=f"more{k}", reset_less=True)
            again = Signal(name=f"again{k}")
            m.d.comb += again.eq(more | (~active & (repeat.count != 0)))
            with m.If(dispatch & is_repeat & (repeat.slot == k)):
                m.d.sync += [counter.eq(Mux(active, counter + active.replicate(13), repeat.count)), active.eq(again)]
            with m.Elif(~self.running):
                m.d.sync += active.eq(0)
            m.d.sync += more.eq(active & (counter != 1))
            agains.append(again)
        jump = Signal()
        m.d.comb += jump.eq(dispatch & is_repeat & Mux(repeat.slot, agains[1], agains[0]))

        # --- program counter ---------------------------------------------------------------------------
        # `back` counts from the REPEAT itself, pc stands behind it: pc - 1 - back = pc + ~back.
        # It jumps in the cycle after the dispatch, as a counter of zero takes long to see.
        addend, turning, jumps = Signal.like(pc), Signal(), Signal()
        m.d.sync += jumps.eq(jump)
        with m.If(~self.running):
            m.d.comb += addend.eq(self.entry)
        with m.Elif(jumps):
            m.d.comb += addend.eq(Cat(~repeat.back, Const(-1, len(pc))))
        with m.If(~self.running | reading | follow | jumps):
            m.d.sync += pc.eq(add_or_load(m, platform, pc, addend, ~jumps, self.running, name="pc"))
        m.d.comb += self.address.eq(pc >> slots)
        if slots:
            with m.If(reading):
                m.d.sync += word.eq(self.rdata.word_select(slot, 32))
            with m.Elif(follow):
                m.d.sync += word.eq(Cat(Const(0, 32), others).word_select(slot, 32))
        else:
            m.d.comb += word.eq(held(m, platform, (self.rdata, reading), name="word")[0])

        # --- request, word, dispatch -------------------------------------------------------------------
        leave, halted, waiting = Signal(), Signal(), Signal()
        m.d.comb += [
            # The next word is asked for while this one goes, but behind a REPEAT, which changes the program counter.
            follow.eq(leave & ~is_repeat & slot.any()),
            self.request.eq(waiting | (leave & ~is_repeat & ~slot.any())),
            self.urgent.eq(0 if slots else waiting),
            self.access.eq(waiting | dispatch),
            leave.eq(dispatch & (is_repeat | Cat(targets[e] & self.o[e].ready for e in Engine).any())),
            halted.eq(dispatch & is_halt & self.idle),
        ]
        # It stays at that word in the cycle behind, which is when a word outside main memory shows.
        granted = delay_line(m, self.request & self.grant, max(1, config.memory_lag), "granted")
        m.d.comb += self.range_error.eq(granted[1] & ((pc >> slots)[len(self.address) :] != 0))
        m.d.sync += [
            turning.eq(leave & is_repeat),
            waiting.eq((self.start & ~self.running) | (self.request & ~self.grant) | turning),
            reading.eq(granted[config.memory_lag]),
            dispatch.eq(reading | follow | (dispatch & ~leave & ~halted)),
            self.running.eq(self.start | (self.running & ~halted)),
        ]
        return m
