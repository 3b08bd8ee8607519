"""Between Yosys and nextpnr, on ECP5: places for what gives a large array its shape.

In a systolic array every wire between PEs is short, if they stand as in the drawing. nextpnr's placers see wires and no
drawing, and tangle large arrays so that the router does not come to an end.
"""

import json
import re
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from .fabric import Fabric
from .floorplan_pes import place_pes
from .floorplan_reads import place_reads
from .floorplan_registers import place_registers
from .wiring import Cell, Wiring, top_cells

__all__ = ["place_array"]

_BUFFER = re.compile(r"\.(?:row|column)_buffer_\d+\.")
_WAY = 4
"""Registers from a buffer to the first PE, at most."""


def place_array(netlist: str, fabric: Fabric | None) -> str:
    """Yosys' JSON with places for the array and for the block RAMs of its buffers.

    In dense arrays all cells of PEs have places, if that leaves enough room to the machine around them; in others the
    registers that bring them operands. Block RAMs stand near the registers that their words come to. If PEs have
    places, the registers on the way to the block RAMs' read ports stand beside these, and multipliers where results
    leave the array; the placer would spread both over the device.
    """
    if fabric is None or ".pe_0_0." not in netlist:
        return netlist
    design = json.loads(netlist)
    cells = top_cells(design)
    if dense := place_pes(cells, fabric):
        _place_multipliers(cells, fabric)
    else:
        place_registers(cells, fabric)
    _place_buffers(cells, fabric)
    if dense:
        place_reads(cells, fabric)
    return json.dumps(design)


def _place_buffers(cells: Mapping[str, Cell], fabric: Fabric) -> None:
    """Places for the block RAMs of row and column buffers: the sum of squared distances is the least."""
    wiring = Wiring(cells)

    def ends(bit: int, way: int = _WAY) -> Iterator[tuple[int, int]]:
        """Columns and rows of the placed registers that a bit comes to."""
        for name, port in wiring.readers[bit]:
            if cells[name]["type"] != "TRELLIS_FF" or port != "DI":
                continue
            if match := re.match(r"X(\d+)/Y(\d+)/", cells[name]["attributes"].get("BEL", "")):
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
        cells[buffers[buffer]]["attributes"]["BEL"] = "X{}/Y{}/{}".format(*fabric.memories[site])


def _place_multipliers(cells: Mapping[str, Cell], fabric: Fabric) -> None:
    """Places for multipliers, those of a ladder side by side: around the middle of the last rows of tiles."""
    multipliers = sorted(name for name, cell in cells.items() if cell["type"] == "MULT18X18D")
    middle, last = (fabric.columns[0] + fabric.columns[-1]) / 2, fabric.rows[-1]
    nearest = sorted(fabric.multipliers, key=lambda site: abs(site[0] - middle) + abs(site[1] - last))
    for name, site in zip(multipliers, sorted(nearest[: len(multipliers)]), strict=False):
        cells[name]["attributes"]["BEL"] = "X{}/Y{}/{}".format(*site)
