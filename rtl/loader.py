"""Loader: main memory to row buffers (patches), column buffers (weights) and ladder memory."""

from functools import reduce
from operator import and_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.enum import Enum
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.isa import LoadReg, Op
from .aligner import Aligner
from .config import Config
from .delay import delay_line
from .isa import LOADA, LOADP, REGISTER
from .placer import BufferWrite, Placer, step_layout
from .primitives.adders import increment
from .primitives.dsp import held
from .primitives.ice40 import lut4

__all__ = ["Loader"]


class _Origin(Enum, shape=2):
    """What the address of the next step is counted from."""

    UNIT = 0
    """The unit before."""
    ROW = 1
    """The start of the kernel row before, or ACT."""
    VALID = 2
    """VALID_ADDR."""
    CONSTANTS = 3
    """WGT."""


class Loader(wiring.Component):
    """Takes SET, ADD, LOADA, LOADW, LOADP and AWAIT; see docs/architecture.md for the order of steps.

    ADD and AWAIT take one cycle (AWAIT more while there is no done token), SET two, and it waits until the load before
    is done. A load takes two cycles to start (more while it waits for a freed token) and one per step; the next
    instruction may start in the cycle in which the last step reads (a load: in which it gets its word), unless that
    step is also the first one or reads weights or ladders. A step that reads main memory waits while the store engine
    writes. A step's data are written 2 + memory_lag cycles after it reads; `filled` pulses with the last write of a
    load that signals.

    Members
    -------
    i : In(stream of 32)
    freed, done : In(1); take_freed, take_done : Out(1)
    filled : Out(1)
    request : Out(1), hindered : In(2), address : Out
        Read of a main memory word, granted where neither of two others hinders it; `rdata` comes 1 + memory_lag cycles
        after that cycle.
    range_error : Out(1)
        The request lies outside main memory.
    row : Out(BufferWrite) per row
    column_enable : Out(columns), column_address : Out
    ladder_enable : Out(ladder_words), ladder_address : Out
    wdata : Out
        Data for all write ports: `lanes` bits, for the ladder memory 32.
    row_data : Out(planes * chunk)
        Only with several planes per cycle: data for row buffers, a chunk for each plane.
    busy : Out(1)
        Working on a load, or its last writes are under way.
    """

    def __init__(self, config: Config):
        self.config = config
        several = {"row_data": Out(config.planes * config.chunk)} if config.planes > 1 else {}
        super().__init__(
            several
            | {
                "i": In(stream.Signature(32)),
                "freed": In(1),
                "take_freed": Out(1),
                "done": In(1),
                "take_done": Out(1),
                "filled": Out(1),
                "request": Out(1),
                "hindered": In(2),
                "address": Out(range(config.mem_depth)),
                "range_error": Out(1),
                "rdata": In(config.mem_width),
                "row": Out(BufferWrite(config)).array(config.rows),
                "column_enable": Out(config.columns),
                "column_address": Out(range(config.column_depth)),
                "ladder_enable": Out(config.ladder_words),
                "ladder_address": Out(range(config.ladder_depth)),
                "wdata": Out(max(config.lanes, 32)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        rows, planes = config.rows, config.planes
        per_lanes = config.chunks_per_lanes
        lane_shift = exact_log2(per_lanes)
        chunk_shift = exact_log2(config.chunks_per_word)
        ladder_part = 32 // config.chunk
        depth_bits = len(self.address)
        most = max(config.row_depth * per_lanes, config.column_depth, config.ladder_words)
        units = (most - 1).bit_length()
        address, pixels = config.chunk_address_bits, config.pixel_bits

        # --- registers: counts are kept as last index, those of units and kernel rows as the last but one (-1: there is
        # one), H as its complement -----------------------------------------------------------------------
        shapes = {
            LoadReg.ACT: address, LoadReg.ROW_STRIDE: address, LoadReg.GROUP_STEP: address,
            LoadReg.UNITS: signed(units + 1),
            LoadReg.KW: pixels, LoadReg.KH: signed(pixels + 1), LoadReg.STEP: pixels,
            LoadReg.H: pixels, LoadReg.W: pixels,
            LoadReg.IY: pixels + 1, LoadReg.IX: pixels + 1,
            LoadReg.PLANES: 4, LoadReg.PAD: 9, LoadReg.SKIP: range(config.row_depth),
            LoadReg.WGT: address, LoadReg.WWORDS: signed(config.column_depth.bit_length()),
        }  # fmt: skip
        if planes == 1:
            shapes |= {LoadReg.UNIT_LOG2: range(lane_shift + 1), LoadReg.VALID: 1, LoadReg.VALID_ADDR: address}
        less: dict[LoadReg, int] = {r: 1 for r in (LoadReg.KW, LoadReg.STEP, LoadReg.PLANES)}
        less |= {r: 2 for r in (LoadReg.UNITS, LoadReg.KH, LoadReg.WWORDS)}
        reg = {r: Signal(shape, name=r.name.lower(), reset_less=True) for r, shape in shapes.items()}
        valid, valid_address = reg.get(LoadReg.VALID, Const(0)), reg.get(LoadReg.VALID_ADDR, Const(0))
        unit_mask = Signal(lane_shift)  # chunks per unit and plane - 1
        if planes == 1:
            m.d.comb += unit_mask.eq((1 << reg[LoadReg.UNIT_LOG2]) - 1)

        # --- instructions ------------------------------------------------------------------------
        opcode = self.i.payload[28:]
        field, loada, loadp = Signal(REGISTER), Signal(LOADA), Signal(LOADP)
        m.d.comb += [field.eq(self.i.payload), loada.eq(self.i.payload), loadp.eq(self.i.payload)]
        working, idle, start, prime, run = (Signal(name=n) for n in ("working", "idle", "start", "prime", "run"))
        set_, put = Signal(), Signal()
        ready, is_load, free = Signal(), Signal(), Signal()  # anything but a load goes; there is one, and it may start
        may_start, starts, starts_waiting = Signal(), Signal(), Signal()  # with `advance`
        need, advance = Signal(), Signal()  # the step that reads wants a word; it has its word, or needs none
        hinders_set = Signal()

        def advances(name: str) -> Value:
            return lut4(m, platform, lambda need, a, b: ~need | ~(a | b), need, *self.hindered, name=f"{name}_lut")

        def with_advance(name: str, always: Value, sometimes: Value, advance: Value = advance) -> Value:
            """`always`, or `sometimes` with `advance`: one LUT behind it, as others at main memory decide."""
            return lut4(
                m, platform, lambda always, sometimes, now: always | (sometimes & now), always, sometimes, advance,
                name=f"{name}_lut",
            )  # fmt: skip

        def every(name: str, *bits: Value) -> Value:
            """Whether all of up to four bits are 1, in one LUT."""
            return lut4(m, platform, lambda *bits: reduce(and_, bits), *bits, name=f"{name}_lut")

        # The fetch unit sends no other operations than these, so few bits tell them apart.
        with m.Switch(opcode[:3]):
            with m.Case("0-1"):  # SET
                m.d.comb += [set_.eq(self.i.valid & ~hinders_set), ready.eq(put)]
            with m.Case("0-0"):  # ADD
                m.d.comb += ready.eq(idle)
            with m.Case(Op.AWAIT & 7):
                m.d.comb += [ready.eq(idle & self.done), self.take_done.eq(self.i.valid & ready)]
            with m.Default():
                m.d.comb += is_load.eq(1)
        m.d.comb += [
            self.i.ready.eq(with_advance("ready", ready, may_start)),
            start.eq(with_advance("start", Const(0), starts)),
            self.take_freed.eq(with_advance("take_freed", Const(0), starts_waiting)),
            idle.eq(~working),
            free.eq(idle & (~loada.wait | self.freed)),
            may_start.eq(
                lut4(
                    m, platform, lambda load, working, wait, freed: load & ~working & (~wait | freed), is_load, working,
                    loada.wait, self.freed, name="may_start_lut",
                )
            ),
            starts.eq(every("starts", is_load, free, self.i.valid)),
            starts_waiting.eq(every("starts_waiting", is_load, free, self.i.valid, loada.wait)),
        ]  # fmt: skip
        # SET clears a register that has an adder in its first cycle, and writes in its second.
        may_change = lut4(
            m, platform, lambda is_set, other, late, busy: ~other & ((is_set & ~late) | (~is_set & ~busy)),
            opcode[0], opcode[2], hinders_set, working, name="may_change_lut",
        )  # fmt: skip
        m.d.sync += put.eq(set_)
        strides = (LoadReg.ROW_STRIDE, LoadReg.GROUP_STEP)
        # Where a word of main memory holds several instructions, the fetch unit has the multiplier.
        place = platform if config.mem_width == 32 else None
        values = held(m, place, *((field.value[:address], put & (field.reg == r)) for r in strides), name="stride")
        m.d.comb += [reg[r].eq(value) for r, value in zip(strides, values, strict=True)]
        for r, register in ((r, register) for r, register in reg.items() if r not in strides):
            with m.If(field.reg == r):
                if r in (LoadReg.ACT, LoadReg.IY, LoadReg.IX):
                    with m.If(put | (may_change & self.i.valid)):
                        m.d.sync += register.eq(Mux(opcode[0] & ~put, 0, register + field.value))
                else:
                    with m.If(put):
                        m.d.sync += register.eq(~field.value if r == LoadReg.H else field.value - less.get(r, 0))

        # What a step does to the buffers: in the cycle in which it reads, in the next one, and when its word comes.
        reading, read = Signal(step_layout(config)), Signal(step_layout(config))
        # Where registers have a reset: it stands in one LUT with what `advance` is made of.
        steps_on = ~need | ~self.hindered.any()
        m.d.sync += read.eq(Mux(steps_on, reading, 0))
        under_way = delay_line(m, read, config.memory_lag, "read")
        coming = under_way[-1]

        def with_word(value, name: str):
            """`value`, which goes with `reading` or `read`, as late as the word is."""
            return delay_line(m, value, config.memory_lag, name, reset_less=True)[-1]

        # --- units and pixels of a kernel row, one step ahead of the loops around them -----------------
        kind = Signal(data.StructLayout({"act": 1, "weight": 1, "ladder": 1}), reset_less=True)
        last_row = Signal(range(rows), reset_less=True)
        # Units of a pixel, words of a column, words of a ladder; the last one but one, -1 where there is one.
        unit, unit_before = Signal(units, reset_less=True), Signal(signed(units + 1), reset_less=True)
        unit_reached, unit_done = Signal(reset_less=True), Signal()
        # Patch row r takes KW pixels (then it is `over`) from r * STEP on (it has `begun`).
        to_begin, to_end = (Signal(pixels, name=n, reset_less=True) for n in ("to_begin", "to_end"))
        # Pixels of the kernel row; where there is one patch row, these are its own.
        pixel = to_end if rows == 1 else Signal(pixels + 1, name="pixel", reset_less=True)
        counters = (to_end,) if rows == 1 else (pixel, to_begin, to_end)
        # Pixel 0 as counted from the column behind the image: in a register, as no load is as quick behind the SET or
        # ADD that changes it.
        beyond_x = Signal(signed(pixels + 2), reset_less=True)
        m.d.sync += beyond_x.eq(reg[LoadReg.IX].as_signed() - reg[LoadReg.W])
        begun, over = Signal(rows - 1, reset_less=True), Signal(rows - 1, reset_less=True)
        row_0_over = over[0] if rows > 1 else 0
        begin, end, row_done = (Signal(name=n) for n in ("begin", "end", "row_done"))
        units_to_load = Signal.like(unit_before)
        m.d.comb += unit_done.eq(unit_reached | (unit_before < 0))
        # What moves on in this cycle; the units and pixels also where no load is under way.
        turn, next_unit, next_pixel = Signal(), Signal(), Signal()
        last_unit, row_end, inside_x = (Signal(name=n, reset_less=True) for n in ("last_unit", "row_end", "inside_x"))
        takes = Signal(rows, init=1, reset_less=True)  # row 0 always does

        m.d.comb += [
            begin.eq((to_begin == reg[LoadReg.STEP]) & ~Array([1, *begun])[last_row]),
            end.eq(Mux(row_0_over, to_end == reg[LoadReg.STEP], to_end == reg[LoadReg.KW])),
            row_done.eq(~kind.act | (end & Array([1, *over])[last_row])),
        ]
        with m.If(turn):
            m.d.sync += [
                last_unit.eq(unit_done),
                row_end.eq(unit_done & row_done),
                inside_x.eq(~(pixel + reg[LoadReg.IX])[pixels] & (pixel + beyond_x)[pixels + 1]),
                takes.eq(Cat(1, begun) & ~Cat(over, 0)),
            ]
        with m.If(next_unit):
            m.d.sync += [
                unit.eq(increment(m, platform, unit, name="unit_next")),
                unit_reached.eq((unit == unit_before[:units]) & ~idle),
            ]
            with m.If(unit_done | idle):
                m.d.sync += unit.eq(0)
        with m.If(next_pixel):
            for counter in counters:
                m.d.sync += counter.eq(increment(m, platform, counter, name=f"{counter.name}_next"))
            with m.If(begin):
                m.d.sync += [to_begin.eq(0), begun.eq(Cat(1, begun))]
            with m.If(end):
                m.d.sync += [to_end.eq(0), over.eq(Cat(1, over))]
            with m.If(row_done | idle):
                m.d.sync += Cat(*counters, begun, over).eq(0)

        # --- kernel rows and groups of planes: the step that reads in the next cycle ------------------
        signal, first = Signal(reset_less=True), Signal(reset_less=True)
        base = Signal(range(max(config.row_depth, config.column_depth, config.ladder_depth)), reset_less=True)
        # Kernel rows, columns, or channels, which are counted from 1; the last but one, and whether there is only one.
        ky = Signal(range(max(1 << pixels, config.columns, config.ladder_depth)), reset_less=True)
        ky_before, ky_single = Signal(len(ky), reset_less=True), Signal(reset_less=True)
        ky_reached, ky_done = Signal(reset_less=True), Signal()
        group = Signal(4 - exact_log2(planes), reset_less=True)
        # Chunks of the word at work already filled for row 0; at the end of a group the rest gets zeros (filler).
        fill, filler = Signal(lane_shift, reset_less=True), Signal(reset_less=True)

        load = opcode[:2]  # tells loads apart; what is made of another instruction is not used
        is_a, is_w, is_p = (load == (op & 3) for op in (Op.LOADA, Op.LOADW, Op.LOADP))
        taps_end, tail, full, group_end, last_group, load_end = (Signal(name=n) for n in (
            "taps_end", "tail", "full", "group_end", "last_group", "load_end"))  # fmt: skip
        step, next_fill = Signal(), Signal(lane_shift)
        # The kernel row lies inside the image; kernel row 0 as counted from the row behind it.
        inside_y, beyond_y = Signal(reset_less=True), Signal(signed(pixels + 2), reset_less=True)
        # Much hangs on the next pixel, so it has LUTs of its own.
        to_first_pixel = lut4(
            m, platform, lambda prime, reached, single, working: (prime & (reached | single)) | ~working, prime,
            unit_reached, unit_before[-1], working, name="to_first_pixel",
        )  # fmt: skip
        pixel_done = lut4(
            m, platform, lambda filler, reached, single: ~filler & (reached | single), filler, unit_reached,
            unit_before[-1], name="pixel_done",
        )  # fmt: skip
        m.d.comb += [
            step.eq(with_advance("step", Const(0), run)),
            turn.eq(with_advance("turn", prime, ~filler)),
            next_unit.eq(with_advance("next_unit", prime | idle, ~filler)),
            next_pixel.eq(with_advance("next_pixel", to_first_pixel, pixel_done, advances("advance_pixel"))),
            ky_done.eq(ky_reached | ky_single),
            taps_end.eq(row_end & ky_done),
            tail.eq(taps_end | filler),
            full.eq(~kind.act | (next_fill == 0)),
            next_fill.eq(fill + Mux(filler | takes[0], unit_mask + 1, 0)),
            group_end.eq(tail & full),
            last_group.eq(group == reg[LoadReg.PLANES] >> exact_log2(planes)),
            load_end.eq(every("load_end", tail, full, ~kind.act | last_group)),
        ]
        m.d.sync += beyond_y.eq(reg[LoadReg.IY].as_signed() - ~reg[LoadReg.H])
        with m.If(step):
            m.d.sync += [first.eq(0), fill.eq(next_fill), filler.eq(tail & ~full)]
        with m.If(with_advance("next_row", idle, run & row_end & ~filler)):
            m.d.sync += [
                ky.eq(increment(m, platform, ky, name="ky_next")),
                ky_reached.eq((ky == ky_before) & ~idle),
            ]
            with m.If(ky_done | idle):
                m.d.sync += ky.eq(is_p & idle)
        with m.If(with_advance("next_y", prime, run & row_end & ~filler)):
            iy = reg[LoadReg.IY]
            first_inside = ~iy[-1] & beyond_y[-1]
            next_inside = ~(ky - ~iy)[pixels] & (ky[:pixels] - ~beyond_y)[pixels + 1]  # ky + 1 + iy, ky + 1 + beyond_y
            m.d.sync += inside_y.eq(Mux(prime | ky_done, first_inside, next_inside))
        with m.If(step & group_end):
            m.d.sync += group.eq(group + 1)
        with m.If(idle):
            m.d.sync += [first.eq(1), Cat(group, fill, filler).eq(0)]
        # In the next cycle a step is made, or the one that reads hinders a load. As seen with and without `advance`.
        goes_on = lut4(
            m, platform, lambda begins, run, hinders, end: begins | (run & (hinders | ~end)), prime | starts, run,
            first | ~kind.act, load_end, name="goes_on",
        )  # fmt: skip
        m.d.sync += [
            prime.eq(start),
            run.eq(prime | (run & ~(advance & load_end))),
            working.eq(
                lut4(
                    m, platform, lambda still, on, now: (still & ~now) | (on & now), prime | run | reading.alone,
                    goes_on, advance, name="working_lut",
                )
            ),
        ]  # fmt: skip

        # --- where the step reads: one adder -----------------------------------------------------------
        chunk_address, row_address = (
            Signal(address, name=n, reset_less=True) for n in ("chunk_address", "row_address")
        )
        next_address = Signal(address)
        origin, valid_plane = Signal(_Origin, reset_less=True), Signal(reset_less=True)
        by_unit, by_row, by_group = (Signal(name=n, reset_less=True) for n in ("by_unit", "by_row", "by_group"))
        row_start, row_read = Signal(reset_less=True), Signal()
        # A choice of four in two LUT4 per bit: `low` is the first two, or which of the others.
        near, far = origin.as_value()[0], origin.as_value()[1]
        low = Mux(far, near.replicate(address), Mux(near, row_address, chunk_address))
        counted_from = Mux(far, (low & reg[LoadReg.WGT]) | (~low & valid_address), low)
        unit_chunks = Mux(kind.act, (unit_mask + 1) * planes, Mux(kind.weight, per_lanes, ladder_part))
        m.d.comb += next_address.eq(
            counted_from
            + (
                Mux(by_row, reg[LoadReg.ROW_STRIDE], 0)
                | Mux(by_group, reg[LoadReg.GROUP_STEP], 0)
                | Mux(by_unit, unit_chunks, 0)
            )
        )
        with m.If(with_advance("next_address", Const(0), run & ~filler)):
            from_row = kind.act & row_end & ~(valid_plane & ~taps_end)
            from_valid = last_unit & valid_plane & ~taps_end
            m.d.sync += [
                valid_plane.eq(valid_plane & ~taps_end),
                row_start.eq(from_row),
                # A row of one step: its start still stands in `chunk_address`.
                origin.eq(Cat(from_row & ~row_start, from_valid)),
                by_unit.eq(~from_row & ~from_valid),
                by_row.eq(from_row & ~valid_plane & ~taps_end),
                by_group.eq(from_row & ~valid_plane & taps_end),
            ]
        with m.If(advance & ~filler):
            m.d.sync += chunk_address.eq(next_address)
        m.d.sync += row_read.eq(step & row_start & ~filler)
        with m.If(row_read):
            m.d.sync += row_address.eq(chunk_address)
        with m.If(read.weight | read.ladder):
            m.d.sync += reg[LoadReg.WGT].eq(chunk_address)

        # --- the load at the head of the queue ---------------------------------------------------------
        with m.Switch(load):
            with m.Case(Op.LOADA & 3):
                m.d.comb += units_to_load.eq(reg[LoadReg.UNITS])
            with m.Case(Op.LOADW & 3):
                m.d.comb += units_to_load.eq(reg[LoadReg.WWORDS])
            with m.Default():
                m.d.comb += units_to_load.eq(config.ladder_words - 2)
        with m.If(idle):
            m.d.sync += [
                Cat(kind.act, kind.weight, kind.ladder).eq(Cat(is_a, is_w, is_p)),
                signal.eq(loada.signal),
                last_row.eq(loada.rows),
                base.eq(Mux(is_p, loadp.base, loada.base)),
                row_address.eq(reg[LoadReg.ACT]),
                Cat(by_unit, by_row, by_group).eq(0),
                row_start.eq(~valid),
                unit_before.eq(units_to_load),
            ]
            with m.Switch(load):
                with m.Case(Op.LOADA & 3):
                    m.d.sync += [
                        ky_before.eq(reg[LoadReg.KH]),
                        ky_single.eq(reg[LoadReg.KH] < 0),
                        valid_plane.eq(valid),
                        origin.eq(Mux(valid, _Origin.VALID, _Origin.ROW)),
                    ]
                with m.Case(Op.LOADW & 3):
                    m.d.sync += [ky_before.eq(config.columns - 2), ky_single.eq(0)]
                with m.Default():
                    m.d.sync += [ky_before.eq(loadp.count), ky_single.eq(loadp.count == 0)]
            with m.If(~is_a):
                m.d.sync += [origin.eq(_Origin.CONSTANTS), valid_plane.eq(0)]

        # --- the step that reads: request -----------------------------------------------------------
        # Planes whose chunk does not come from main memory, and the bit that fills it.
        constant, pad = Signal(planes, reset_less=True), Signal(planes, reset_less=True)
        inside = Signal()
        last_plane = reg[LoadReg.PLANES][: exact_log2(planes)]
        missing = Cat(Const(0, 1), (last_group & (v > last_plane) for v in range(1, planes)))
        m.d.comb += inside.eq(inside_x & inside_y & ~filler)
        with m.If(steps_on):
            m.d.sync += [
                reading.eq(0),
                need.eq(run & (~kind.act | inside)),
                constant.eq(Mux(kind.act, ~inside.replicate(planes) | missing, 0)),
                pad.eq(reg[LoadReg.PAD].word_select(group, planes) & ~filler.replicate(planes)),
            ]
            with m.If(run):
                m.d.sync += [
                    reading.act.eq(kind.act),
                    reading.weight.eq(kind.weight),
                    reading.ladder.eq(kind.ladder),
                    reading.first.eq(first),
                    reading.alone.eq(first | ~kind.act),
                    reading.end.eq(Mux(kind.act, group_end, row_end)),
                    reading.filled.eq(load_end & signal),
                ]
            with m.If(run & kind.act):
                m.d.sync += reading.taken.eq(
                    Mux(filler, Cat(Const(1, 1), (r <= last_row for r in range(1, rows))), takes)
                )
        m.d.comb += [
            self.request.eq(need),
            advance.eq(advances("advance")),
            self.address.eq(chunk_address >> chunk_shift),
            self.range_error.eq(need & (chunk_address[chunk_shift + depth_bits :] != 0)),
        ]
        busy = prime | run | Cat(s.act | s.weight | s.ladder for s in [reading, *under_way[:-1]]).any()
        m.d.sync += [
            self.busy.eq(with_advance("busy", busy, starts)),
            hinders_set.eq(with_advance("hinders_set", busy | set_, starts)),
        ]

        # --- the word comes ---------------------------------------------------------------------------
        m.submodules.aligner = aligner = Aligner(config)
        m.d.comb += [
            aligner.rdata.eq(self.rdata),
            aligner.act.eq(reading.act),
            aligner.weight.eq(reading.weight),
            aligner.need.eq(need),
            aligner.place.eq(chunk_address),
            aligner.unit_mask.eq(unit_mask),
            aligner.constant.eq(constant),
            aligner.pad.eq(pad),
            self.wdata.eq(aligner.wdata),
        ]
        if planes > 1:
            m.d.comb += self.row_data.eq(aligner.row_data)

        # --- the write ------------------------------------------------------------------------------
        m.submodules.placer = placer = Placer(config)
        m.d.comb += [
            placer.first.eq(with_word(reading.first, "first")),
            placer.coming.eq(coming),
            placer.base.eq(with_word(base, "base")),
            placer.unit_mask.eq(unit_mask),
            placer.skip.eq(reg[LoadReg.SKIP]),
        ]
        for name in ("column_enable", "column_address", "ladder_enable", "ladder_address", "filled"):
            m.d.comb += getattr(self, name).eq(getattr(placer, name))
        for ours, theirs in zip(self.row, placer.row, strict=True):
            m.d.comb += [ours.address.eq(theirs.address), ours.enable.eq(theirs.enable)]
        return m
