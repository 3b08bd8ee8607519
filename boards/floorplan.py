"""Between Yosys and nextpnr, on ECP5: places for what gives a large array its shape.

In a systolic array every wire between PEs is short, if they stand as in the drawing. nextpnr's placers see wires and no
drawing, and tangle large arrays so that the router does not come to an end. Where the registers that forward operands
have places, the placer puts each PE around its own.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Fabric", "place_array"]

_PE = re.compile(r"\.pe_(\d+)_(\d+)\.(?:popcount\.U\$(\d+)$)?")
"""A cell of a PE: row and column; of a carry chain of its popcount: its number there, too."""
_BUFFER = re.compile(r"\.(row|column)_buffer_(\d+)\.")
_SLICES = 4
"""Slices of a tile, each with two LUTs and two flip-flops."""
_PLANES = 8
"""Carry cells of a PE that read a bit of an operand, at most: a weight multiplies so many planes."""
_CHAIN = 5
"""Tiles that the longest carry chain of a PE takes side by side."""


@dataclass(frozen=True)
class Fabric:
    """What an ECP5 has where."""

    columns: range
    """Columns of tiles with logic."""
    rows: Sequence[int]
    """Rows of tiles with logic."""
    memories: Sequence[tuple[int, int, str]]
    """Column, row and name within its tile of each block RAM."""


def place_array(netlist: str, fabric: Fabric | None) -> str:
    """Yosys' JSON with places for the operand registers of the array and for the block RAMs of its buffers.

    Rows of PEs follow each other from the last row of tiles upwards, columns of PEs from the first column of tiles on.
    Carry chains take tiles side by side. So the registers of a PE stand in a band beside them, in each row of tiles as
    few as possible, as a row has only so many wires to the next PE. Where there is no room for a band, they fill some
    rows and leave the others free, half of all at least.
    """
    if fabric is None:
        return netlist
    design = json.loads(netlist)
    cells = next(m["cells"] for m in design["modules"].values() if m.get("attributes", {}).get("top"))
    pes = {(int(match[1]), int(match[2])) for name in cells if (match := _PE.search(name))}
    if not pes:
        return netlist
    height, width = (1 + max(pe[axis] for pe in pes) for axis in (0, 1))

    def corner(row: int, column: int) -> tuple[int, int]:
        """Index of the PE's first row and column of tiles."""
        rows, columns = len(fabric.rows), len(fabric.columns)
        return (height - 1 - row) * rows // height, column * columns // width

    tall, wide = len(fabric.rows) // height, len(fabric.columns) // width
    for (row, column), members in _operand_registers(cells).items():
        y, x = corner(row, column)
        tiles = _cut(members, 2 * _SLICES)
        band = -(-len(tiles) // tall)
        lines = _cut(tiles, band) if band <= wide - _CHAIN else _cut(tiles, max(1, wide - 1))[: max(1, tall // 2)]
        for k, line in enumerate(lines):
            at_y = fabric.rows[y + (2 * k + 1) * tall // (2 * len(lines))]
            for j, tile in enumerate(line if k % 2 == 0 else line[::-1]):
                at_x = fabric.columns[x + j]
                for n, name in enumerate(tile):
                    _bind(cells[name], f"X{at_x}/Y{at_y}/SLICE{'ABCD'[n // 2]}.FF{n % 2}")
    _place_buffers(cells, fabric, corner)
    return json.dumps(design)


def _cut(items: list, size: int) -> list[list]:
    return [items[k : k + size] for k in range(0, len(items), size)]


def _bind(cell: dict[str, Any], bel: str) -> None:
    cell.setdefault("attributes", {})["BEL"] = bel


def _operand_registers(cells: Mapping[str, Any]) -> dict[tuple[int, int], list[str]]:
    """(row, column) of each PE -> the flip-flops outside of PEs that bring it operands, those of a carry cell together.

    A register for several PEs counts for the first one.
    """
    popcounts: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "CCU2C" and (match := _PE.search(name)) and match[3]:
            place = (int(match[1]), int(match[2]), int(match[3]))
            for port, (bit, *_) in cell["connections"].items():
                if port[0] in "ABCD":
                    popcounts[bit].append(place)
    found: defaultdict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "TRELLIS_FF" and ".pe_" not in name:
            readers = popcounts.get(cell["connections"]["Q"][0], [])
            # The weight of the activation sums, one bit for all lanes, goes through them all.
            if 0 < len(readers) <= _PLANES * len({reader[:2] for reader in readers}):
                row, column, number = min(readers)
                found[row, column].append((number, name))
    return {pe: [name for _, name in sorted(members)] for pe, members in found.items()}


def _place_buffers(cells: Mapping[str, Any], fabric: Fabric, corner: Callable[[int, int], tuple[int, int]]) -> None:
    """Each block RAM of a row or column buffer in the free place nearest to the first PE, the nearest of all first."""

    def wishes() -> Iterator[tuple[int, str, tuple[int, int, str]]]:
        for name, cell in cells.items():
            if cell["type"] == "DP16KD" and (match := _BUFFER.search(name)):
                k = int(match[2])
                y, x = corner(k, 0) if match[1] == "row" else corner(0, k)
                for memory in fabric.memories:
                    yield abs(memory[0] - fabric.columns[x]) + abs(memory[1] - fabric.rows[y]), name, memory

    placed: dict[str, tuple[int, int, str]] = {}
    taken: set[tuple[int, int, str]] = set()
    for _, name, memory in sorted(wishes()):
        if name not in placed and memory not in taken:
            placed[name] = memory
            taken.add(memory)
            _bind(cells[name], "X{}/Y{}/{}".format(*memory))
