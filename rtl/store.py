"""Store engine: drains a tile row by row, requantizes, pools, and writes planes or raw results to main memory."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.isa import Op, StoreReg
from ..golden.isa import Pool as Mode
from .array import delay_line
from .config import Config
from .isa import REGISTER, STORE
from .ladder import Ladder, parameters_layout
from .pool import Pool

__all__ = ["Store"]

_ADDRESS = 21
"""Bits of a granule address."""


class Store(wiring.Component):
    """Takes SET, ADD, STORE and DONE.

    SET and DONE wait until nothing is under way and take one cycle, ADD takes one cycle. STORE starts when the tile stands in the
    drain registers and the STORE before it has begun to write, if it writes at all; it takes one cycle to start and `interval`
    cycles per row, where interval = max(columns / ladders, BITS if it writes planes), or columns when RAW. A row's
    `columns / ladders` groups of results are selected in its first cycles. A row's planes are written from
    `ladder_latency + 2` cycles after its last group was selected, one per cycle; a raw result three cycles after its selection.

    Members
    -------
    i : In(stream of 32)
    tile_ready : In(1), take_tile : Out(1)
        A tile stands in the drain registers; its draining starts.
    release : Out(1)
        Last cycle in which the drain registers are needed.
    drained : In((columns + 1) * acc_width), shift : Out(1)
        Drain registers of row 0; move the next row there.
    row_start : Out(1)
        First cycle of a row: `drained` is a word of the drain trace.
    ladder_read : Out(1), ladder_address : Out, ladder_data : In
        Parameters of `ladders` neighbouring channels.
    done : Out(1)
        Pulses for DONE.
    write : Out(1), address : Out(21), we : Out, wdata : Out
        Writes to main memory, granule address; always granted.
    busy : Out(1)
        Anything under way.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(32)),
                "tile_ready": In(1),
                "take_tile": Out(1),
                "release": Out(1),
                "drained": In((config.columns + 1) * config.acc_width),
                "shift": Out(1),
                "row_start": Out(1),
                "ladder_read": Out(1),
                "ladder_address": Out(range(max(2, config.ladder_depth // config.ladders))),
                "ladder_data": In(config.ladders * 32 * config.ladder_words),
                "done": Out(1),
                "write": Out(1),
                "address": Out(_ADDRESS),
                "we": Out(config.granules_per_word),
                "wdata": Out(config.mem_width),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        ladders, columns, granule = config.ladders, config.columns, config.granule
        groups = columns // ladders
        tile_granules, raw_granules = columns // granule, 32 // granule

        reg = {
            StoreReg.DST: Signal(_ADDRESS, name="dst", reset_less=True),
            StoreReg.PIXEL_STRIDE: Signal(_ADDRESS, name="pixel_stride", reset_less=True),
            StoreReg.PLANE_STRIDE: Signal(_ADDRESS, name="plane_stride", reset_less=True),
            StoreReg.BITS: Signal(4, name="bits", reset_less=True),
            StoreReg.SUM: Signal(name="sum", reset_less=True),
            StoreReg.RAW: Signal(name="raw", reset_less=True),
            StoreReg.GRANULES: Signal(range(tile_granules + 1), name="granules", reset_less=True),
            StoreReg.LADDER: Signal(12, name="ladder", reset_less=True),
        }
        raw, bits = reg[StoreReg.RAW], reg[StoreReg.BITS]
        opcode = self.i.payload[28:]
        field, store = Signal(REGISTER), Signal(STORE)
        m.d.comb += [field.eq(self.i.payload), store.eq(self.i.payload)]

        # --- select: one group of results per cycle --------------------------------------------------
        running, under_way = Signal(), Signal()
        flag_layout = data.StructLayout({"tile": 1, "last": 1, "emit": 1, "masked": 1, "mode": 2})
        tile = Signal(data.StructLayout({"mode": 2, "low": 5, "high": 5}), reset_less=True)
        rows_left, row = Signal(5, reset_less=True), Signal(5, reset_less=True)
        interval = Signal(range(max(columns, 8) + 1), reset_less=True)
        position = Signal(range(max(columns, 8)), reset_less=True)
        channel = Signal(12, reset_less=True)
        channel_start = Signal(12, reset_less=True)
        first_row = Signal(reset_less=True)
        next_base, next_base_valid = Signal(_ADDRESS, reset_less=True), Signal()
        emit, selecting, last_of_row = Signal(), Signal(), Signal()
        count = Signal(range(columns + 1))
        m.d.comb += [
            emit.eq((tile.mode == Mode.NONE) | (tile.mode == Mode.LAST)),
            count.eq(Mux(raw, columns, groups)),
            selecting.eq(running & (position < count)),
            last_of_row.eq(position == count - 1),
            self.row_start.eq(running & (position == 0)),
            self.shift.eq(running & (position == interval - 1)),
            self.release.eq(self.shift & (rows_left == 0)),
        ]
        new_emit = (store.pool == Mode.NONE) | (store.pool == Mode.LAST)
        with m.If(~running):
            with m.Switch(opcode):
                with m.Case(Op.SET):
                    m.d.comb += self.i.ready.eq(~under_way)
                    with m.If(self.i.valid & self.i.ready), m.Switch(field.reg):
                        for r, target in reg.items():
                            with m.Case(r):
                                m.d.sync += target.eq(field.value)
                with m.Case(Op.ADD):
                    m.d.comb += self.i.ready.eq(1)
                    with m.If(self.i.valid & (field.reg == StoreReg.DST)):
                        m.d.sync += reg[StoreReg.DST].eq(reg[StoreReg.DST] + field.value)
                with m.Case(Op.DONE):
                    m.d.comb += [self.i.ready.eq(~under_way), self.done.eq(self.i.valid & ~under_way)]
                with m.Default():
                    m.d.comb += self.i.ready.eq(self.tile_ready & ~next_base_valid)
                    with m.If(self.i.valid & self.i.ready):
                        start = (reg[StoreReg.LADDER] + store.tile * columns)[:12]
                        m.d.comb += self.take_tile.eq(1)
                        m.d.sync += [
                            running.eq(1),
                            tile.mode.eq(store.pool),
                            tile.low.eq(store.low),
                            tile.high.eq(store.high),
                            rows_left.eq(store.rows),
                            row.eq(0),
                            position.eq(0),
                            first_row.eq(1),
                            channel.eq(start),
                            channel_start.eq(start),
                            interval.eq(Mux(raw, columns, Mux(new_emit & (bits > groups), bits, groups))),
                        ]
                        with m.If(new_emit):
                            scale = Mux(raw, columns * raw_granules, tile_granules)
                            m.d.sync += [next_base.eq(reg[StoreReg.DST] + store.tile * scale), next_base_valid.eq(1)]
        with m.Else():
            m.d.sync += [position.eq(position + 1), channel.eq(channel + ladders)]
            with m.If(self.shift):
                m.d.sync += [
                    position.eq(0),
                    row.eq(row + 1),
                    rows_left.eq(rows_left - 1),
                    first_row.eq(0),
                    channel.eq(channel_start),
                ]
                with m.If(self.release):
                    m.d.sync += running.eq(0)

        # --- ladders, then pool ------------------------------------------------------------------
        results = Array(
            self.drained[k * config.acc_width : (k + 1) * config.acc_width] for k in range(columns)
        )
        sum_ = Signal(config.acc_width)
        with m.If(reg[StoreReg.SUM]):
            m.d.comb += sum_.eq(self.drained[columns * config.acc_width :])
        m.d.comb += [
            self.ladder_read.eq(selecting),
            self.ladder_address.eq(channel >> (exact_log2(ladders))),
        ]
        m.submodules.pool = pool = Pool(config)
        totals, codes = [], []
        for p in range(ladders):
            m.submodules[f"ladder{p}"] = ladder = Ladder(config)
            index = Signal(range(columns), name=f"index{p}")
            m.d.comb += [
                index.eq(Mux(raw, position, position * ladders + p)),
                ladder.result.eq(results[index]),
                ladder.sum.eq(sum_),
                ladder.parameters.eq(
                    self.ladder_data[p * 32 * config.ladder_words : (p + 1) * 32 * config.ladder_words]
                ),
                ladder.bits.eq(bits),
            ]
            totals.append(ladder.total)
            codes.append(ladder.code)

        valid, flags = Signal(), Signal(flag_layout)
        m.d.comb += [
            valid.eq(selecting),
            flags.tile.eq(first_row & (position == 0)),
            flags.last.eq(last_of_row),
            flags.emit.eq(emit),
            flags.masked.eq((tile.mode != Mode.NONE) & ((row < tile.low) | (row > tile.high))),
            flags.mode.eq(tile.mode),
        ]
        latency = Ladder.LATENCY
        valids = delay_line(m, valid, latency + 1, "valid")
        flag = delay_line(m, flags, latency + 1, "flags", reset_less=True)
        m.d.comb += [
            pool.valid.eq(valids[latency - 1] & ~raw),
            pool.start.eq(flag[latency - 1].tile),
            pool.mode.eq(flag[latency].mode),
            pool.masked.eq(flag[latency].masked),
            pool.code.eq(Cat(codes)),
        ]

        # --- gather codes to planes, write one plane per cycle ---------------------------------------
        gathered = [Signal(columns, name=f"gathered{k}", reset_less=True) for k in range(8)]
        planes = [Signal(columns, name=f"planes{k}", reset_less=True) for k in range(8)]
        writing, write_plane = Signal(), Signal(3, reset_less=True)
        out_valid, out = valids[latency + 1] & flag[latency + 1].emit & ~raw, flag[latency + 1]
        row_base, pointer = Signal(_ADDRESS, reset_less=True), Signal(_ADDRESS, reset_less=True)
        tile_start = Signal(reset_less=True)
        with m.If(writing):
            m.d.sync += [write_plane.eq(write_plane + 1), pointer.eq(pointer + reg[StoreReg.PLANE_STRIDE])]
            m.d.sync += [low.eq(high) for low, high in zip(planes[:-1], planes[1:], strict=True)]
            with m.If(write_plane == bits - 1):
                m.d.sync += writing.eq(0)
        with m.If(out_valid):
            merged = []
            for k in range(8):
                new = Cat(pool.o[8 * p + k] for p in range(ladders))
                merged.append(Cat(gathered[k], new)[ladders:])
                m.d.sync += gathered[k].eq(merged[k])
            with m.If(out.tile):
                m.d.sync += tile_start.eq(1)
            with m.If(out.last):
                starts = tile_start | out.tile
                base = Mux(starts, next_base, row_base)
                m.d.sync += [
                    tile_start.eq(0),
                    writing.eq(1),
                    write_plane.eq(0),
                    pointer.eq(base),
                    row_base.eq(base + reg[StoreReg.PIXEL_STRIDE]),
                    [plane.eq(value) for plane, value in zip(planes, merged, strict=True)],
                ]
                with m.If(starts):
                    m.d.sync += next_base_valid.eq(0)

        # --- raw results, one per cycle -------------------------------------------------------------
        raw_valid, raw_flags = Signal(), flag[2]
        raw_pointer, raw_here = Signal(_ADDRESS, reset_less=True), Signal(_ADDRESS)
        raw_row = Signal(_ADDRESS, reset_less=True)
        m.d.comb += [raw_valid.eq(valids[2] & raw), raw_here.eq(Mux(raw_flags.tile, next_base, raw_pointer))]
        with m.If(raw_valid):
            m.d.sync += raw_pointer.eq(raw_here + raw_granules)
            with m.If(raw_flags.tile):
                m.d.sync += [next_base_valid.eq(0), raw_row.eq(next_base)]
            with m.If(raw_flags.last):
                next_row = ((Mux(raw_flags.tile, next_base, raw_row)) + reg[StoreReg.PIXEL_STRIDE])[:_ADDRESS]
                m.d.sync += [raw_pointer.eq(next_row), raw_row.eq(next_row)]

        # --- main memory: the data stand at every place of the word, write enables choose --------------
        place = Signal(range(config.granules_per_word))
        m.d.comb += [self.write.eq(writing | raw_valid), place.eq(self.address)]
        with m.If(raw):
            m.d.comb += [
                self.address.eq(raw_here),
                self.wdata.eq((totals[0] | Const(0, 32)).replicate(config.mem_width // 32)),
                self.we.eq(Cat(g // raw_granules == place >> exact_log2(raw_granules) for g in range(config.granules_per_word))),
            ]
        with m.Else():
            m.d.comb += [
                self.address.eq(pointer),
                self.wdata.eq(planes[0].replicate(config.mem_width // columns)),
                self.we.eq(
                    Cat(
                        (g // tile_granules == place >> exact_log2(tile_granules)) & (g % tile_granules < reg[StoreReg.GRANULES])
                        for g in range(config.granules_per_word)
                    )
                ),
            ]
        m.d.comb += [
            under_way.eq(Cat(valids[1:]).any() | writing | next_base_valid),
            self.busy.eq(running | under_way),
        ]
        return m
