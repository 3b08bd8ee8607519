"""Where each byte of a patch comes from and goes to: LOADA as two index arrays.

The loader copies whole chunks, and a chunk is at least one byte, so main memory and row buffers are byte arrays and a
LOADA is `rows[target] = memory[source]`. The map depends on the loader's registers only, not on data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .isa import LoadReg

__all__ = ["LoadMap", "Sizes", "load_map"]

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
    def run_width(self) -> int: ...
    @property
    def ladder_depth(self) -> int: ...
    @property
    def ladder_words(self) -> int: ...


@dataclass(frozen=True, eq=False)
class LoadMap:
    """Bytes of one LOADA. Sources at and beyond the end of main memory are the constants 0x00 and 0xFF."""

    source: np.ndarray
    target: np.ndarray
    """Flat index into the row buffers [rows, row_depth, planes, lanes / 8]."""
    reads: np.ndarray
    """Chunk addresses read from main memory, each once."""
    in_range: bool
    """False where a read lies at or beyond the end of main memory."""


def load_map(config: Sizes, reg: Sequence[int], rows: int, base: int) -> LoadMap:
    """The map of LOADA with loader registers `reg` (indexed by LoadReg) for `rows` output pixels to address `base`."""
    chunk_bytes = config.chunk // 8
    unit_chunks = 1 << reg[LoadReg.UNIT_LOG2]
    unit_bytes = unit_chunks * chunk_bytes
    lane_bytes, memory_bytes = config.lanes // 8, config.mem_depth * config.mem_width // 8
    per_word = lane_bytes // unit_bytes
    units, kw, kh, step = reg[LoadReg.UNITS], reg[LoadReg.KW], reg[LoadReg.KH], reg[LoadReg.STEP]
    planes, words, valid = reg[LoadReg.PLANES], reg[LoadReg.WORDS], reg[LoadReg.VALID]
    rows = min(rows, config.rows)

    # Axes: plane, kernel row, input column px, unit.
    m = np.arange(planes)[:, None, None, None]
    ky = np.arange(kh)[None, :, None, None]
    px = np.arange(kw + (rows - 1) * step)[None, None, :, None]
    u = np.arange(units)[None, None, None, :]
    y, x = reg[LoadReg.IY] + ky, reg[LoadReg.IX] + px
    inside = (0 <= y) & (y < reg[LoadReg.H]) & (0 <= x) & (x < reg[LoadReg.W]) & (m >= 0) & (u >= 0)
    plane = m - 1 if valid else m
    address = reg[LoadReg.ACT] + plane * reg[LoadReg.PLANE_STRIDE] + ky * reg[LoadReg.ROW_STRIDE]
    address = address + (px * units + u) * unit_chunks
    if valid:
        address = np.where(m == 0, reg[LoadReg.VALID_ADDR] + u * unit_chunks, address)
    address = np.where(inside, address & _ADDRESS_MASK, 0)
    reads = np.unique(address[inside])
    if reads.size and int(reads[-1] + unit_chunks) * chunk_bytes > memory_bytes:
        nothing = np.zeros(0, np.int64)
        return LoadMap(nothing, nothing, reads, False)
    constant = memory_bytes + (reg[LoadReg.PAD] >> m & 1)
    within = np.arange(unit_bytes)
    first = np.where(inside, address * chunk_bytes, constant)[..., None]
    source = first + np.where(inside[..., None], within, 0)

    # The pixels of row r, and the place of each unit in its lane word.
    taken = np.arange(rows)[:, None] * step + np.arange(kw)  # [row, kx] -> px
    source = source[:, :, taken].transpose(2, 0, 1, 3, 4, 5)  # [row, plane, ky, kx, unit, byte]
    index = (np.arange(kh)[:, None, None] * kw + np.arange(kw)[None, :, None]) * units + np.arange(units)
    count = kh * kw * units
    fill = -count % per_word
    source = source.reshape(rows, planes, count, unit_bytes)
    source = np.concatenate([source, np.full((rows, planes, fill, unit_bytes), memory_bytes)], axis=2)
    index = np.concatenate([index.ravel(), count + np.arange(fill)])

    # Planes of the last group that the layer does not have are written with zeros.
    missing = -planes % config.planes
    source = np.concatenate([source, np.full((rows, missing, count + fill, unit_bytes), memory_bytes)], axis=1)
    group, sub = np.divmod(np.arange(planes + missing), config.planes)
    depth = (base + group[:, None] * words + index // per_word) % config.row_depth
    target = (depth * config.planes + sub[:, None]) * lane_bytes + index % per_word * unit_bytes
    row_bytes = config.row_depth * config.planes * lane_bytes
    target = np.arange(rows)[:, None, None] * row_bytes + target
    target = target[..., None] + within
    return LoadMap(source.ravel(), target.ravel(), reads, True)
