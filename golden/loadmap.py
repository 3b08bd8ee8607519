"""Where each byte of a patch comes from and goes to: LOADA as two index arrays.

The loader copies whole chunks, and a chunk is at least one byte, so main memory and row buffers are byte arrays and a
LOADA is `rows[target] = memory[source]`. The map depends on the loader's registers only, not on data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .isa import LoadReg

__all__ = ["LoadMap", "Sizes", "load_key", "load_map"]

_ADDRESS_MASK = (1 << 21) - 1


class Sizes(Protocol):
    """The fields of `rtl.config.Config` that the golden machine uses."""

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def lanes(self) -> int: ...
    @property
    def planes(self) -> int: ...
    @property
    def chunk(self) -> int: ...
    @property
    def granule(self) -> int: ...
    @property
    def mem_width(self) -> int: ...
    @property
    def mem_depth(self) -> int: ...
    @property
    def row_depth(self) -> int: ...
    @property
    def column_depth(self) -> int: ...
    @property
    def acc_width(self) -> int: ...
    @property
    def mul_width(self) -> int: ...
    @property
    def sum_column(self) -> bool: ...
    @property
    def run_width(self) -> int: ...
    @property
    def ladder_depth(self) -> int: ...
    @property
    def ladder_words(self) -> int: ...


@dataclass(frozen=True, eq=False)
class LoadMap:
    """What LOADAs with equal `load_key` have in common: they differ in the address ACT only."""

    offset: np.ndarray
    """Chunks from ACT to each unit that is read; for a validity plane read from VALID_ADDR the address itself."""
    moving: np.ndarray
    """1 for units that lie at ACT + offset, 0 for those read from VALID_ADDR."""
    unit: np.ndarray
    """For each byte written, the unit it comes from: index into `offset`, or the two constants after its end."""
    within: np.ndarray
    """Byte of the unit."""
    target: np.ndarray
    """Flat index into the row buffers [rows, row_depth, planes, lanes / 8]."""
    words: np.ndarray
    """Addresses written in each row buffer."""
    unit_chunks: int

    def reads(self, act: int) -> np.ndarray:
        """Chunk addresses of the units read."""
        return (self.offset + self.moving * act) & _ADDRESS_MASK

    def source(self, reads: np.ndarray, chunk_bytes: int, memory_bytes: int) -> np.ndarray:
        """Byte addresses in a main memory that is followed by the two constant bytes 0x00 and 0xFF."""
        table = np.append(reads * chunk_bytes, (memory_bytes, memory_bytes + 1))
        return table[self.unit] + self.within


def _inside(start: int, count: int, size: int) -> tuple[int, int]:
    """First and last + 1 of `count` coordinates from `start` on that lie in 0..size-1."""
    first = min(max(-start, 0), count)
    return first, max(min(size - start, count), first)


def load_key(reg: Sequence[int], rows: int, base: int) -> tuple[object, ...]:
    """Equal keys, equal maps: loader registers (indexed by LoadReg), with coordinates only as far as the image cuts."""
    y = _inside(reg[LoadReg.IY], reg[LoadReg.KH], reg[LoadReg.H])
    x = _inside(reg[LoadReg.IX], reg[LoadReg.KW] + (rows - 1) * reg[LoadReg.STEP], reg[LoadReg.W])
    return (rows, base, y, x, *reg[LoadReg.ROW_STRIDE : LoadReg.H], *reg[LoadReg.PLANES : LoadReg.WGT])


def load_map(config: Sizes, reg: Sequence[int], rows: int, base: int) -> LoadMap:
    """The map of LOADA with loader registers `reg` (indexed by LoadReg) for `rows` output pixels to address `base`."""
    w = config.planes
    unit_chunks = 1 << reg[LoadReg.UNIT_LOG2] if w == 1 else 1
    unit_bytes = unit_chunks * config.chunk // 8
    lane_bytes = config.lanes // 8
    per_word = lane_bytes // unit_bytes
    units, kw, kh, step = reg[LoadReg.UNITS], reg[LoadReg.KW], reg[LoadReg.KH], reg[LoadReg.STEP]
    planes, valid = reg[LoadReg.PLANES], reg[LoadReg.VALID] if w == 1 else 0
    pixels = kw + (rows - 1) * step

    # Axes: plane, kernel row, input column px, unit.
    m = np.arange(planes)[:, None, None, None]
    ky = np.arange(kh)[None, :, None, None]
    px = np.arange(pixels)[None, None, :, None]
    u = np.arange(units)[None, None, None, :]
    (y_first, y_end), (x_first, x_end) = (
        _inside(reg[LoadReg.IY], kh, reg[LoadReg.H]), _inside(reg[LoadReg.IX], pixels, reg[LoadReg.W])
    )  # fmt: skip
    inside = (y_first <= ky) & (ky < y_end) & (x_first <= px) & (px < x_end) & (m + u >= 0)
    group_stride = (reg[LoadReg.GROUP_STEP] + (kh - 1) * reg[LoadReg.ROW_STRIDE]) % (1 << 21)
    group, sub = (m - valid, 0) if w == 1 else np.divmod(m, w)
    offset = group * group_stride + ky * reg[LoadReg.ROW_STRIDE] + ((px * units + u) * w + sub) * unit_chunks
    fixed = (m == 0) & (valid == 1) & inside
    offset = np.where(fixed, reg[LoadReg.VALID_ADDR] + u * unit_chunks, offset)[inside]
    zero = offset.size  # index of the constant byte 0x00, 0xFF behind it
    missing = -planes % w  # planes of the last group that the layer does not have
    plane = np.arange(planes + missing)[:, None, None, None]
    source = np.broadcast_to(zero + (reg[LoadReg.PAD] >> plane & 1), (planes + missing, *inside.shape[1:])).copy()
    source[:planes][inside] = np.arange(zero)

    # The pixels of row r, and the place of each unit in its lane word.
    rows = min(rows, config.rows)
    taken = np.arange(rows)[:, None] * step + np.arange(kw)  # [row, kx] -> px
    source = source[:, :, taken].transpose(2, 0, 1, 3, 4)  # [row, plane, ky, kx, unit]
    count = kh * kw * units
    fill = -count % per_word
    source = np.pad(source.reshape(rows, planes + missing, count), ((0, 0), (0, 0), (0, fill)), constant_values=zero)
    index = np.arange(count + fill)
    group, sub = np.divmod(np.arange(planes + missing), w)
    stride = (count + fill) // per_word + reg[LoadReg.SKIP]
    depth = (base + group[:, None] * stride + index // per_word) % config.row_depth
    target = (depth * w + sub[:, None]) * lane_bytes + index % per_word * unit_bytes
    row_bytes = config.row_depth * w * lane_bytes
    target = np.arange(rows)[:, None, None] * row_bytes + target

    byte = np.arange(unit_bytes)
    return LoadMap(
        offset=offset,
        moving=(~fixed[inside]).astype(np.int64),
        unit=np.repeat(source, unit_bytes),
        within=np.where(source[..., None] < zero, byte, 0).ravel(),
        target=(target[..., None] + byte).ravel(),
        words=np.unique(depth),
        unit_chunks=unit_chunks,
    )
