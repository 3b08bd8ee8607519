"""Places for whole PEs of an ECP5 array and the registers that bring them operands and control.

Dense arrays of several planes route this way only. But what has a place cannot make way: the machine around the array
stands in what is left.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate, count

from .carry_halves import split_carry_cells
from .fabric import HALVES, Fabric, bind
from .pe_layout import Block, Local, lay_out
from .tiles import Place
from .wiring import Cell, Wiring

__all__ = ["place_pes"]

_PE = re.compile(r"\.pe_(\d+)_(\d+)\.(.*)")
"""A cell of a PE: row, column, and its name there."""
_DENSE = 0.5
"""Part of the flip-flops of the device that PEs take at least; with fewer, nextpnr's own places for their cells do."""
_FULL = 0.9
"""Flip-flops of the machine around the array to those in its strip of tiles, at most."""
_WIDER = 2
"""Tiles that PEs may take to those that they need, at most."""


def place_pes(cells: dict[str, Cell], fabric: Fabric) -> bool:
    """Give places to all PEs; False where there is no room for them or too little for the rest, or no need.

    PEs that share registers are a block. Rows of blocks follow each other from the last row of tiles upwards,
    as high as there is room for, as a row of tiles has only so many wires to the next block. In the middle of the
    columns is a strip of tiles for the machine around the array; what that does not need makes the blocks wider. What
    stands where in a block is found by `pe_layout`. Carry cells become halves.
    """
    carries = {name for name, cell in cells.items() if cell["type"] == "CCU2C" and _PE.search(name)}
    bits = (bit for cell in cells.values() for port in cell["connections"].values() for bit in port)
    halved = dict(cells)
    split_carry_cells(halved, carries, count(1 + max((bit for bit in bits if isinstance(bit, int)), default=1)))
    blocks = _blocks(halved)

    others = sum(cell["type"] == "TRELLIS_FF" for cell in halved.values())
    others -= sum(block.flip_flops for block in blocks.values())
    device = HALVES * len(fabric.columns) * len(fabric.rows)
    height = len(fabric.rows) // (1 + max(row for row, _ in blocks))
    columns = _columns(blocks)
    widths = [_width(column, height) for column in columns]
    spare = len(fabric.columns) - sum(widths) - math.ceil(others / (_FULL * HALVES * len(fabric.rows)))
    if height == 0 or spare < 0 or sum(block.flip_flops for block in blocks.values()) < _DENSE * device:
        return False
    pes = [max(block.columns for block in column) for column in columns]
    wider = spare // sum(pes)
    widths = [min(_WIDER * width, width + wider * k) for width, k in zip(widths, pes, strict=True)]
    strip = len(fabric.columns) - sum(widths)

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


def _columns(blocks: Mapping[tuple[int, int], Block]) -> list[list[Block]]:
    columns: defaultdict[int, list[Block]] = defaultdict(list)
    for (_, column), block in sorted(blocks.items()):
        columns[column].append(block)
    return [columns[column] for column in sorted(columns)]


def _width(column: Sequence[Block], height: int) -> int:
    """Tiles side by side that the flip-flops of blocks take, and their carry chains."""
    return max(max(math.ceil(block.flip_flops / (HALVES * max(1, height))), block.least_width) for block in column)


def _blocks(cells: Mapping[str, Cell]) -> dict[tuple[int, int], Block]:
    """Row and column of each block -> its PEs and the registers that bring them operands and control."""
    wiring = Wiring(cells)
    pe_of = {name: (int(match[1]), int(match[2])) for name in cells if (match := _PE.search(name))}
    bringers: dict[str, list[tuple[str, str]]] = {}
    """Register -> the cells and ports of PEs that read it."""
    for name, cell in cells.items():
        if cell["type"] == "TRELLIS_FF" and name not in pe_of:
            readers = wiring.readers[cell["connections"]["Q"][0]]
            if of_pes := [reader for reader in readers if reader[0] in pe_of]:
                bringers[name] = of_pes
    spans: Counter[int] = Counter()
    for of_pes in bringers.values():
        pes = {pe_of[name] for name, _ in of_pes}
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
    for register, of_pes in bringers.items():
        # A register for several blocks counts for the one that reads it most.
        ((block, _),) = Counter(sorted(block_of(pe_of[name]) for name, _ in of_pes)).most_common(1)
        *pe, reader, port = min((*local(name), port) for name, port in of_pes if block_of(pe_of[name]) == block)
        members[block][pe[0], pe[1], f"{reader}.{port}"] = register
        driver = wiring.source(register, "DI")
        if driver and cells[driver]["type"] == "LUT4" and wiring.is_only_reader(register, "DI"):
            members[block][pe[0], pe[1], f"{reader}.{port} LUT"] = driver
    return {at: Block(cells, wiring, own) for at, own in members.items()}
