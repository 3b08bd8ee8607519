"""Engine: fetch, loader, execute, array and store around one main memory port."""

from itertools import accumulate

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.isa import Engine as Unit
from .array import Array
from .buffer import Buffer
from .config import Config
from .delay import delay_line
from .execute import Execute
from .feed import Feed
from .fetch import Fetch
from .ladder_memory import LadderMemory
from .loader import Loader
from .memory import MemorySignature
from .phase import Phase
from .primitives.dsp import counter
from .primitives.family import family_of
from .primitives.ice40 import lut4
from .queue import Queue
from .recode import chunk_width, recode, recode_chunk
from .relay import Relay
from .store import Store

__all__ = ["Engine", "WATCHDOG_CYCLES"]

WATCHDOG_CYCLES = 1 << 20
"""A run is looked at once in so many cycles; if no instruction was dispatched or taken since, that is an error."""

_TOKENS = 64
_GROUP = 4
"""Buffers that share a register on the way from the loader."""
_WAY = 4
"""Registers on the way of the phase of the clock to who asks for it, an even number."""


def _split(value: Value, *widths: int) -> list[Value]:
    """The parts of a `Cat`, lowest first."""
    ends = list(accumulate(widths))
    return [value[end - width : end] for end, width in zip(ends, widths, strict=True)]


class Engine(wiring.Component):
    """Runs a program that stands in main memory.

    The main memory port belongs to the engine while `busy`; in it, store goes before loader, loader before fetch, but
    an urgent request of fetch before loader: while a long load runs, the instructions behind it must come, too.

    Parameters
    ----------
    config : Config
    family : str or None
        Structure of the array, see `PE`; None: that of the platform.

    Members
    -------
    start : In(1), entry : In(20)
        Start at that instruction; ignored while busy.
    abort : In(1)
        Back to idle in the cycle after the next one, whatever is going on; with `Config.stages` one later.
    busy : Out(1)
    error : Out(4)
        0 none, 1 bad opcode, 2 address out of range, 3 watchdog; stays until the next start.
    cycles : Out(32)
        Cycles with `busy` of the run going on, or of the last one.
    mem : Out(MemorySignature)
    drain_valid : Out(1), drain_data : Out((columns + 1) * acc_width)
        Trace of the drain: one row of a tile, sum column (or zeros) highest, in the first cycle in which the store
        engine takes it.
    """

    def __init__(self, config: Config, family: str | None = None):
        self.config = config
        self.family = family
        super().__init__(
            {
                "start": In(1),
                "entry": In(20),
                "abort": In(1),
                "busy": Out(1),
                "error": Out(4),
                "cycles": Out(32),
                "mem": Out(MemorySignature(config)),
                "drain_valid": Out(1),
                "drain_data": Out((config.columns + 1) * config.acc_width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        stages = config.stages
        begin, failed, halt = Signal(), Signal(), Signal()
        m.d.comb += begin.eq(self.start & ~self.busy)
        m.d.sync += halt.eq(failed | self.abort)

        def relayed(value, name: str, *, domain: str = "sync"):
            """The value, a register away where ways are long."""
            if not stages:
                return value
            m.submodules[f"relay_{name}"] = DomainRenamer(domain)(relay := Relay(len(Value.cast(value))))
            m.d.comb += relay.i.eq(value)
            return relay.o

        halted = relayed(halt, "halt")
        resets = {}
        if config.pump > 1:
            m.submodules.phase = phase = Phase()
            resets["fast"] = phase.reset
            m.d.comb += phase.clear.eq(halt)

        def reset(component, name: str):
            return ResetInserter(resets | {"sync": relayed(halt, f"reset_{name}")})(component)

        m.submodules.fetch = reset(fetch := Fetch(config), "fetch")
        m.submodules.loader = reset(loader := Loader(config), "loader")
        m.submodules.execute = reset(execute := Execute(config), "execute")
        family = self.family or family_of(platform)
        m.submodules.feed = reset(feed := Feed(config), "feed")
        m.submodules.array = reset(DomainRenamer(config.array_domain)(array := Array(config, family)), "array")
        m.submodules.store = reset(store := Store(config), "store")
        queues = [Queue(32, config.queue_depth) for _ in Unit]
        for unit, queue, target in zip(Unit, queues, (loader, execute, store), strict=True):
            name = f"queue_{unit.name.lower()}"
            m.submodules[name] = reset(queue, name)
            wiring.connect(m, fetch.o[unit], queue.i)
            wiring.connect(m, queue.o, target.i)

        # --- tokens ------------------------------------------------------------------------------
        def token(name: str, give, take):
            # Those up to the cycle before, what came and went in it, and whether there is one: that of the cycle going
            # on is known late.
            before = Signal(range(_TOKENS), name=f"{name}_tokens")
            given, taken, some = (Signal(name=f"{name}_{n}") for n in ("given", "taken", "some"))
            two = before[2:].any() | (before[1] & (before[0] | given | ~taken)) | (before[0] & given & ~taken)
            there = lut4(
                m, platform, lambda give, two, some, take: give | two | (some & ~take), give, two, some, take,
                name=f"{name}_there",
            )  # fmt: skip
            m.d.sync += [
                before.eq(before + given - taken),
                Cat(given, taken).eq(Cat(give, take)),
                some.eq(there),
            ]
            with m.If(begin):
                m.d.sync += Cat(before, given, taken, some).eq(0)
            return some

        freed = delay_line(m, execute.freed, config.free_lag, "freed")[-1]
        filled = delay_line(m, loader.filled, config.write_lag, "filled")
        with m.If(begin):
            m.d.sync += [tap.eq(0) for tap in filled[1:]]
        m.d.comb += [
            execute.filled.eq(token("filled", filled[-1], execute.take_filled)),
            loader.freed.eq(token("freed", freed, loader.take_freed)),
            loader.done.eq(token("done", store.done, loader.take_done)),
        ]

        # --- array, buffers, drain -----------------------------------------------------------------
        for name in ("first", "second", "pair", "control"):
            m.d.comb += getattr(feed, name).eq(getattr(execute, name))
        domain = config.array_domain
        # Operands enter the buffers in the form that the PEs of the family take.
        lane_word = Signal(config.lanes)
        m.d.comb += lane_word.eq(recode(loader.wdata, config, family=family))
        row_data, copies = lane_word, 1
        if config.planes > 1:  # the loader has one chunk of all planes, which stands at every place of the word
            row_data, copies = recode_chunk(m, platform, loader.row_data, config, family), config.chunks_per_lanes

        def last_at(name: str):
            """`Phase.last` at some place on a long way."""
            last = phase.last
            for k in range(_WAY):
                last = relayed(last, f"last_{name}_{k}", domain="fast")
            return last

        for r in range(config.rows):
            if r % _GROUP == 0:
                data = relayed(row_data, f"rows_{r}")
            m.submodules[f"row_buffer_{r}"] = buffer = Buffer(
                width=len(array.a[r]), depth=config.row_depth, granule=chunk_width(config, family), stages=stages,
                behind=max(0, stages - 1), registered=config.registered_buffers, copies=copies, read_domain=domain,
            )  # fmt: skip
            port = feed.a[r // config.hop]
            m.d.comb += [
                buffer.read.eq(port.read),
                buffer.read_address.eq(port.address),
                Cat(buffer.write, buffer.write_address).eq(
                    relayed(Cat(loader.row[r].enable, loader.row[r].address), f"row_{r}")
                ),
                buffer.write_data.eq(data),
                array.a[r].eq(buffer.read_data),
            ]
        for p, c in enumerate(order := config.column_order):
            if p % _GROUP == 0:
                enables = Cat(loader.column_enable[k] for k in order[p : p + _GROUP])
                together = relayed(Cat(enables, loader.column_address, lane_word), f"columns_{p}")
                enables, address, data = _split(together, len(enables), len(loader.column_address), len(lane_word))
            m.submodules[f"column_buffer_{p}"] = buffer = Buffer(
                width=config.lanes, depth=config.column_depth, stages=stages, registered=config.registered_buffers,
                read_domain=domain,
            )  # fmt: skip
            port = feed.w[p // config.hop]
            m.d.comb += [
                buffer.read.eq(port.read),
                buffer.read_address.eq(port.address),
                buffer.write.eq(enables[p % _GROUP]),
                buffer.write_address.eq(address),
                buffer.write_data.eq(data),
                array.w[c].eq(buffer.read_data),
            ]
        line_words = config.line_words
        together = relayed(Cat(loader.ladder_enable, loader.ladder_address, loader.wdata[:32]), "ladders")
        ladder_enable, lane, place, ladder_word = _split(
            together, len(loader.ladder_enable), exact_log2(config.ladders),
            len(loader.ladder_address) - exact_log2(config.ladders), 32,
        )  # fmt: skip
        for p in range(config.ladders):
            m.submodules[f"ladder_memory_{p}"] = memory = LadderMemory(config)
            if config.few_rams:
                m.d.comb += memory.last.eq(last_at(f"ladder_{p}"))
            m.d.comb += [
                Cat(memory.read, memory.read_address).eq(
                    relayed(Cat(store.ladder_read, store.ladder_address), f"parameters_{p}")
                ),
                memory.write.eq(Mux(lane == p, ladder_enable[:line_words], 0)),
                memory.write_address.eq(place),
                memory.write_data.eq(ladder_word),
                store.ladder_data.word_select(p, 32 * line_words).eq(memory.read_data),
            ]
        if config.corrections:
            late = ladder_enable[line_words:]
            late_word = Cat(Cat(late[word] for word in range(8) if word >> k & 1).any() for k in range(3))
            for p in range(config.ladders):
                m.submodules[f"correction_memory_{p}"] = memory = Buffer(
                    width=32, depth=8 * config.ladder_depth // config.ladders, stages=stages
                )
                m.d.comb += [
                    memory.read.eq(store.late_read[p]),
                    memory.read_address.eq(store.late_address[p]),
                    memory.write.eq(late.any() & (lane == p)),
                    memory.write_address.eq(Cat(late_word, place)),
                    memory.write_data.eq(ladder_word),
                    store.late_word[p].eq(memory.read_data),
                ]
        # Once for each column modulo `ladders`, then for the sum column.
        shift = delay_line(m, Cat(store.shift, store.shift_sum), stages, "shift")[-1]
        shifts = [shift[0]] * config.ladders + [shift[1]]
        if config.pump > 1:
            # Once per cycle of the engine, which has the whole of it to say so.
            m.d.comb += feed.last.eq(last_at("feed") if stages else phase.last)
            if stages:
                for k, bit in enumerate(shifts):
                    shifts[k] = relayed(bit & last_at(f"shift_{k}"), f"shift_{k}", domain="fast")
            else:
                # PEs of the columns have a register for it, which takes it in the middle of the cycle: half a cycle of
                # `sync` is all this way has, which constraints and reports have to know.
                m.submodules.half_shift = half_shift = Relay(1)
                m.d.comb += half_shift.i.eq(store.shift_next)
                first_half = Signal(reset_less=True)  # undefined in the first cycles, when no tile can be there yet
                m.d.fast += first_half.eq(phase.last)
                shifts = [half_shift.o & first_half] * config.ladders + [shift[1] & ~first_half]
        drained = delay_line(m, array.o, stages, "drained", reset_less=True)[-1]
        sums = array.o[-config.acc_width :] & store.with_sum.replicate(config.acc_width)
        sums = delay_line(m, sums, max(0, stages - 1), "sums", reset_less=True)[-1]
        m.d.comb += [at_ladder.eq(relayed(sums, f"sums_{p}")) for p, at_ladder in enumerate(store.sums)]
        draining, tile_ready = Signal(), Signal()
        ready = array.ready
        if stages:
            # Control words on long ways have no reset: those of a run that was stopped pass meanwhile.
            flight = config.drain_latency + 1
            passing, heed = Signal(range(flight + 1), init=flight), Signal()
            m.d.sync += [passing.eq(passing - passing.any()), heed.eq(passing == 0)]
            with m.If(halted):
                m.d.sync += [passing.eq(flight), heed.eq(0)]
            ready &= heed
        if config.pump > 1:
            # It comes in two cycles of the array, one of which is the last of a cycle of the engine.
            heeded, ready = ready, Signal(name="ready")
            with m.If(last_at("ready")):
                m.d.fast += ready.eq(heeded)
        m.d.comb += [
            array.control.eq(feed.array_control),
            Cat(array.shift, array.shift_sum).eq(Cat(shifts)),
            array.sum_weight.eq(feed.array_sum_weight),
            execute.drain_free.eq(~draining),
            store.tile_ready.eq(Cat(tile_ready, ready if config.pump > 1 else 0)),
            store.drained.eq(drained[: len(store.drained)]),
            self.drain_valid.eq(store.row_start),
            self.drain_data.eq(drained),
        ]
        m.d.sync += [
            draining.eq((draining | execute.commit) & ~store.release),
            tile_ready.eq((tile_ready | ready) & ~store.take_tile),
        ]
        with m.If(begin):
            m.d.sync += [draining.eq(0), tile_ready.eq(0)]

        # --- main memory port --------------------------------------------------------------------
        store_bits = exact_log2(config.granules_per_word)
        writes = Signal()  # and so nobody reads
        write_address = store.address >> store_bits
        if config.mem_ports > 1:
            m.d.comb += self.mem.waddr.eq(write_address)
        else:
            m.d.comb += writes.eq(store.write)
        with m.If(writes):
            m.d.comb += self.mem.addr.eq(write_address)
        with m.Elif(loader.request & ~fetch.urgent):
            m.d.comb += self.mem.addr.eq(loader.address)
        with m.Else():
            m.d.comb += self.mem.addr.eq(fetch.address)
        m.d.comb += [
            loader.hindered.eq(Cat(writes, fetch.urgent)),
            fetch.grant.eq(~writes & (fetch.urgent | ~loader.request)),
            loader.rdata.eq(self.mem.rdata),
            fetch.rdata.eq(self.mem.rdata),
            self.mem.en.eq(writes | loader.request | fetch.access),
            self.mem.we.eq(Mux(store.write, store.we, 0)),
            self.mem.wdata.eq(store.wdata),
        ]

        # --- run, stop, errors --------------------------------------------------------------------
        m.d.comb += self.cycles.eq(counter(m, platform, self.busy, begin, name="cycle"))
        alive, progressed, taken = Signal(), Signal(), Signal(len(queues))
        m.d.sync += taken.eq(Cat(queue.o.valid & queue.o.ready for queue in queues))
        progress = Cat(queue.i.valid & queue.i.ready for queue in queues).any() | taken.any()
        # The bit below the period falls when it ends; it may fall at `begin`, too.
        high, bark = Signal(), Signal()
        m.d.sync += high.eq(self.cycles[exact_log2(WATCHDOG_CYCLES) - 1] & self.busy)
        m.d.comb += bark.eq(high & ~self.cycles[exact_log2(WATCHDOG_CYCLES) - 1])
        m.d.sync += [progressed.eq(progress), alive.eq((alive & ~bark) | progressed)]
        store_range = store.write & (store.address[store_bits + len(self.mem.addr) :] != 0)
        m.d.comb += [
            fetch.start.eq(begin),
            fetch.entry.eq(self.entry),
            fetch.idle.eq(~(Cat(queue.o.valid for queue in queues).any() | loader.busy | execute.busy | store.busy)),
            self.busy.eq(fetch.running),
        ]
        # Registers in front of the decision and, a reset in the cycle after it, behind it, so that no path leads from
        # one engine through it to another.
        bad_opcode, bad_range = Signal(), Signal()
        m.d.sync += [
            bad_opcode.eq(fetch.bad_opcode & self.busy & ~halt),
            bad_range.eq((fetch.range_error | loader.range_error | store_range) & self.busy & ~halt),
        ]
        with m.If(begin):
            m.d.sync += self.error.eq(0)
        with m.Elif(self.busy & ~halt):
            with m.If(bad_opcode):
                m.d.sync += self.error.eq(1)
                m.d.comb += failed.eq(1)
            with m.Elif(bad_range):
                m.d.sync += self.error.eq(2)
                m.d.comb += failed.eq(1)
            with m.Elif(bark & ~alive):
                m.d.sync += self.error.eq(3)
                m.d.comb += failed.eq(1)
        return m
