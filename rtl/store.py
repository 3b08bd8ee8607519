"""Store engine: drains a tile row by row, requantizes, pools, and writes planes or raw results to main memory."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.isa import Op, StoreReg
from ..golden.isa import Pool as Mode
from .config import Config
from .delay import delay_line
from .gather import Gather
from .isa import REGISTER, STORE
from .ladder import Ladder
from .pool import Pool
from .primitives.adders import decrement, increment
from .primitives.dsp import held
from .primitives.ice40 import lut4

__all__ = ["Store"]


def _case(op: Op) -> int:
    """Bits 1 and 3 of an operation, by which the engine knows those that it takes."""
    return op >> 1 & 1 | op >> 3 << 1


def _is(op: Op, one, three):
    """Whether bits 1 and 3 are those of the operation."""
    return ~(one ^ (_case(op) & 1)) & ~(three ^ (_case(op) >> 1))


class _RowEnd(wiring.Component):
    """Whether a row ends: `running` and `position` is `end`.

    As a component it stays one of its own. Where it drives a long way, a placer draws its LUTs along that, away from
    the others that ask.
    """

    def __init__(self, width: int) -> None:
        super().__init__({"running": In(1), "position": In(width), "end": In(width), "o": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(self.running & (self.position == self.end))
        return m


class Store(wiring.Component):
    """Takes SET, ADD, STORE and DONE.

    SET and DONE take one cycle and wait until nothing was under way in the cycle before, ADD takes one cycle. STORE
    starts when the tile stands in the drain registers; it takes one cycle to start and `interval` cycles per row, where
    interval = max(columns / ladders, groups of planes if it writes them), or columns when RAW. A STORE or ADD also
    waits until, of the STOREs before it that write, all but the last one have begun to. A row's `columns / ladders`
    groups of results are taken from the drain chain in its first cycles, and come `drain_lag` cycles later. A row's
    planes are written from `ladder_latency + 2` cycles after its last group has come, `planes` per cycle; a raw result
    in the cycle after it has come.

    Members
    -------
    i : In(stream of 32)
    tile_ready : In(2), take_tile : Out(1)
        A tile stands in the drain registers, as one bit or the other says; its draining starts.
    release : Out(1)
        The next tile's last word may be on its way: what it replaces in the drain registers will have left them.
    drained : In(ladders * acc_width)
        Drain registers in front: the first ones of row 0.
    with_sum : Out(1), sums : In(acc_width), one per ladder
        Results count with the drain register of the sum column of row 0, which comes to each ladder on a way of its
        own; else zeros come. `with_sum` is constant while results are under way.
    shift, shift_sum : Out(1)
        Move the drain chain on by `ladders` results, that of the sum column by a row.
    shift_next : Out(1)
        `shift` of the next cycle.
    row_start : Out(1)
        The first group of a row comes: `drained` is a word of the drain trace.
    ladder_read : Out(1), ladder_address : Out, ladder_data : In
        Parameters of `ladders` neighbouring channels, `Config.parameters_lag` cycles after `ladder_read`.
    late_read : Out(ladders), late_address : Out, late_word : In(32), one per ladder
        Correction bits, 1 + `stages` cycles after `late_read`; see `Ladder`.
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
                "tile_ready": In(2),
                "take_tile": Out(1),
                "release": Out(1),
                "drained": In(config.ladders * config.acc_width),
                "with_sum": Out(1),
                "sums": In(config.acc_width).array(config.ladders),
                "shift": Out(1),
                "shift_sum": Out(1),
                "shift_next": Out(1),
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

    def _tile_address(self, pixel: Value, tile: Value, raw: Value) -> Value:
        """Granule address of a column tile; see golden/tensor.py. In raw tensors no planes lie in between."""
        config = self.config
        below, planes = exact_log2(config.chunk // config.granule), exact_log2(config.planes)
        channels = tile * (config.columns // config.granule)
        offset = Mux(raw, tile * (config.columns * 32 // config.granule),
                     Cat(channels[:below], Const(0, planes), channels[below:]))  # fmt: skip
        in_gap = [below <= bit < below + planes for bit in range(len(pixel))]
        leap = Cat(bit | ~raw if gap else bit for bit, gap in zip(pixel, in_gap, strict=True))
        total = (leap + offset)[: len(pixel)]
        return Cat(bit & raw if gap else bit for bit, gap in zip(total, in_gap, strict=True))

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
            StoreReg.GROUP_STRIDE: Signal(address, name="group_stride", reset_less=True),
            StoreReg.BITS: Signal(4, name="bits", reset_less=True),
            StoreReg.SUM: Signal(name="sum", reset_less=True),
            StoreReg.RAW: Signal(name="raw", reset_less=True),
            StoreReg.SHIFT: Signal(name="shift_codes", reset_less=True),
            StoreReg.LADDER: Signal(range(config.ladder_depth), name="ladder", reset_less=True),
        }
        raw, bits = reg[StoreReg.RAW], reg[StoreReg.BITS]
        several = config.planes > 1
        # Codes are written in groups of `planes` planes, from plane 0 or 1 on: number of the last group.
        last_write = Signal(range(8))
        m.d.comb += last_write.eq((bits - (~reg[StoreReg.SHIFT] if several else 1)) >> exact_log2(config.planes))
        opcode = self.i.payload[28:]
        field, store = Signal(REGISTER), Signal(STORE)
        m.d.comb += [field.eq(self.i.payload), store.eq(self.i.payload)]

        # --- take: one group of results per cycle ----------------------------------------------------
        running, under_way, moved, still = (Signal(name=n) for n in ("running", "under_way", "moved", "still"))
        flag_layout = data.StructLayout({"tile": 1, "last": 1, "mode": 2})
        tile = Signal(data.StructLayout({"mode": 2, "low": 5, "high": 5}), reset_less=True)
        rows_left, row = Signal(5, reset_less=True), Signal(5, reset_less=True)
        interval_end = Signal(range(max(columns, 8)), reset_less=True)
        release_at = Signal.like(interval_end)
        position = Signal(range(max(columns, 8)), reset_less=True)
        channel_tile = Signal(range(max(2, config.ladder_depth // columns)), reset_less=True)
        first_row = Signal(reset_less=True)
        next_base, next_base_valid = Signal(address, reset_less=True), Signal()
        row_event, new_tile = Signal(), Signal()  # the pointer goes to a row, to the first one of a tile
        # A STORE that has started while the base of the one before still stands in `next_base`.
        waiting, waiting_tile = Signal(), Signal(len(store.tile), reset_less=True)
        taking, last_of_row, row_end, next_row, next_row_start = (
            Signal(name=n) for n in ("taking", "last_of_row", "row_end", "next_row", "next_row_start")
        )
        m.d.comb += [
            last_of_row.eq(position == Mux(raw, columns, groups) - 1),
            row_end.eq(running & (position == interval_end)),
            next_row.eq(row_end & (rows_left != 0)),
            next_row_start.eq(self.take_tile | next_row),
            self.release.eq(running & (rows_left == 0) & (position == release_at)),
        ]
        shift_sum = row_end
        if config.stages:
            m.submodules.shift_sum = again = _RowEnd(len(position))
            m.d.comb += [again.running.eq(running), again.position.eq(position), again.end.eq(interval_end)]
            shift_sum = again.o
        m.d.comb += self.shift_sum.eq(shift_sum)
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
        # For anything but a STORE; for a STORE, with a tile; where there is one, too.
        ready, may_take, starts_tile, busy = (Signal(name=n) for n in ("ready", "may_take", "starts_tile", "busy"))
        m.d.comb += busy.eq(running | waiting)

        def with_tile(name: str, always: Value, sometimes: Value) -> Value:
            """`always`, or `sometimes` where a tile is ready: in one LUT, as the array says so late."""
            return lut4(
                m, platform, lambda always, sometimes, a, b: always | (sometimes & (a | b)), always, sometimes,
                *self.tile_ready, name=f"{name}_lut",
            )  # fmt: skip

        # The fetch unit sends no other operations than these: bits 3 and 1 tell them apart.
        with m.Switch(Cat(opcode[1], opcode[3])):
            with m.Case(_case(Op.SET)):  # `still` is never 1 while `running`
                m.d.comb += [ready.eq(still), set_.eq(self.i.valid & still)]
            with m.Case(_case(Op.ADD)):
                m.d.comb += ready.eq(~busy)
            with m.Case(_case(Op.DONE)):
                m.d.comb += [ready.eq(still), self.done.eq(self.i.valid & still)]
            with m.Case(_case(Op.STORE)):
                m.d.comb += may_take.eq(~busy)

        def starts_store(one, three, valid, busy):
            return _is(Op.STORE, one, three) & valid & ~busy

        m.d.comb += [
            self.i.ready.eq(with_tile("ready", ready, may_take)),
            starts_tile.eq(
                lut4(m, platform, starts_store, opcode[1], opcode[3], self.i.valid, busy, name="starts_tile_lut")
            ),
            self.take_tile.eq(with_tile("take", Const(0), starts_tile)),
        ]
        m.d.sync += running.eq(with_tile("running", running & ~(row_end & (rows_left == 0)), starts_tile))
        chosen = {r: set_ & (field.reg[: exact_log2(len(reg))] == r) for r in reg}
        strides = (StoreReg.PIXEL_STRIDE, StoreReg.GROUP_STRIDE)
        # With few block RAMs the ladder memory has the multiplier.
        place = None if config.few_rams else platform
        values = held(m, place, *((field.value[:address], chosen[r]) for r in strides), name="stride")
        m.d.comb += [reg[r].eq(value) for r, value in zip(strides, values, strict=True)]
        dst = reg[StoreReg.DST]
        changes = lut4(
            m, platform, lambda a, b, moved, busy: (_is(Op.SET, a, b) & ~moved) | (_is(Op.ADD, a, b) & ~busy),
            opcode[1], opcode[3], moved, busy, name="changes_lut",
        )  # fmt: skip
        with m.If(changes & self.i.valid & (field.reg[: exact_log2(len(reg))] == StoreReg.DST)):
            m.d.sync += dst.eq(Mux(set_, 0, dst) + field.value)
        for r, target in reg.items():
            if r not in strides and r != StoreReg.DST:
                with m.If(chosen[r]):
                    m.d.sync += target.eq(field.value)
        # `taking` and `shift` are registers, as the drain chain is all over the array.
        goes_on = taking & ~last_of_row
        takes_on = next_row | goes_on
        slowly = raw & (ladders > 1)
        m.d.sync += [
            taking.eq(with_tile("taking", takes_on, starts_tile)),
            self.shift.eq(self.shift_next),
        ]
        m.d.comb += self.shift_next.eq(
            with_tile("shift", Mux(slowly, goes_on & (group.within == ladders - 2), takes_on), starts_tile & ~slowly)
        )
        with m.If(~running):
            # What a STORE starts from follows the instruction in front until it is taken.
            planes_end = Mux(new_emit & (last_write >= groups), last_write, groups - 1)
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
            m.d.sync += position.eq(increment(m, platform, position, name="position"))
            with m.If(row_end):
                m.d.sync += [
                    position.eq(0),
                    row.eq(increment(m, platform, row, name="row")),
                    rows_left.eq(decrement(m, platform, rows_left, name="rows_left")),
                    first_row.eq(0),
                ]
        base_tile = Mux(waiting, waiting_tile, store.tile)
        with m.If(~next_base_valid):
            m.d.sync += next_base.eq(self._tile_address(reg[StoreReg.DST], base_tile, raw))
        taken_over = row_event & new_tile
        m.d.sync += [
            next_base_valid.eq(
                with_tile("base", (next_base_valid | waiting) & ~taken_over, starts_tile & new_emit & ~taken_over)
            ),
            waiting.eq(with_tile("waiting", next_base_valid & waiting, next_base_valid & starts_tile & new_emit)),
        ]
        with m.If(~waiting):
            m.d.sync += waiting_tile.eq(store.tile)

        # --- ladders, then pool ------------------------------------------------------------------
        latency, lag = config.ladder_latency, config.drain_lag
        m.d.comb += [
            self.with_sum.eq(reg[StoreReg.SUM] if config.sum_column else 0),
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
        ahead = lag + 1 - config.parameters_lag  # they stand at the ladder a cycle after the result
        m.d.comb += [
            self.ladder_read.eq(takes[ahead]),
            self.ladder_address.eq(taken[ahead].channel),
        ]
        valids = delay_line(m, takes[lag], latency + 1, "valid")
        m.submodules.pool = pool = Pool(config)
        totals, valid_planes = [], []
        for p in range(ladders):
            m.submodules[f"ladder{p}"] = ladder = Ladder(config)
            m.d.comb += [
                ladder.result.eq(self.drained.word_select(p, config.acc_width)),
                ladder.sum.eq(self.sums[p]),
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
            if several:
                valid = delay_line(m, ladder.parameters.valid, latency, f"valid_plane{p}", reset_less=True)[-1]
                valid_planes.append(valid)
            m.d.comb += pool.code.word_select(p, 8).eq(ladder.code)

        flag = delay_line(m, taken[lag].flags, latency + 1, "flags", reset_less=True)
        m.d.comb += [
            pool.valid.eq(valids[latency - 1] & ~raw),
            pool.start.eq(flag[latency - 1].tile),
            pool.mode.eq(flag[latency].mode),
        ]

        # --- gather codes to planes ----------------------------------------------------------------------
        codes = [pool.o.word_select(p, 8) for p in range(ladders)]
        if several:
            shifted = [Cat(valid, code) for valid, code in zip(valid_planes, codes, strict=True)]
            codes = [Mux(reg[StoreReg.SHIFT], *both) for both in zip(shifted, codes, strict=True)]
        load = Signal()  # the last codes of a row are there
        writing, write = Signal(), Signal.like(last_write, reset_less=True)
        m.submodules.gather = gather = Gather(config)
        m.d.comb += [to.eq(code) for to, code in zip(gather.codes, codes, strict=True)]
        m.d.comb += [gather.complete.eq(load), gather.group.eq(write)]
        # What happens to the codes that come in the next cycle.
        coming = flag[latency]
        emits = valids[latency] & ~raw & ((coming.mode == Mode.NONE) | (coming.mode == Mode.LAST))
        starts = Signal(reset_less=True)
        with m.If(emits):
            m.d.sync += starts.eq((starts | coming.tile) & ~coming.last)
        m.d.sync += [
            row_event.eq(Mux(raw, row_starts[lag], emits & coming.last)),
            new_tile.eq(Mux(raw, taken[lag].new_tile, starts | coming.tile)),
        ]
        m.d.sync += load.eq(emits & coming.last)
        with m.If(load):
            m.d.sync += write.eq(0)
        with m.Elif(writing):
            m.d.sync += write.eq(increment(m, platform, write, name="write_next"))
        # Raw results are written in the cycle after they are taken. One register, as it decides who has main memory.
        m.d.sync += writing.eq((raw & takes[lag]) | load | (writing & ~raw & (write != last_write)))

        # --- where: a pointer over the groups of planes or the raw results of a row ----------------------
        row_base, pointer = Signal(address, reset_less=True), Signal(address, reset_less=True)
        base = Signal(address)
        m.d.comb += base.eq(Mux(new_tile, next_base, row_base))
        with m.If(row_event):
            m.d.sync += [pointer.eq(base), row_base.eq(base + reg[StoreReg.PIXEL_STRIDE])]
        with m.Else():
            m.d.sync += pointer.eq(pointer + Mux(raw, raw_granules, reg[StoreReg.GROUP_STRIDE]))

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
            # Granule g of a word: `below` bits of it count channels, then the plane, then channels again.
            below, plane_bits = exact_log2(config.chunk // granule), exact_log2(config.planes)
            tile_here = Cat(place[:below], place[below + plane_bits :]) >> exact_log2(tile_granules)
            for g in range(len(self.we)):
                plane = g >> below & (config.planes - 1)
                channel = g & (1 << below) - 1 | g >> below + plane_bits << below
                part = gather.o[plane].word_select(channel % tile_granules, granule)
                m.d.comb += [
                    self.wdata.word_select(g, granule).eq(part),
                    self.we[g].eq(tile_here == channel // tile_granules),
                ]
        m.d.comb += [
            under_way.eq(running | Cat(takes[1:], valids[1:]).any() | writing | next_base_valid | waiting),
            still.eq(~moved),
            self.busy.eq(running | moved),
        ]
        m.d.sync += moved.eq(with_tile("moved", under_way, starts_tile))
        return m
