"""Loader: main memory to row buffers (patches), column buffers (weights) and ladder memory."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.isa import LoadReg, Op
from .config import Config
from .isa import LOADA, LOADP, REGISTER

__all__ = ["BufferWrite", "Loader"]


class BufferWrite(wiring.Signature):
    """Write port of a row buffer: `address` (word), `data` (lanes bits), `enable` (per plane and chunk)."""

    def __init__(self, config: Config):
        super().__init__(
            {
                "address": Out(range(config.row_depth)),
                "enable": Out(config.planes * config.chunks_per_lanes),
            }
        )


class Loader(wiring.Component):
    """Takes SET, ADD, LOADA, LOADW, LOADP and AWAIT; see docs/architecture.md for the order of steps.

    SET, ADD and AWAIT take one cycle (AWAIT more while there is no done token), a load one to start (more while it
    waits
    for a freed token) and one per step. A step that reads main memory waits while the store engine writes. A step's
    data are
    written two cycles later; `filled` pulses with the last write of a load that signals.

    Members
    -------
    i : In(stream of 32)
    freed, done : In(1); take_freed, take_done : Out(1)
    filled : Out(1)
    request : Out(1), grant : In(1), address : Out
        Read of a main memory word; `rdata` comes one cycle after a cycle with request and grant.
    range_error : Out(1)
        The request lies outside main memory.
    row : Out(BufferWrite) per row
    column_enable : Out(columns), column_address : Out
    ladder_enable : Out(ladder_words), ladder_address : Out
    wdata : Out
        Data for all write ports: `lanes` bits, for the ladder memory 32.
    busy : Out(1)
        Working on a load, or its last writes are under way.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(32)),
                "freed": In(1),
                "take_freed": Out(1),
                "done": In(1),
                "take_done": Out(1),
                "filled": Out(1),
                "request": Out(1),
                "grant": In(1),
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
        per_lanes = config.chunks_per_lanes
        chunk_shift = exact_log2(config.chunks_per_word)
        ladder_part = 32 // config.chunk
        parts = max(per_lanes, ladder_part)  # chunks of `wdata`
        depth_bits = len(self.address)
        address, pixels = config.chunk_address_bits, config.pixel_bits
        row_words, column_words = range(config.row_depth + 1), range(config.column_depth + 1)

        # --- registers ---------------------------------------------------------------------------
        def register(name: str, shape) -> Signal:
            return Signal(shape, name=name.lower(), reset_less=True)

        shapes = {
            LoadReg.ACT: address, LoadReg.ROW_STRIDE: address, LoadReg.PLANE_STEP: address,
            LoadReg.UNITS: range(config.row_depth * per_lanes + 1), LoadReg.UNIT_LOG2: range(exact_log2(per_lanes) + 1),
            LoadReg.KW: pixels, LoadReg.KH: pixels, LoadReg.STEP: pixels, LoadReg.H: pixels, LoadReg.W: pixels,
            LoadReg.IY: signed(pixels + 1), LoadReg.IX: signed(pixels + 1),
            LoadReg.PLANES: 4, LoadReg.PAD: 9, LoadReg.VALID: 1, LoadReg.VALID_ADDR: address, LoadReg.WORDS: row_words,
            LoadReg.WGT: address, LoadReg.WWORDS: column_words,
        }  # fmt: skip
        reg = {r: register(r.name, shape) for r, shape in shapes.items()}
        # Row r starts r * STEP pixels to the right of row 0.
        offset = [Signal(pixels, name=f"offset{r}", reset_less=True) for r in range(config.rows)]

        opcode = self.i.payload[28:]
        field, loada, loadp = Signal(REGISTER), Signal(LOADA), Signal(LOADP)
        m.d.comb += [field.eq(self.i.payload), loada.eq(self.i.payload), loadp.eq(self.i.payload)]

        # --- step generator ----------------------------------------------------------------------
        idle = Signal(init=1)
        kind = Signal(data.StructLayout({"act": 1, "weight": 1, "ladder": 1}), reset_less=True)
        signal = Signal(reset_less=True)
        unit_chunks = Signal(range(per_lanes + 1))
        m.d.comb += unit_chunks.eq(1 << reg[LoadReg.UNIT_LOG2])

        last_px = Signal(pixels, reset_less=True)
        unit = Signal(range(config.row_depth * per_lanes), reset_less=True)
        px, ky = Signal(pixels, reset_less=True), Signal(pixels, reset_less=True)
        x, y = (Signal(signed(pixels + 1), name=n, reset_less=True) for n in ("x", "y"))
        plane = Signal(4, reset_less=True)
        subplane = Signal(range(config.planes), reset_less=True)
        pad = Signal(9, reset_less=True)
        # Where the next unit of this kernel row is, and where the kernel row starts.
        source, source_row = Signal(address, reset_less=True), Signal(address, reset_less=True)
        row_start = Signal(reset_less=True)
        # Chunks of the word at work already filled for row 0; at the end of a plane the rest gets zeros (filler).
        fill = Signal(range(per_lanes), reset_less=True)
        filler, zero_pass, plane_start = Signal(reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        base = Signal(range(config.row_depth * per_lanes), reset_less=True)
        # Weights and ladder parameters: destination word and count.
        item = Signal(range(config.ladder_depth), reset_less=True)
        item_word = Signal(column_words, reset_less=True)
        target = Signal(range(max(config.column_depth, config.ladder_depth)), reset_less=True)
        column = Signal(range(config.columns), reset_less=True)

        inside, valid_plane = Signal(), Signal()
        next_fill = Signal.like(fill)
        last_unit, taps_end, plane_end, last_plane, load_end = (Signal(name=n) for n in (
            "last_unit", "taps_end", "plane_end", "last_plane", "load_end"))  # fmt: skip
        need, step = Signal(), Signal()
        chunk_address = Signal(address)
        m.d.comb += [
            inside.eq((x.as_unsigned() < reg[LoadReg.W]) & (y.as_unsigned() < reg[LoadReg.H])),
            valid_plane.eq(reg[LoadReg.VALID] & (plane == 0)),
            last_unit.eq(unit == reg[LoadReg.UNITS] - 1),
            taps_end.eq(last_unit & (px == last_px) & (ky == reg[LoadReg.KH] - 1)),
            next_fill.eq(fill + Mux(filler | (px < reg[LoadReg.KW]), unit_chunks, 0)),
            plane_end.eq((taps_end | filler) & (next_fill == 0)),
            last_plane.eq(
                zero_pass | ((plane == reg[LoadReg.PLANES] - 1) & (subplane == config.planes - 1))
                if config.planes > 1
                else plane == reg[LoadReg.PLANES] - 1
            ),
            need.eq(~kind.act | (inside & ~filler & ~zero_pass)),
            self.request.eq(~idle & need),
            step.eq(~idle & (self.grant | ~need)),
        ]
        # One address, one adder: the next unit, lane word, or 32 bits of a ladder.
        advance = Signal(range(parts + 1))
        with m.If(~kind.act):
            m.d.comb += [chunk_address.eq(reg[LoadReg.WGT]), advance.eq(Mux(kind.weight, per_lanes, ladder_part))]
        with m.Else():
            m.d.comb += advance.eq(unit_chunks)
            with m.If(valid_plane & (unit == 0)):
                m.d.comb += chunk_address.eq(reg[LoadReg.VALID_ADDR])
            with m.Elif(row_start):
                m.d.comb += chunk_address.eq(source_row)
            with m.Else():
                m.d.comb += chunk_address.eq(source)
        next_address = Signal(address)
        m.d.comb += [
            next_address.eq(chunk_address + advance),
            self.address.eq(chunk_address >> chunk_shift),
            self.range_error.eq(self.request & (chunk_address[chunk_shift + depth_bits :] != 0)),
        ]

        with m.If(idle), m.Switch(opcode):
            with m.Case(Op.SET):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid), m.Switch(field.reg):
                    for r, target_register in reg.items():
                        with m.Case(r):
                            m.d.sync += target_register.eq(field.value)
                            if r == LoadReg.STEP:
                                m.d.sync += [o.eq(field.value[:pixels] * k) for k, o in enumerate(offset)]
            with m.Case(Op.ADD):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid), m.Switch(field.reg):
                    for r in (LoadReg.ACT, LoadReg.IY, LoadReg.IX):
                        with m.Case(r):
                            m.d.sync += reg[r].eq(reg[r] + field.value)
            with m.Case(Op.AWAIT):
                m.d.comb += [self.i.ready.eq(self.done), self.take_done.eq(self.i.valid & self.done)]
            with m.Default():
                m.d.comb += self.i.ready.eq(~loada.wait | self.freed)
                with m.If(self.i.valid & self.i.ready):
                    m.d.comb += self.take_freed.eq(loada.wait)
                    m.d.sync += [
                        idle.eq(0),
                        kind.act.eq(opcode == Op.LOADA),
                        kind.weight.eq(opcode == Op.LOADW),
                        kind.ladder.eq(opcode == Op.LOADP),
                        signal.eq(loada.signal),
                        last_px.eq(reg[LoadReg.KW] - 1 + Array(offset)[loada.rows]),
                        Cat(unit, px, ky, plane, subplane, fill, filler, zero_pass).eq(0),
                        Cat(plane_start, row_start).eq(-1),
                        x.eq(reg[LoadReg.IX]),
                        y.eq(reg[LoadReg.IY]),
                        pad.eq(reg[LoadReg.PAD]),
                        source_row.eq(reg[LoadReg.ACT]),
                        base.eq(loada.base << exact_log2(per_lanes)),
                        column.eq(0),
                        item.eq(Mux(opcode == Op.LOADP, loadp.count, 0)),
                        item_word.eq(0),
                        target.eq(Mux(opcode == Op.LOADP, loadp.base, loada.base)),
                    ]

        row_end = Signal()
        m.d.comb += row_end.eq(last_unit & (px == last_px) & ~filler)
        with m.If(step & kind.act):
            m.d.sync += [fill.eq(next_fill), plane_start.eq(plane_end), row_start.eq(row_end | plane_end | filler)]
            with m.If(~filler):
                m.d.sync += [unit.eq(unit + 1), source.eq(next_address)]
                with m.If(last_unit):
                    m.d.sync += [unit.eq(0), px.eq(px + 1), x.eq(x + 1)]
            with m.If(row_end):
                m.d.sync += [px.eq(0), x.eq(reg[LoadReg.IX]), ky.eq(ky + 1), y.eq(y + 1)]
                with m.If(~valid_plane):
                    m.d.sync += source_row.eq(
                        source_row + Mux(taps_end, reg[LoadReg.PLANE_STEP], reg[LoadReg.ROW_STRIDE])
                    )
            with m.If(taps_end):
                m.d.sync += filler.eq(1)
            with m.If(plane_end):
                m.d.sync += [
                    Cat(filler, ky).eq(0),
                    y.eq(reg[LoadReg.IY]),
                    plane.eq(plane + 1),
                    subplane.eq(subplane + 1),
                    pad.eq(pad >> 1),
                ]
                with m.If(subplane == config.planes - 1):
                    m.d.sync += [
                        subplane.eq(0),
                        base.eq(base + (reg[LoadReg.WORDS] << exact_log2(per_lanes))),
                    ]
                with m.If(last_plane):
                    m.d.comb += load_end.eq(1)
                with m.Elif(plane == reg[LoadReg.PLANES] - 1):
                    m.d.sync += zero_pass.eq(1)
        with m.If(step & ~kind.act):
            m.d.sync += reg[LoadReg.WGT].eq(next_address)
        with m.If(step & kind.weight):
            m.d.sync += [
                item_word.eq(item_word + 1),
                target.eq(target + 1),
            ]
            with m.If(item_word == reg[LoadReg.WWORDS] - 1):
                m.d.sync += [item_word.eq(0), target.eq(target - item_word), column.eq(column + 1)]
                m.d.comb += load_end.eq(column == config.columns - 1)
        with m.If(step & kind.ladder):
            m.d.sync += item_word.eq(item_word + 1)
            with m.If(item_word == config.ladder_words - 1):
                m.d.sync += [item_word.eq(0), target.eq(target + 1), item.eq(item - 1)]
                m.d.comb += load_end.eq(item == 0)
        with m.If(load_end):
            m.d.sync += idle.eq(1)

        # --- second stage: the word has come, rows find their places -------------------------------
        tag = Signal(
            data.StructLayout(
                {
                    "act": 1,
                    "column": config.columns,
                    "ladder": config.ladder_words,
                    "end": 1,
                    "read": 1,
                    "fill": 1,
                    "any_row": 1,
                    "start": 1,
                    "px": pixels,
                    "chunk": chunk_shift,
                    "target": len(target),
                    "planes": config.planes,
                    "base": len(base),
                }
            )
        )
        planes = Signal(config.planes)
        with m.If(zero_pass):
            m.d.comb += planes.eq(~((1 << subplane) - 1))
        with m.Else():
            m.d.comb += planes.eq(1 << subplane)
        m.d.sync += [
            tag.act.eq(step & kind.act),
            tag.column.eq(Mux(step & kind.weight, 1 << column, 0)),
            tag.ladder.eq(Mux(step & kind.ladder, 1 << item_word, 0)),
            tag.end.eq(load_end & signal),
            tag.read.eq(need),
            tag.fill.eq(pad[0] & ~filler & ~zero_pass),
            tag.any_row.eq(filler),
            tag.start.eq(plane_start),
            tag.px.eq(px),
            tag.chunk.eq(chunk_address),
            tag.target.eq(target),
            tag.planes.eq(planes),
            tag.base.eq(base),
        ]

        # Chunk p of the data comes from the chunk of the memory word at the place of the unit, lane word or ladder
        # part.
        mask = Signal(range(parts))
        m.d.comb += mask.eq(unit_chunks - 1)
        with m.If(tag.column != 0):
            m.d.comb += mask.eq(per_lanes - 1)
        with m.If(tag.ladder != 0):
            m.d.comb += mask.eq(ladder_part - 1)
        chunks = Array(self.rdata[k * config.chunk : (k + 1) * config.chunk] for k in range(config.chunks_per_word))
        lane_word = Signal(len(self.wdata))
        for p in range(parts):
            at = Signal(chunk_shift, name=f"at{p}")
            m.d.comb += at.eq(tag.chunk ^ ((tag.chunk ^ p) & mask))
            m.d.comb += lane_word[p * config.chunk : (p + 1) * config.chunk].eq(chunks[at])
        with m.If(~tag.read):
            m.d.comb += lane_word.eq(tag.fill.replicate(config.lanes))
        m.d.sync += [
            self.wdata.eq(lane_word),
            self.column_enable.eq(tag.column),
            self.column_address.eq(tag.target),
            self.ladder_enable.eq(tag.ladder),
            self.ladder_address.eq(tag.target),
            self.filled.eq(tag.end),
        ]
        for r, port in enumerate(self.row):
            place, here = Signal(len(base), name=f"place{r}", reset_less=True), Signal(len(base), name=f"here{r}")
            taken = Signal(name=f"taken{r}")
            enable = Signal(per_lanes, name=f"enable{r}")
            m.d.comb += [
                taken.eq(tag.act & (tag.any_row | ((tag.px - offset[r]).as_unsigned()[:pixels] < reg[LoadReg.KW]))),
                here.eq(Mux(tag.start, tag.base, place)),
            ]
            with m.If(tag.act):
                m.d.sync += place.eq(here + Mux(taken, unit_chunks, 0))
            for p in range(per_lanes):
                m.d.comb += enable[p].eq(((p ^ here[: exact_log2(per_lanes)]) & ~mask)[: exact_log2(per_lanes)] == 0)
            m.d.sync += [
                port.address.eq(here >> exact_log2(per_lanes)),
                port.enable.eq(Cat(Mux(taken & tag.planes[v], enable, 0) for v in range(config.planes))),
            ]
        m.d.comb += self.busy.eq(~idle | tag.act | (tag.column != 0) | (tag.ladder != 0))
        return m
