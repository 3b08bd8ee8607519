"""Store engine: drains a tile row by row, requantizes, pools, and writes planes or raw results to main memory."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.isa import Op, StoreReg
from ..golden.isa import Pool as Mode
from .config import Config
from .delay import delay_line
from .isa import REGISTER, STORE
from .ladder import Ladder
from .pool import Pool

__all__ = ["Store"]


def _case(op: Op) -> int:
    return op >> 1 & 1 | op >> 3 << 1


class Store(wiring.Component):
    """Takes SET, ADD, STORE and DONE.

    SET and DONE take one cycle and wait until nothing was under way in the cycle before, ADD takes one cycle. STORE
    starts when the tile stands in the drain registers and the STORE before it has begun to write, if it writes at all;
    it takes one cycle to start and `interval` cycles per row, where interval = max(columns / ladders, BITS if it writes
    planes), or columns when RAW. A row's `columns / ladders` groups of results are taken from the drain chain in its
    first cycles, and come `drain_lag` cycles later. A row's planes are written from `ladder_latency + 2` cycles after
    its last group has come, one per cycle; a raw result in the cycle after it has come.

    Members
    -------
    i : In(stream of 32)
    tile_ready : In(1), take_tile : Out(1)
        A tile stands in the drain registers; its draining starts.
    release : Out(1)
        The next tile's last word may be on its way: what it replaces in the drain registers will have left them.
    drained : In((columns + 1) * acc_width)
        Drain registers of row 0.
    shift, shift_sum : Out(1)
        Move the drain chain on by `ladders` results, that of the sum column by a row.
    row_start : Out(1)
        The first group of a row comes: `drained` is a word of the drain trace.
    ladder_read : Out(1), ladder_address : Out, ladder_data : In
        Parameters of `ladders` neighbouring channels, 1 + `stages` cycles after `ladder_read`.
    late_read : Out(ladders), late_address : Out, late_word : In(32), one per ladder
        Correction bits, as late; see `Ladder`.
    done : Out(1)
        Pulses for DONE.
    write : Out(1), address : Out(granule_address_bits), we : Out, wdata : Out
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
                "shift_sum": Out(1),
                "row_start": Out(1),
                "ladder_read": Out(1),
                "ladder_address": Out(range(max(2, config.ladder_depth // config.ladders))),
                "ladder_data": In(config.ladders * 32 * config.line_words),
                "late_read": Out(config.ladders),
                "late_address": Out(range(8 * max(2, config.ladder_depth // config.ladders))).array(config.ladders),
                "late_word": In(32).array(config.ladders),
                "done": Out(1),
                "write": Out(1),
                "address": Out(config.granule_address_bits),
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
        address, lead = config.granule_address_bits, config.release_lead

        reg = {
            StoreReg.DST: Signal(address, name="dst", reset_less=True),
            StoreReg.PIXEL_STRIDE: Signal(address, name="pixel_stride", reset_less=True),
            StoreReg.PLANE_STRIDE: Signal(address, name="plane_stride", reset_less=True),
            StoreReg.BITS: Signal(4, name="bits", reset_less=True),
            StoreReg.SUM: Signal(name="sum", reset_less=True),
            StoreReg.RAW: Signal(name="raw", reset_less=True),
            StoreReg.GRANULES: Signal(range(tile_granules + 1), name="granules", reset_less=True),
            StoreReg.LADDER: Signal(range(config.ladder_depth), name="ladder", reset_less=True),
        }
        raw, bits = reg[StoreReg.RAW], reg[StoreReg.BITS]
        opcode = self.i.payload[28:]
        field, store = Signal(REGISTER), Signal(STORE)
        m.d.comb += [field.eq(self.i.payload), store.eq(self.i.payload)]

        # --- take: one group of results per cycle ----------------------------------------------------
        running, under_way, still = Signal(), Signal(), Signal()
        flag_layout = data.StructLayout({"tile": 1, "last": 1, "mode": 2})
        tile = Signal(data.StructLayout({"mode": 2, "low": 5, "high": 5}), reset_less=True)
        rows_left, row = Signal(5, reset_less=True), Signal(5, reset_less=True)
        interval_end = Signal(range(max(columns, 8)), reset_less=True)
        release_at = Signal.like(interval_end)
        position = Signal(range(max(columns, 8)), reset_less=True)
        channel_tile = Signal(range(max(2, config.ladder_depth // columns)), reset_less=True)
        first_row = Signal(reset_less=True)
        next_base, next_base_valid = Signal(address, reset_less=True), Signal()
        taking, last_of_row, row_end, next_row_start = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            last_of_row.eq(position == Mux(raw, columns, groups) - 1),
            row_end.eq(running & (position == interval_end)),
            next_row_start.eq(self.take_tile | (row_end & (rows_left != 0))),
            self.shift_sum.eq(row_end),
            self.release.eq(running & (rows_left == 0) & (position == release_at)),
        ]
        # What goes with a group: as it is taken from the chain (`taken[0]`) and as it comes (`taken[lag]`).
        group = Signal(
            data.StructLayout(
                {
                    "flags": flag_layout, "masked": 1,
                    "within": max(1, exact_log2(ladders)),  # raw: result within a group
                    "channel": len(self.ladder_address), "new_tile": 1,
                }
            )
        )  # fmt: skip
        new_emit = (store.pool == Mode.NONE) | (store.pool == Mode.LAST)
        set_ = Signal()
        # The fetch unit sends no other operations than these: bits 3 and 1 tell them apart.
        with m.Switch(Cat(opcode[1], opcode[3])):
            with m.Case(_case(Op.SET)):  # `still` is never 1 while `running`
                m.d.comb += [self.i.ready.eq(still), set_.eq(self.i.valid & still)]
            with m.Case(_case(Op.ADD)):
                m.d.comb += self.i.ready.eq(~running)
                with m.If(self.i.valid & ~running & (field.reg == StoreReg.DST)):
                    m.d.sync += reg[StoreReg.DST].eq(reg[StoreReg.DST] + field.value)
            with m.Case(_case(Op.DONE)):
                m.d.comb += [self.i.ready.eq(still), self.done.eq(self.i.valid & still)]
            with m.Case(_case(Op.STORE)):
                m.d.comb += [
                    self.i.ready.eq(~running & self.tile_ready & ~next_base_valid),
                    self.take_tile.eq(self.i.valid & self.i.ready),
                ]
        with m.If(self.take_tile):
            m.d.sync += [running.eq(1), next_base_valid.eq(new_emit)]
        chosen = {r: set_ & (field.reg[: exact_log2(len(reg))] == r) for r in reg}
        for r, target in reg.items():
            with m.If(chosen[r]):
                m.d.sync += target.eq(field.value)
        # `taking` and `shift` are registers, as the drain chain is all over the array.
        goes_on = taking & ~last_of_row
        m.d.sync += [
            taking.eq(next_row_start | goes_on),
            self.shift.eq(Mux(raw & (ladders > 1), goes_on & (group.within == ladders - 2), next_row_start | goes_on)),
        ]
        with m.If(~running):
            # What a STORE starts from follows the instruction in front until it is taken.
            scale = Mux(raw, columns * raw_granules, tile_granules)
            planes_end = Mux(new_emit & (bits > groups), bits, groups) - 1
            m.d.sync += [
                tile.mode.eq(store.pool),
                tile.low.eq(store.low),
                tile.high.eq(store.high),
                rows_left.eq(store.rows),
                row.eq(0),
                position.eq(0),
                first_row.eq(1),
                channel_tile.eq((reg[StoreReg.LADDER] >> exact_log2(columns)) + store.tile),
                interval_end.eq(Mux(raw, columns - 1, planes_end)),
                release_at.eq(Mux(raw, max(columns - 1 - lead, 0), Mux(planes_end > lead, planes_end - lead, 0))),
            ]
        with m.Else():
            m.d.sync += position.eq(position + 1)
            with m.If(row_end):
                m.d.sync += [position.eq(0), row.eq(row + 1), rows_left.eq(rows_left - 1), first_row.eq(0)]
                with m.If(rows_left == 0):
                    m.d.sync += running.eq(0)
        with m.If(~next_base_valid):
            m.d.sync += next_base.eq(reg[StoreReg.DST] + store.tile * scale)

        # --- ladders, then pool ------------------------------------------------------------------
        drained = [self.drained[k * config.acc_width : (k + 1) * config.acc_width] for k in range(columns + 1)]
        sum_ = drained[columns] & reg[StoreReg.SUM].replicate(config.acc_width) if config.sum_column else 0
        latency, lag = config.ladder_latency, config.drain_lag
        m.d.comb += [
            group.flags.tile.eq(first_row & (position == 0)),
            group.flags.last.eq(last_of_row),
            group.flags.mode.eq(tile.mode),
            group.masked.eq((tile.mode != Mode.NONE) & ((row < tile.low) | (row > tile.high))),
            group.within.eq(position & (ladders - 1)),
            group.channel.eq(Cat(position[: exact_log2(groups)], channel_tile)),
            group.new_tile.eq(~running),
        ]
        taken = delay_line(m, group, lag, "taken", reset_less=True)
        takes = delay_line(m, taking, lag, "takes")
        row_starts = delay_line(m, next_row_start, lag, "row_starts")
        m.d.sync += self.row_start.eq(row_starts[lag])
        ahead = lag - config.stages  # parameters come `stages` later than from a block RAM
        m.d.comb += [
            self.ladder_read.eq(takes[ahead]),
            self.ladder_address.eq(taken[ahead].channel),
        ]
        valids = delay_line(m, takes[lag], latency + 1, "valid")
        m.submodules.pool = pool = Pool(config)
        totals, codes = [], []
        for p in range(ladders):
            m.submodules[f"ladder{p}"] = ladder = Ladder(config)
            m.d.comb += [
                ladder.result.eq(drained[p]),
                ladder.sum.eq(sum_),
                ladder.zero.eq(taken[lag].masked),
                ladder.parameters.eq(self.ladder_data[p * 32 * config.line_words : (p + 1) * 32 * config.line_words]),
                ladder.bits.eq(bits),
            ]
            if config.corrections:
                m.d.comb += [
                    ladder.channel.eq(taken[lag].channel),
                    self.late_read[p].eq(ladder.late_read & valids[latency - ladder.LATE]),
                    self.late_address[p].eq(ladder.late_address),
                    ladder.late_word.eq(self.late_word[p]),
                ]
            totals.append(ladder.total)
            codes.append(ladder.code)

        flag = delay_line(m, taken[lag].flags, latency + 1, "flags", reset_less=True)
        m.d.comb += [
            pool.valid.eq(valids[latency - 1] & ~raw),
            pool.start.eq(flag[latency - 1].tile),
            pool.mode.eq(flag[latency].mode),
            pool.code.eq(Cat(codes)),
        ]

        # --- gather codes to planes -----------------------------------------------------------------
        gathered = [Signal(columns, name=f"gathered{k}", reset_less=True) for k in range(8)]
        planes = [Signal(columns, name=f"planes{k}", reset_less=True) for k in range(8)]
        writing, write_plane = Signal(), Signal(3, reset_less=True)
        # What happens to the codes that come in the next cycle.
        coming = flag[latency]
        emits = valids[latency] & ~raw & ((coming.mode == Mode.NONE) | (coming.mode == Mode.LAST))
        starts, gather = Signal(reset_less=True), Signal()
        row_event, new_tile = Signal(), Signal()
        with m.If(emits):
            m.d.sync += starts.eq((starts | coming.tile) & ~coming.last)
        m.d.sync += [
            gather.eq(emits),
            row_event.eq(Mux(raw, row_starts[lag], emits & coming.last)),
            new_tile.eq(Mux(raw, taken[lag].new_tile, starts | coming.tile)),
        ]
        # Planes are written from the cycle after `load` on, one per cycle, so they move on in every cycle but that.
        load = Signal()
        m.d.sync += load.eq(emits & coming.last)
        with m.If(load):
            m.d.sync += write_plane.eq(0)
        with m.Elif(writing):
            m.d.sync += write_plane.eq(write_plane + 1)
        # Raw results are written in the cycle after they are taken. One register, as it decides who has main memory.
        m.d.sync += writing.eq((raw & takes[lag]) | load | (writing & ~raw & (write_plane != bits - 1)))
        for k, (plane, above) in enumerate(zip(planes, [*planes[1:], None], strict=True)):
            new = Cat(gathered[k], Cat(pool.o[8 * p + k] for p in range(ladders)))[ladders:]
            m.d.sync += plane.eq(new if above is None else Mux(load, new, above))
            with m.If(gather):
                m.d.sync += gathered[k].eq(new)

        # --- where: a pointer over the planes or the raw results of a row --------------------------------
        row_base, pointer = Signal(address, reset_less=True), Signal(address, reset_less=True)
        base = Signal(address)
        m.d.comb += base.eq(Mux(new_tile, next_base, row_base))
        with m.If(row_event):
            m.d.sync += [pointer.eq(base), row_base.eq(base + reg[StoreReg.PIXEL_STRIDE])]
            with m.If(new_tile):
                m.d.sync += next_base_valid.eq(0)
        with m.Else():
            m.d.sync += pointer.eq(pointer + Mux(raw, raw_granules, reg[StoreReg.PLANE_STRIDE]))

        # --- main memory: the data stand at every place of the word, write enables choose --------------
        within = delay_line(m, taken[lag].within, 1, "within", reset_less=True)[-1]  # raw: total within a group
        place = Signal(range(config.granules_per_word))
        m.d.comb += [
            self.write.eq(writing),
            self.address.eq(pointer),
            place.eq(pointer),
        ]
        with m.If(raw):
            total = Cat(Array(totals)[within], Const(0, 32 - config.acc_width))
            m.d.comb += [
                self.wdata.eq(total.replicate(config.mem_width // 32)),
                self.we.eq(Cat(g // raw_granules == place >> exact_log2(raw_granules) for g in range(len(self.we)))),
            ]
        with m.Else():
            m.d.comb += [
                self.wdata.eq(planes[0].replicate(config.mem_width // columns)),
                self.we.eq(
                    Cat(
                        (g // tile_granules == place >> exact_log2(tile_granules))
                        & (g % tile_granules < reg[StoreReg.GRANULES])
                        for g in range(len(self.we))
                    )
                ),
            ]
        m.d.comb += [
            under_way.eq(running | Cat(takes[1:], valids[1:]).any() | writing | next_base_valid),
            self.busy.eq(running | ~still),
        ]
        m.d.sync += still.eq(~(under_way | self.take_tile))
        return m
