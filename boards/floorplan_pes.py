"""Places for whole PEs of an ECP5 array and the registers that bring them operands.

Dense arrays of several planes route this way only. But what has a place cannot make way: the machine around the array
stands in what is left.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from itertools import accumulate, count

from .carry_halves import split_carry_cells
from .fabric import HALVES, Fabric, bind
from .pe_layout import Block, Local, Place, lay_out
from .wiring import Cell, Wiring

__all__ = ["place_pes"]

_PE = re.compile(r"\.pe_(\d+)_(\d+)\.(.*)")
"""A cell of a PE: row, column, and its name there."""
_DENSE = 0.7
"""Part of the tiles that PEs fill at least; with fewer, nextpnr's own places for their cells route as well."""
_FULL = 0.75
"""Flip-flops of the machine around the array to those in the tiles that PEs leave, at most."""


def place_pes(cells: dict[str, Cell], fabric: Fabric) -> bool:
    """Give places to all PEs; False where there is no room for them or too little for the rest, or no need.

    PEs that share operand registers are a block. Rows of blocks follow each other from the last row of tiles upwards;
    columns of them are as wide as their flip-flops need, blocks as square as there is room for. Between them is a strip
    of tiles for the rest. What stands where in a block is found by `pe_layout`. Carry cells become halves.
    """
    carries = {name for name, cell in cells.items() if cell["type"] == "CCU2C" and _PE.search(name)}
    bits = (bit for cell in cells.values() for port in cell["connections"].values() for bit in port)
    halved = dict(cells)
    split_carry_cells(halved, carries, count(1 + max((bit for bit in bits if isinstance(bit, int)), default=1)))
    blocks = _blocks(halved)

    others = sum(cell["type"] == "TRELLIS_FF" for cell in halved.values())
    others -= sum(block.flip_flops for block in blocks.values())
    rows = 1 + max(row for row, _ in blocks)
    across = len(fabric.columns) - -(-others // (HALVES * len(fabric.rows)))
    highest = len(fabric.rows) // rows
    square = math.isqrt(max(block.flip_flops for block in blocks.values()) // HALVES) + 1
    heights = range(min(square, highest), highest + 1)
    height = next((height for height in heights if sum(_widths(blocks, height)) <= across), highest)
    widths = _widths(blocks, height)
    strip = len(fabric.columns) - sum(widths)
    tiles, filled = len(fabric.columns) * len(fabric.rows), sum(widths) * rows * height
    if strip < 0 or filled < _DENSE * tiles or others > _FULL * HALVES * (tiles - filled):
        return False

    shapes = {at: (widths[at[1]], block.shape()) for at, block in blocks.items()}
    layouts: dict[Hashable, dict[Local, Place]] = {}
    for at, block in blocks.items():
        if shapes[at] not in layouts:
            layout = lay_out(block, widths[at[1]], height)
            if layout is None:
                return False
            layouts[shapes[at]] = layout
    ends = [0, *accumulate(widths)]
    middle = min(range(len(ends)), key=lambda k: abs(2 * ends[k] - ends[-1]))
    for (row, column), block in blocks.items():
        left = ends[column] + (strip if column >= middle else 0)
        above = len(fabric.rows) - (row + 1) * height
        for local, (x, y, half) in layouts[shapes[row, column]].items():
            bind(halved[block.members[local]], fabric.columns[left + x], fabric.rows[above + y], half)
    cells.clear()
    cells.update(halved)
    return True


def _widths(blocks: Mapping[tuple[int, int], Block], height: int) -> list[int]:
    """Tiles side by side that the flip-flops of blocks take, and carry chains: for each column of blocks."""
    widths: defaultdict[int, int] = defaultdict(int)
    for (_, column), block in blocks.items():
        widths[column] = max(widths[column], -(-block.flip_flops // (HALVES * max(1, height))), block.least_width)
    return [widths[column] for column in sorted(widths)]


def _blocks(cells: Mapping[str, Cell]) -> dict[tuple[int, int], Block]:
    """Row and column of each block -> its PEs and operand registers."""
    wiring = Wiring(cells)
    pe_of = {name: (int(match[1]), int(match[2])) for name in cells if (match := _PE.search(name))}
    operands: dict[str, list[tuple[str, str]]] = {}
    """Register -> the cells and ports of popcounts that read it."""
    for name, cell in cells.items():
        if cell["type"] == "TRELLIS_FF" and name not in pe_of:
            readers = wiring.readers[cell["connections"]["Q"][0]]
            if popcounts := [reader for reader in readers if reader[0] in pe_of and ".popcount." in reader[0]]:
                operands[name] = popcounts
    spans: Counter[int] = Counter()
    for popcounts in operands.values():
        pes = {pe_of[name] for name, _ in popcounts}
        spans[max(len({pe[axis] for pe in pes}) for axis in (0, 1))] += 1
    ((hop, _),) = spans.most_common(1) or [(1, 0)]

    def block_of(pe: tuple[int, int]) -> tuple[int, int]:
        return pe[0] // hop, pe[1] // hop

    def local(name: str) -> Local:
        match, (row, column) = _PE.search(name), pe_of[name]
        assert match
        return row % hop, column % hop, match[3]

    members: defaultdict[tuple[int, int], dict[Local, str]] = defaultdict(dict)
    for name, pe in pe_of.items():
        members[block_of(pe)][local(name)] = name
    for register, popcounts in operands.items():
        # A register for several blocks counts for the one that reads it most.
        readers = Counter(sorted(block_of(pe_of[name]) for name, _ in popcounts))
        ((block, _),) = readers.most_common(1)
        *pe, reader, port = min((*local(name), port) for name, port in popcounts if block_of(pe_of[name]) == block)
        members[block][pe[0], pe[1], f"{reader}.{port}"] = register
    return {at: Block(cells, wiring, own) for at, own in members.items()}
