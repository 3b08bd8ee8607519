"""Between Yosys and nextpnr, on ECP5: places for what gives a large array its shape.

In a systolic array every wire between PEs is short, if they stand as in the drawing. nextpnr's placers see wires and no
drawing, and tangle large arrays so that the router does not come to an end. Where the registers that forward operands
have places, the placer puts each PE around its own.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

__all__ = ["Fabric", "place_array"]

_PE = re.compile(r"\.pe_(\d+)_(\d+)\.(?:popcount\.U\$(\d+)$)?")
"""A cell of a PE: row and column; of a carry chain of its popcount: its number there, too."""
_DRAIN = re.compile(r"\.pe_(\d+)_(\d+)\.drain_")
"""A drain register of a PE, or the LUT in front of it."""
_LONG = 4
"""Rows of PEs that a drain chain may pass without places for its registers."""
_ANCHORS = 4
"""Columns of PEs to one whose drain registers have places, in longer chains."""
_BUFFER = re.compile(r"\.(?:row|column)_buffer_\d+\.")
_SLICES = 4
"""Slices of a tile, each with two LUTs and two flip-flops."""
_PLANES = 8
"""Carry cells of a PE that read a bit of an operand, at most: a weight multiplies so many planes."""
_WAY = 4
"""Registers from a buffer to the first PE, at most."""

_Enables = defaultdict[int, list[tuple[str, str | None]]]


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
    The machine around the array has a strip of tiles in the middle, as wide as its flip-flops fill: without one it
    drives the PEs apart, as far as the edge. Carry chains take tiles side by side. So the registers of a PE stand in a
    band beside them, in each row of tiles as few as possible, as a row has only so many wires to the next PE; what
    would take more than half of it is left to the placer. Block RAMs stand near the registers that their words come
    to. Drain registers hold together more than they hold to popcounts, so some of them have places as well: long chains
    would go where there is room, with the accumulators.
    """
    if fabric is None:
        return netlist
    design = json.loads(netlist)
    cells = next(m["cells"] for m in design["modules"].values() if m.get("attributes", {}).get("top"))
    pes = {(int(match[1]), int(match[2])) for name in cells if (match := _PE.search(name))}
    if not pes:
        return netlist
    height, width = (1 + max(pe[axis] for pe in pes) for axis in (0, 1))
    registers = _operand_registers(cells)
    drains = _drain_registers(cells) if height > _LONG else {}

    others = sum(cell["type"] == "TRELLIS_FF" and not _PE.search(name) for name, cell in cells.items())
    others -= sum(map(len, registers.values()))
    strip = min(round(others / (2 * _SLICES * len(fabric.rows))), len(fabric.columns) // 4)
    left = (len(fabric.columns) - strip) * (width // 2) // width
    columns = [*fabric.columns[:left], *fabric.columns[left + strip :]]

    tall, wide = len(fabric.rows) // height, len(columns) // width
    for (row, column), members in registers.items():
        y, x = (height - 1 - row) * len(fabric.rows) // height, column * len(columns) // width
        tiles = _cut([(name, None) for name in members], 2 * _SLICES)
        for part in drains.get((row, column), {}).values():
            tiles += _cut(part, 2 * _SLICES)
        lines = _cut(tiles, min(max(1, wide // 2), -(-len(tiles) // tall)))[:tall]
        for k, line in enumerate(lines):
            at_y = fabric.rows[y + (2 * k + 1) * tall // (2 * len(lines))]
            for j, tile in enumerate(line if k % 2 == 0 else line[::-1]):
                for n, (name, lut) in enumerate(tile):
                    half = f"X{columns[x + j]}/Y{at_y}/SLICE{'ABCD'[n // 2]}"
                    _bind(cells[name], f"{half}.FF{n % 2}")
                    if lut is not None:
                        _bind(cells[lut], f"{half}.K{n % 2}")
    _place_buffers(cells, fabric)
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
        # The last lane of a popcount passes its carry chains.
        if cell["type"] in ("CCU2C", "LUT4") and (match := _PE.search(name)) and ".popcount." in name:
            for port, (bit, *_) in cell["connections"].items():
                if port[0] in "ABCD":
                    popcounts[bit].append((int(match[1]), int(match[2]), int(match[3] or -1)))
    found: defaultdict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "TRELLIS_FF" and ".pe_" not in name:
            readers = popcounts.get(cell["connections"]["Q"][0], [])
            # The weight of the activation sums, one bit for all lanes, goes through them all.
            if 0 < len(readers) <= _PLANES * len({reader[:2] for reader in readers}):
                row, column, number = min(readers)
                found[row, column].append((number, name))
    return {pe: [name for _, name in sorted(members)] for pe, members in found.items()}


def _drain_registers(cells: Mapping[str, Any]) -> Mapping[tuple[int, int], _Enables]:
    """(row, column) of some PEs -> their drain registers, by enable, each with the LUT in front of it if it has one."""
    luts = {cell["connections"]["Z"][0]: name for name, cell in cells.items() if cell["type"] == "LUT4"}
    found: defaultdict[tuple[int, int], _Enables] = defaultdict(lambda: defaultdict(list))
    for name, cell in cells.items():
        if cell["type"] == "TRELLIS_FF" and (match := _DRAIN.search(name)) and int(match[2]) % _ANCHORS == 1:
            lut = luts.get(cell["connections"]["DI"][0])
            if lut is None or _DRAIN.search(lut):
                found[int(match[1]), int(match[2])][cell["connections"]["CE"][0]].append((name, lut))
    return found


def _place_buffers(cells: Mapping[str, Any], fabric: Fabric) -> None:
    """Places for the block RAMs of row and column buffers: the sum of squared distances is the least."""
    readers: defaultdict[int, list[str]] = defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "TRELLIS_FF":
            readers[cell["connections"]["DI"][0]].append(name)

    def ends(bit: int, way: int = _WAY) -> Iterator[tuple[int, int]]:
        """Columns and rows of the placed registers that a bit comes to."""
        for name in readers[bit]:
            if match := re.match(r"X(\d+)/Y(\d+)/", cells[name].get("attributes", {}).get("BEL", "")):
                yield int(match[1]), int(match[2])
            elif way:
                yield from ends(cells[name]["connections"]["Q"][0], way - 1)

    sites = np.array([(x, y) for x, y, _ in fabric.memories])
    buffers, costs = [], []
    for name, cell in cells.items():
        if cell["type"] == "DP16KD" and _BUFFER.search(name):
            bits = [bit for port, (bit, *_) in cell["connections"].items() if port.startswith("DOB")]
            if places := [place for bit in bits for place in ends(bit)]:
                buffers.append(name)
                costs.append(np.abs(np.array(places)[:, None] - sites).sum(2).mean(0) ** 2)
    for buffer, site in zip(*linear_sum_assignment(np.array(costs).reshape(-1, len(sites))), strict=True):
        _bind(cells[buffers[buffer]], "X{}/Y{}/{}".format(*fabric.memories[site]))
