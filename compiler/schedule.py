"""Work lists of layers: what the three engines do, in program order, with the buffer words that each task touches.

compiler/order.py then moves loads ahead, compiler/tokens.py places tokens, and compiler/assemble.py makes instructions
of tasks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..golden.isa import ExecReg, LoadReg, Op, Pool, StoreReg
from ..golden.tensor import tile_address
from .layout import RawLayout, TensorLayout
from .lowering import Lowered, Segment
from .task import Task, buffer_words
from .tiling import Tiling

__all__ = ["LayerJob", "Schedule"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerJob:
    """All that the schedule of one layer needs to know."""

    low: Lowered
    tiling: Tiling
    source: TensorLayout
    target: TensorLayout | RawLayout
    filters: list[list[int]]
    """Chunk address of each column tile's filters: one address (whole), or one per segment and plane (split)."""
    null_filter: int
    """Chunk address of `columns` lane words of ones, for gaps."""
    valid_address: int
    """Chunk address of the validity pixel, 0 where there is none."""
    ladders: int
    """32-bit word address of the ladder parameters, 0 in a layer without thresholds."""
    sum_code: int | None
    """Weight code of the sum column, None where it is off."""


class _Ring:
    """Slots of a buffer, reused in turn; remembers what stands where."""

    def __init__(self, start: int, slots: int, size: int):
        self.start, self.slots, self.size = start, slots, size
        self.clear()

    def clear(self) -> None:
        self.held: list[object] = [None] * self.slots
        self.next = 0

    def rewind(self) -> None:
        """Begin with the first slot again: what every pixel tile does alike can become a loop."""
        self.next = 0

    def place(self, key: object) -> tuple[int, bool]:
        """Address of the slot that holds `key`, and whether it stands there already."""
        if key in self.held:
            return self.start + self.held.index(key) * self.size, True
        slot, self.next = self.next, (self.next + 1) % self.slots
        self.held[slot] = key
        return self.start + slot * self.size, False


class Schedule:
    """Tasks of a network in program order, layer by layer."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.done = 0
        """DONE tasks so far."""
        self._column_cursor = 0
        self._ladder_cursor = 0
        self._ladder_live: list[tuple[int, int]] = []

    # --- layers ----------------------------------------------------------------------------------

    def add(self, job: LayerJob) -> None:
        """Append a layer; it begins by waiting for the layer before and ends with DONE."""
        low, tiling = job.low, job.tiling
        config = self._config = low.config
        self._loada: dict[object, Mapping[int, int]] = {}
        self._exec: dict[object, Mapping[int, int]] = {}
        per_group = tiling.resident or min(tiling.column_tiles, 64, config.ladder_depth // config.columns)
        first_done = self.done
        waited = first_done == 0
        self._rows = _Ring(0, tiling.row_slots, tiling.slot_words)
        self._columns = _Ring(0, max(tiling.column_slots, 1), max(tiling.words))
        raw = low.layer.output_format is None
        total = tiling.column_tiles * config.columns
        together = total <= config.ladder_depth
        ladder_base = 0
        for first in range(0, tiling.column_tiles, per_group):
            count = min(per_group, tiling.column_tiles - first)
            if not raw and (first == 0 or not together):
                if first:
                    self._finish()
                    waited = False
                size = total if together else count * config.columns
                ladder_base, free = self._ladder_place(size, config.ladder_depth)
                if not free and not waited:
                    self._await()
                    waited = True
                self._load_ladders(job, ladder_base, first * config.columns, size, free)
            columns = self._load_filters(job, first, count) if tiling.resident else None
            if not waited:
                self._await()
                waited = True
            self._tiles(job, first, count, columns, ladder_base + (first * config.columns if together else 0))
        self._finish()

    def close(self) -> None:
        """End of the network: the last done token is taken, so that the next run finds none."""
        self.tasks += [Task(Op.AWAIT), Task(Op.HALT)]

    def _finish(self) -> None:
        self.tasks.append(Task(Op.DONE))
        self.done += 1

    def _await(self) -> None:
        """Every STORE so far is over: only the ladders loaded last are still in use."""
        self.tasks.append(Task(Op.AWAIT))
        self._ladder_live = self._ladder_live[-1:]

    def _ladder_place(self, size: int, depth: int) -> tuple[int, bool]:
        """Where `size` ladders go, and whether no STORE under way can still use that place."""
        base = self._ladder_cursor if self._ladder_cursor + size <= depth else 0
        self._ladder_cursor = base + size
        free = all(base + size <= start or start + count <= base for start, count in self._ladder_live)
        self._ladder_live.append((base, size))
        return base, free

    def _load_ladders(self, job: LayerJob, base: int, first: int, size: int, ahead: bool) -> None:
        """One LOADP per column tile, so that they can be spread between other loads."""
        config = job.low.config
        for n in range(0, size, config.columns):
            address = job.ladders + (first + n) * config.ladder_words
            fields = {"base": base + n, "count": config.columns}
            moving = ((LoadReg.WGT, address * 32 // config.chunk),)
            self.tasks.append(Task(Op.LOADP, fields, moving=moving, ahead=ahead))

    def _load_filters(self, job: LayerJob, first: int, count: int) -> list[int]:
        """Bring the filters of whole column tiles; returns their column buffer addresses."""
        tiling, config = job.tiling, job.low.config
        begin, size = len(self.tasks), count * tiling.tile_words
        base = self._column_cursor if self._column_cursor + size <= config.column_depth else 0
        self._column_cursor = base + size
        addresses = [base + i * tiling.tile_words for i in range(count)]
        for tile, address in zip(range(first, first + count), addresses, strict=True):
            at = address
            blocks = [tiling.tile_words] if not tiling.split else [
                words for words in tiling.words for _ in range(job.low.weight_format.bits)
            ]  # fmt: skip
            for source, words in zip(job.filters[tile], blocks, strict=True):
                self._loadw(at, words, source)
                at += words
            if tiling.gaps:
                self._loadw(at, 1, job.null_filter)
        for task in self.tasks[begin:]:
            task.ahead = True
        return addresses

    def _loadw(self, base: int, words: int, source: int) -> None:
        self.tasks.append(
            Task(Op.LOADW, {"base": base}, static={LoadReg.WWORDS: words}, moving=((LoadReg.WGT, source),),
                 column=buffer_words(base, words, self._config.column_depth))
        )  # fmt: skip

    # --- tiles -----------------------------------------------------------------------------------

    def _tiles(self, job: LayerJob, first: int, count: int, columns: list[int] | None, ladder: int) -> None:
        """All pixel tiles of the column tiles first .. first + count - 1."""
        low, tiling = job.low, job.tiling
        config = low.config
        height, width = low.pooled_shape
        store = self._store_registers(job, ladder)
        spots = [(y, x) for y in range(height) for x in range(0, width, config.rows)]
        if tiling.rolling:  # down the strips
            spots.sort(key=lambda spot: spot[1])
        for y, x in spots:
            rows = min(config.rows, width - x)
            begin = len(self.tasks)
            if tiling.split:
                self._rows.rewind()
                self._columns.rewind()
            windows = list(_windows(low, y, x, rows))
            for tile in range(count):
                for n, (oy, ox, span) in enumerate(windows):
                    corner = (oy * low.stride[0] - low.padding[0], ox * low.stride[1] - low.padding[1])
                    if tiling.split:
                        self._split(job, first + tile, corner, rows, None if columns is None else columns[tile])
                    else:
                        assert columns is not None
                        if not tiling.rolling:
                            patches = self._whole(job, corner, rows)
                        elif tile == 0:
                            patches = self._rolling(job, corner, rows, y == 0)
                        self._tile(job, patches, columns[tile])
                    kind = Pool.NONE
                    if len(windows) > 1:
                        kind = Pool.FIRST if n == 0 else Pool.LAST if n == len(windows) - 1 else Pool.NEXT
                    fields = {"rows": rows, "tile": tile, "pool": int(kind), "low": span[0], "high": span[1]}
                    where = self._destination(job, y * width + x, first)
                    self.tasks.append(Task(Op.STORE, fields, static=store, moving=((StoreReg.DST, where),)))
            next(task for task in self.tasks[begin:] if task.op is Op.EXEC).mark = True
        if tiling.column_slots:
            self._column_cursor = 0

    def _store_registers(self, job: LayerJob, ladder: int) -> Mapping[int, int]:
        config, target = job.low.config, job.target
        registers: dict[int, int] = {StoreReg.SUM: int(job.sum_code is not None)}
        if isinstance(target, RawLayout):
            registers |= {StoreReg.RAW: 1, StoreReg.PIXEL_STRIDE: target.stride * 32 // config.granule}
            return registers
        pixel = target.pixel_bits // config.granule
        if config.planes > 1:
            registers[StoreReg.SHIFT] = target.shift
        return registers | {
            StoreReg.RAW: 0, StoreReg.PIXEL_STRIDE: pixel, StoreReg.GROUP_STRIDE: target.height * target.width * pixel,
            StoreReg.BITS: target.bits, StoreReg.LADDER: ladder,
        }  # fmt: skip

    def _destination(self, job: LayerJob, pixel: int, first: int) -> int:
        """Granule address of an output pixel, first column tile `first`."""
        config, target = job.low.config, job.target
        if isinstance(target, RawLayout):
            return (
                target.address * config.mem_width + (pixel * target.stride + first * config.columns) * 32
            ) // config.granule
        start = (target.address * config.mem_width + pixel * target.pixel_bits) // config.granule
        return tile_address(config, start, first)

    def _load_registers(self, job: LayerJob, segment: Segment, plane: int, planes: int) -> Mapping[int, int]:
        """Loader registers for planes plane .. plane + planes - 1 of a segment."""
        words = job.low.words(segment)
        low = job.low
        whole_pixels = segment.units == low.units
        scale = 1 if whole_pixels else low.units
        step = low.stride[1] * (low.layer.pool.stride[1] if low.layer.pool else 1)
        group_step = (job.source.group_stride - (segment.kh - 1) * job.source.row_stride) & ((1 << 21) - 1)
        registers: dict[int, int] = {
            LoadReg.ROW_STRIDE: job.source.row_stride, LoadReg.GROUP_STEP: group_step,
            LoadReg.UNITS: low.units if whole_pixels else 1,
            LoadReg.KW: segment.kw if whole_pixels else segment.units, LoadReg.KH: segment.kh,
            LoadReg.STEP: step * scale, LoadReg.H: low.height, LoadReg.W: low.width * scale,
            LoadReg.PLANES: planes, LoadReg.PAD: low.act.pad >> plane & ((1 << planes) - 1),
            LoadReg.SKIP: max(0, job.tiling.stride - words),
        }  # fmt: skip
        if low.config.planes == 1:
            registers |= {
                LoadReg.UNIT_LOG2: job.source.unit_log2,
                LoadReg.VALID: int(low.act.validity and plane == 0), LoadReg.VALID_ADDR: job.valid_address,
            }  # fmt: skip
        return registers

    def _load_patch(
        self, job: LayerJob, segment: Segment, plane: int, planes: int, corner: tuple[int, int], rows: int, base: int
    ) -> None:  # fmt: skip
        """LOADA of planes of a segment of the patches from `corner` on, into row buffer words from `base` on."""
        low, source, config = job.low, job.source, self._config
        key = (segment, plane)
        static = self._loada.get(key)
        if static is None:
            static = self._loada[key] = self._load_registers(job, segment, plane, planes)
        iy, ix = corner[0] + segment.ky, corner[1] + segment.kx
        w = source.planes
        group = plane // w if w > 1 else plane - (low.act.validity and plane > 0)
        address = source.chunk_address + group * source.group_stride + iy * source.row_stride
        address += (ix * low.units + segment.u) * w << source.unit_log2
        if segment.units != low.units:
            ix = ix * low.units + segment.u
        moving = ((LoadReg.ACT, address % (1 << 21)), (LoadReg.IY, iy), (LoadReg.IX, ix))
        groups = -(-planes // config.planes)
        words = buffer_words(base, low.words(segment), config.row_depth, groups, job.tiling.stride)
        self.tasks.append(Task(Op.LOADA, {"rows": rows, "base": base}, static=static, moving=moving, row=words))

    def _rolling(self, job: LayerJob, corner: tuple[int, int], rows: int, begins: bool) -> int:
        """Load those kernel rows of the patches that do not stand in the row buffers yet, all of them if a strip
        `begins`; returns the address of the first one. Kernel rows of a strip follow one another in the buffer."""
        low, tiling = job.low, job.tiling
        (kernel, _), stride = low.kernel, low.stride[0]
        top = corner[0] + low.padding[0]
        for ky in range(0 if begins else kernel - stride, kernel):
            base = (top + ky) * tiling.words[0] % self._config.row_depth
            row = tiling.segments[0]
            self._load_patch(job, row, 0, low.act.bits, (corner[0] + ky, corner[1]), rows, base)
        return top * tiling.words[0] % self._config.row_depth

    def _whole(self, job: LayerJob, corner: tuple[int, int], rows: int) -> int:
        """Load the patches if they do not stand in the row buffers yet; returns their address."""
        low, tiling = job.low, job.tiling
        base, there = self._rows.place((corner, rows))
        if not there:
            self._load_patch(job, tiling.segments[0], 0, low.act.bits, corner, rows, base)
        return base

    def _tile(self, job: LayerJob, patches: int, filters: int) -> None:
        """One EXEC of patches and filters that stand in the buffers."""
        low, tiling, config = job.low, job.tiling, self._config
        static = self._exec.get("whole")
        if static is None:
            words, planes = tiling.plane_words, low.weight_format.bits
            static = self._exec["whole"] = {
                ExecReg.WORDS: words, ExecReg.STRIDE: tiling.stride, ExecReg.GROUPS: low.groups,
                ExecReg.PLANES: planes, ExecReg.SUM_CODE: job.sum_code or 0,
            }  # fmt: skip
        atop = (patches + (low.groups - 1) * tiling.stride) % config.row_depth
        wtop = (filters + (low.weight_format.bits - 1) * tiling.plane_words) % config.column_depth
        self.tasks.append(
            Task(Op.EXEC, {"first": 1, "drain": 1, "atop": atop, "wtop": wtop}, static=static,
                 row=buffer_words(patches, tiling.plane_words, config.row_depth, low.groups, tiling.stride),
                 column=buffer_words(filters, tiling.tile_words, config.column_depth))
        )  # fmt: skip

    def _split(self, job: LayerJob, tile: int, corner: tuple[int, int], rows: int, filters: int | None) -> None:
        """One EXEC per plane pair and segment, in Horner order; `filters`: address of resident filters."""
        low, tiling, config = job.low, job.tiling, self._config
        w, k_planes, segments = low.config.planes, low.weight_format.bits, tiling.segments
        offsets = [sum(tiling.words[:s]) * k_planes for s in range(len(segments))]
        runs: list[list[tuple[int, int, int] | None]] = []
        for exponent in range(w * (low.groups - 1) + k_planes - 1, -1, -1):
            pairs = [(g, exponent - w * g) for g in range(low.groups) if 0 <= exponent - w * g < k_planes]
            runs.append([(g, j, s) for g, j in pairs for s in range(len(segments))] or [None])
        for number, run in enumerate(runs):
            for n, part in enumerate(run):
                g, j, s = part or (0, 0, 0)
                words = tiling.words[s] if part else 1
                a_place, there = self._rows.place((corner, rows, part and (g, s)))
                if not there and part:
                    planes = min(w, low.act.bits - g * w)
                    self._load_patch(job, segments[s], g * w, planes, corner, rows, a_place)
                elif not there:
                    self._load_null(job, rows, a_place)
                if filters is not None:
                    w_place = filters + (offsets[s] + j * words if part else tiling.tile_words - 1)
                else:
                    w_place, there = self._columns.place((tile, part and (j, s)))
                    if not there:
                        address = job.filters[tile][s * k_planes + j] if part else job.null_filter
                        self._loadw(w_place, words, address)
                key = (words, 1 if part is None else (job.sum_code or 0) >> j & 1)
                static = self._exec.setdefault(key, {
                    ExecReg.WORDS: words, ExecReg.STRIDE: 0, ExecReg.GROUPS: 1, ExecReg.PLANES: 1,
                    ExecReg.SUM_CODE: key[1],
                })  # fmt: skip
                fields = {
                    "first": int(number == 0 and n == 0), "cont": int(n > 0), "open": int(n < len(run) - 1),
                    "drain": int(number == len(runs) - 1 and n == len(run) - 1), "atop": a_place, "wtop": w_place,
                }  # fmt: skip
                row = buffer_words(a_place, words, config.row_depth)
                column = buffer_words(w_place, words, config.column_depth)
                self.tasks.append(Task(Op.EXEC, fields, static=static, row=row, column=column))

    def _load_null(self, job: LayerJob, rows: int, place: int) -> None:
        """One word of zeros in every plane: a pixel above the image, padded with 0."""
        registers = dict(self._load_registers(job, job.tiling.segments[0], 0, 1))
        registers |= {LoadReg.KH: 1, LoadReg.KW: 1, LoadReg.UNITS: 1, LoadReg.SKIP: 0, LoadReg.PAD: 0}
        if LoadReg.VALID in registers:
            registers[LoadReg.VALID] = 0
        static = self._loada.setdefault("null", registers)
        self.tasks.append(
            Task(Op.LOADA, {"rows": rows, "base": place}, static=static, moving=((LoadReg.IY, -1),),
                 row=buffer_words(place, 1, self._config.row_depth))
        )  # fmt: skip


def _windows(low: Lowered, y: int, x: int, rows: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Accumulator pixels (y, x of row 0) of the output pixels (y, x ..), and the rows that lie on the map, one for each
    position of the pool window that has any."""
    pool = low.layer.pool
    if pool is None:
        yield y, x, (0, 31)
        return
    for wy in range(pool.kernel[0]):
        oy = y * pool.stride[0] + wy - pool.padding[0]
        if not 0 <= oy < low.out_height:
            continue
        for wx in range(pool.kernel[1]):
            ox = x * pool.stride[1] + wx - pool.padding[1]
            on_map = [r for r in range(rows) if 0 <= ox + r * pool.stride[1] < low.out_width]
            if on_map:
                yield oy, ox, (on_map[0], on_map[-1])
