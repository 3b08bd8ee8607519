"""Places for the registers that bring operands to an ECP5 array; nextpnr places each PE around its own.

For arrays with room between PEs, and for those that leave little to the machine around them: PEs can make way for it.
"""

import re
from collections import defaultdict
from collections.abc import Mapping

from .fabric import HALVES, Fabric, bind
from .wiring import Cell, Wiring

__all__ = ["place_registers"]

_PE = re.compile(r"\.pe_(\d+)_(\d+)\.(?:popcount\.U\$(\d+)$)?")
"""A cell of a PE: row and column; of a carry chain of its popcount: its number there, too."""
_DRAIN = re.compile(r"\.pe_(\d+)_(\d+)\.drain_")
"""A drain register of a PE, or the LUT in front of it."""
_LONG = 4
"""Rows of PEs that a drain chain may pass without places for its registers."""
_ANCHORS = 4
"""Columns of PEs to one whose drain registers have places, in longer chains."""
_PLANES = 8
"""Carry cells of a PE that read a bit of an operand, at most: a weight multiplies so many planes."""

_Enables = defaultdict[int, list[tuple[str, str | None]]]


def place_registers(cells: Mapping[str, Cell], fabric: Fabric) -> None:
    """Give places to operand registers, and to drain registers of some PEs.

    Rows of PEs follow each other from the last row of tiles upwards, columns of PEs from the first column of tiles on.
    The machine around the array has a strip of tiles in the middle, as wide as its flip-flops fill: without one it
    drives the PEs apart, as far as the edge. Carry chains take tiles side by side. So the registers of a PE stand in a
    band beside them, in each row of tiles as few as possible, as a row has only so many wires to the next PE; what
    would take more than half of it is left to the placer. Drain registers hold together more than they hold to
    popcounts, so some of them have places as well: long chains would go where there is room, with the accumulators.
    """
    pes = {(int(match[1]), int(match[2])) for name in cells if (match := _PE.search(name))}
    height, width = (1 + max(pe[axis] for pe in pes) for axis in (0, 1))
    wiring = Wiring(cells)
    registers = _operand_registers(cells, wiring)
    drains = _drain_registers(cells, wiring) if height > _LONG else {}

    others = sum(cell["type"] == "TRELLIS_FF" and not _PE.search(name) for name, cell in cells.items())
    others -= sum(map(len, registers.values()))
    strip = min(round(others / (HALVES * len(fabric.rows))), len(fabric.columns) // 4)
    left = (len(fabric.columns) - strip) * (width // 2) // width
    columns = [*fabric.columns[:left], *fabric.columns[left + strip :]]

    tall, wide = len(fabric.rows) // height, len(columns) // width
    for (row, column), members in registers.items():
        y, x = (height - 1 - row) * len(fabric.rows) // height, column * len(columns) // width
        tiles = _cut([(name, None) for name in members], HALVES)
        for part in drains.get((row, column), {}).values():
            tiles += _cut(part, HALVES)
        lines = _cut(tiles, min(max(1, wide // 2), -(-len(tiles) // tall)))[:tall]
        for k, line in enumerate(lines):
            at_y = fabric.rows[y + (2 * k + 1) * tall // (2 * len(lines))]
            for j, tile in enumerate(line if k % 2 == 0 else line[::-1]):
                for n, (name, lut) in enumerate(tile):
                    bind(cells[name], columns[x + j], at_y, n)
                    if lut is not None:
                        bind(cells[lut], columns[x + j], at_y, n)


def _cut(items: list, size: int) -> list[list]:
    return [items[k : k + size] for k in range(0, len(items), size)]


def _operand_registers(cells: Mapping[str, Cell], wiring: Wiring) -> dict[tuple[int, int], list[str]]:
    """(row, column) of each PE -> the flip-flops outside of PEs that bring it operands, those of a carry cell together.

    A register for several PEs counts for the first one.
    """
    found: defaultdict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] != "TRELLIS_FF" or ".pe_" in name:
            continue
        # Carry cells, and the LUT of the last lane of a popcount, which passes its chains.
        matches = [
            _PE.search(reader) for reader, _ in wiring.readers[cell["connections"]["Q"][0]] if ".popcount." in reader
        ]
        readers = [(int(match[1]), int(match[2]), int(match[3] or -1)) for match in matches if match]
        pes = {reader[:2] for reader in readers}
        # One weight of activation sums serves all lanes: of one PE, or it belongs to none.
        if len(pes) == 1 or 0 < len(readers) <= _PLANES * len(pes):
            row, column, number = min(readers)
            found[row, column].append((number, name))
    return {pe: [name for _, name in sorted(members)] for pe, members in found.items()}


def _drain_registers(cells: Mapping[str, Cell], wiring: Wiring) -> Mapping[tuple[int, int], _Enables]:
    """(row, column) of some PEs -> their drain registers, by enable, each with the LUT in front of it if it has one."""
    found: defaultdict[tuple[int, int], _Enables] = defaultdict(lambda: defaultdict(list))
    for name, cell in cells.items():
        if cell["type"] == "TRELLIS_FF" and (match := _DRAIN.search(name)) and int(match[2]) % _ANCHORS == 1:
            driver = wiring.source(name, "DI")
            lut = driver if driver and cells[driver]["type"] == "LUT4" else None
            if lut is None or _DRAIN.search(lut):
                found[int(match[1]), int(match[2])][cell["connections"]["CE"][0]].append((name, lut))
    return found
