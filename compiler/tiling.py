"""How a lowered layer is cut to the buffers: segments of a patch, resident column tiles, buffer slots.

Three forms. *Whole*: the patch of an output pixel (all planes) and the filters of a column tile stand in the buffers,
and one EXEC computes a tile. *Rolling*: whole, but tiles go down the image, and each kernel row of a patch is brought
once for all the tiles that need it. *Split*: one EXEC per plane pair and segment; what does not fit is loaded again.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..golden.tensor import writes_of_code
from ..golden.timing import exec_steps
from .layout import CompileError, unit_of
from .lowering import Lowered, Segment

__all__ = ["Tiling", "check_fields", "choose_tiling", "output_column_tiles"]


_MAX_TILES = 64  # field `tile` of STORE
_FETCH = 3  # cycles per instruction


@dataclass(frozen=True, eq=False, kw_only=True)
class Tiling:
    segments: list[Segment]
    words: list[int]
    """Lane words per plane of each segment."""
    lanes: np.ndarray
    """Weight index of every lane, see `Lowered.lanes`."""
    split: bool
    row_slots: int
    """Patches (whole) or pieces of a patch (split) that stand in the row buffers at a time."""
    slot_words: int
    """Row buffer words of one of them."""
    rolling: bool = False
    """Whole, and kernel rows stand in words of their own, one behind the other as the tiles go down the image: a tile
    brings those that the one above it has not."""
    stride: int = 0
    """Row buffer words from one group of planes to the next; 0 where they are loaded one by one (split)."""
    resident: int
    """Column tiles whose filters stand in the column buffers together; 0: pieces of filters are streamed (split)."""
    tile_words: int
    """Column buffer words of the filters of one column tile, a null word for split tiles with gaps included."""
    column_slots: int
    """Pieces of filters in the column buffers where they are streamed."""
    column_tiles: int
    """Column tiles that the output tensor has, those of dummy channels only included."""
    gaps: bool
    """Split, and there are exponents without a plane pair: they need an operand that gives popcount 0."""
    cycles: int
    """Estimate for the layer: for choosing, not for reporting."""

    @property
    def plane_words(self) -> int:
        return sum(self.words)


def _segments(low: Lowered, capacity: int) -> list[Segment]:
    """Fewest kernel-row segments of at most `capacity` words; single pixels or units where a kernel row is too long."""
    kh, kw = low.kernel
    for count in range(1, kh + 1):
        bounds = [kh * i // count for i in range(count + 1)]
        parts = [Segment(a, b - a, 0, kw, 0, low.units) for a, b in pairwise(bounds)]
        if max(low.words(part) for part in parts) <= capacity:
            return parts
    per_pixel = low.words(Segment(0, 1, 0, 1, 0, low.units))
    parts = []
    for ky in range(kh):
        if per_pixel <= capacity:
            columns = max(c for c in range(1, kw + 1) if low.words(Segment(0, 1, 0, c, 0, low.units)) <= capacity)
            parts += [Segment(ky, 1, kx, min(columns, kw - kx), 0, low.units) for kx in range(0, kw, columns)]
        else:
            units = capacity * (low.config.lanes // low.unit_bits)
            parts += [
                Segment(ky, 1, kx, 1, u, min(units, low.units - u))
                for kx in range(kw)
                for u in range(0, low.units, units)
            ]
    return parts


def _positions(low: Lowered) -> int:
    return 1 if low.layer.pool is None else low.layer.pool.kernel[0] * low.layer.pool.kernel[1]


def output_column_tiles(low: Lowered) -> int:
    """Column tiles of the output: the last pixel unit is filled with dummy channels, computed like the others."""
    config = low.config
    if low.layer.output_format is None:
        return -(-low.out_channels // config.columns)
    units, unit_log2 = unit_of(low.out_channels, config)
    return max(1, (units * config.chunk << unit_log2) // config.columns)


def _estimate(low: Lowered, tiles: int, resident: int, words: int, *, rolling: bool = False, streamed: int = 0) -> int:
    """Cycles of a layer with `resident` column tiles at a time; `streamed`: cycles to load filters for each tile."""
    config, (height, width) = low.config, low.pooled_shape
    form = low.layer.output_format
    raw = form is None
    writes = config.columns if form is None else writes_of_code(config, form.bits, 0)
    rows = min(config.rows, width)
    spots = height * -(-width // config.rows) * _positions(low)
    step = low.stride[1] * (low.layer.pool.stride[1] if low.layer.pool else 1)
    units = (low.kernel[1] + (rows - 1) * step) * low.units
    # Loads of a tile; the first one of a strip brings all kernel rows.
    loads = low.stride[0] + (low.kernel[0] - low.stride[0]) / height if rolling else 1
    patch = loads * (low.groups * ((1 if rolling else low.kernel[0]) * units + 1) + 4)
    interval = config.columns if raw else max(config.columns // config.ladders, writes)
    steps = exec_steps(words, low.groups, low.weight_format.bits, config)

    def per_spot(count: int) -> float:
        """Cycles of a pixel tile with `count` column tiles."""
        fetched = 1 + 3 * loads + 2 * count
        # A step of the loader waits for fetch and, where main memory has one port, for writes of the store engine.
        load = patch + streamed * count + fetched
        if config.mem_ports == 1:
            load += rows * writes * count / _positions(low)
        execute = count * (steps + 1)
        store = count * (max(rows * interval, 10) + 1)
        longest, *others = sorted((load, execute, store, _FETCH * fetched), reverse=True)
        return longest + sum(others) / 16  # they wait for one another now and then

    groups, rest = divmod(tiles, resident)
    work = spots * (groups * per_spot(resident) + (per_spot(rest) if rest else 0))
    groups += rest > 0
    work += groups * patch if spots > 1 else 0
    # Filters: hidden behind the work of the group before where both fit the column buffers.
    filters = tiles * (config.columns * low.weight_format.bits * words + 2)
    alone = groups == 1 or 2 * resident * low.weight_format.bits * words > config.column_depth
    return int(work + (filters if alone else max(filters // groups, filters - work)))


def _whole(low: Lowered, *, rolling: bool) -> Tiling | None:
    """The whole or rolling form with the lowest estimate; None where it does not fit the buffers."""
    config, k_planes, groups, (kernel, kw) = low.config, low.weight_format.bits, low.groups, low.kernel
    height = 1 if rolling else kernel
    segments = [Segment(ky, height, 0, kw, 0, low.units) for ky in range(0, kernel, height)]
    sizes = [low.words(segment) for segment in segments]
    words, positions = sum(sizes), _positions(low)
    # Kernel rows for the next tile go where no group has its patches.
    stride = words + (low.stride[0] * sizes[0] if rolling else 0)
    slot, tile_words = groups * stride, k_planes * words
    if slot > config.row_depth or tile_words > config.column_depth:
        return None
    fit = config.row_depth // slot
    slots = 2 * positions if fit >= 2 * positions else positions if fit >= positions else min(fit, 2)
    tiles = output_column_tiles(low)
    most = min(tiles, _MAX_TILES, config.ladder_depth // config.columns, max(1, config.column_depth // tile_words))
    counts = {-(-tiles // -(-tiles // n)) for n in range(1, most + 1)}  # groups of about the same size
    cycles, resident = min((_estimate(low, tiles, n, words, rolling=rolling), -n) for n in counts)
    return Tiling(
        segments=segments, words=sizes, lanes=low.lanes(segments), split=False, rolling=rolling, row_slots=slots,
        slot_words=slot, stride=stride, resident=-resident, tile_words=tile_words, column_slots=0, column_tiles=tiles,
        gaps=False, cycles=cycles,
    )  # fmt: skip


def choose_tiling(low: Lowered, *, rolling: bool) -> Tiling:
    """The tiling with the lowest estimate; CompileError where not even single words fit.

    `rolling` allows that form, whose programs and filters are longer.
    """
    config = low.config
    k_planes, groups = low.weight_format.bits, low.groups
    tiles = output_column_tiles(low)
    most = min(tiles, _MAX_TILES, config.ladder_depth // config.columns)
    whole = _whole(low, rolling=False)
    if whole is not None:
        overlap = low.layer.pool is None and low.stride[0] < low.kernel[0] and low.pooled_shape[0] > 1
        form = _whole(low, rolling=True) if rolling and overlap else None
        # Programs and filters are longer, and strips begin with a pause: a small gain is not worth it.
        return form if form is not None and 20 * form.cycles < 19 * whole.cycles else whole

    gaps = config.planes > k_planes and groups > 1
    # Two slots each, so that loading overlaps with computing. The null operand takes a slot of its own.
    capacity = min(config.row_depth, config.column_depth) // (2 + gaps)
    segments = _segments(low, capacity)
    sizes = [low.words(segment) for segment in segments]
    if config.planes == 1 and low.act.validity and low.units > 1 and any(s.units < low.units for s in segments):
        raise CompileError(
            f"layer {low.name!r}: one pixel takes {low.units} words, {capacity} fit the buffers of configuration "
            f"{config.name!r}; a layer with a validity plane cannot be split further, use larger row and column buffers"
        )
    if any(s.units < low.units for s in segments) and low.width * low.units >> config.pixel_bits:
        raise CompileError(
            f"layer {low.name!r}: a pixel does not fit the buffers, and a row of {low.width} pixels of {low.units} "
            f"units is more than the loader of configuration {config.name!r} can step through "
            f"({(1 << config.pixel_bits) - 1}); raise pixel_bits, or row_depth and column_depth"
        )
    largest, total = max(sizes), sum(sizes)
    run_bits = (min(groups, k_planes) * total * config.lanes * ((1 << config.planes) - 1)).bit_length()
    if config.run_width < config.acc_width and run_bits > config.run_width:
        raise CompileError(
            f"layer {low.name!r}: a run of popcounts needs {run_bits} bits, configuration {config.name!r} has "
            f"{config.run_width}; use larger row and column buffers"
        )
    tile_words = k_planes * total + gaps
    resident = min(most, config.column_depth // tile_words)
    resident = resident and -(-tiles // -(-tiles // resident))
    column_slots = 0 if resident else config.column_depth // largest
    streamed = 0 if resident else config.columns * groups * k_planes * total
    cycles = _estimate(low, tiles, resident or most, total, streamed=streamed)
    return Tiling(
        segments=segments, words=sizes, lanes=low.lanes(segments), split=True,
        row_slots=min(config.row_depth // largest, groups * len(segments) + gaps), slot_words=largest,
        resident=resident, tile_words=tile_words, column_slots=column_slots, column_tiles=tiles, gaps=gaps,
        cycles=cycles,
    )  # fmt: skip


def check_fields(low: Lowered) -> None:
    """Refuse sizes that the loader's registers cannot hold."""
    config = low.config
    step = low.stride[1] * (low.layer.pool.stride[1] if low.layer.pool else 1)
    reach = low.kernel[1] + (config.rows - 1) * step
    for what, value in (
        ("input height", low.height),
        ("input width", low.width),
        ("output height", low.out_height + max(low.padding)),
        ("kernel height", low.kernel[0]),
        ("input columns of one tile", reach),
    ):
        if value >> config.pixel_bits:
            raise CompileError(
                f"layer {low.name!r}: {what} is {value}, the loader of configuration {config.name!r} reaches "
                f"{(1 << config.pixel_bits) - 1}; raise pixel_bits"
            )
