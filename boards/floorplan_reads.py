"""Places for the registers on the way to the read ports of an ECP5 array's buffers, in what PEs with places leave."""

import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from .fabric import Fabric, bind
from .tiles import ControlSet, Place, Room
from .wiring import Cell, Wiring

__all__ = ["place_reads"]

_PLACE = re.compile(r"X(\d+)/Y(\d+)/(?:SLICE([A-D])\.(?:FF|K)([01]))?")
"""Column and row of a cell; of one in a tile with logic its slice and half there, too."""
_READ = re.compile(r"ADB\d+|CEB|DI")
"""Ports of block RAMs, and of registers, on that way."""
_REGISTERS = 3
"""In front of a block RAM: one of a part, one of the buffer, one on the way from buffer to buffer."""


def place_reads(cells: Mapping[str, Cell], fabric: Fabric) -> None:
    """Give places to registers in front of the read ports of block RAMs that have some, as near to these as there is
    room: the placer finds none around PEs, and the clock of the array has one cycle for each of these ways.
    """
    wiring = Wiring(cells)
    room = Room(fabric.columns, fabric.rows)
    reached: dict[str, tuple[int, int]] = {}
    """Cells whose drivers come next, and where they stand."""
    for name, cell in cells.items():
        if not (match := _PLACE.match(cell["attributes"].get("BEL", ""))):
            continue
        column, row = int(match[1]), int(match[2])
        if cell["type"] == "DP16KD":
            reached[name] = column, row
        elif match[3]:
            place = Place(column, row, 2 * "ABCD".index(match[3]) + int(match[4]))
            if cell["type"] == "TRELLIS_FF":
                room.take_flip_flop(place, ControlSet.of(name, cells, wiring))
            else:
                room.take_lut(place, carry=cell["type"] == "TRELLIS_COMB")
    for _ in range(_REGISTERS):
        targets: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for name, at in reached.items():
            for port in filter(_READ.fullmatch, cells[name]["connections"]):
                driver = wiring.source(name, port)
                if driver and cells[driver]["type"] == "TRELLIS_FF" and "BEL" not in cells[driver]["attributes"]:
                    targets[driver].append(at)
        reached = _place(targets, cells, wiring, room)


def _place(
    targets: Mapping[str, list[tuple[int, int]]], cells: Mapping[str, Cell], wiring: Wiring, room: Room
) -> dict[str, tuple[int, int]]:
    """Register -> the free place next to the middle of its targets; not for those that follow a LUT, which go to it."""
    groups: defaultdict[ControlSet, list[str]] = defaultdict(list)
    for name in sorted(targets):
        driver = wiring.source(name, "DI")
        if driver and cells[driver]["type"] == "TRELLIS_FF":
            groups[ControlSet.of(name, cells, wiring)].append(name)
    placed = {}
    for control, names in groups.items():
        sites = [site for (site,) in room.sites(control)]
        at, free = np.array([site.tile for site in sites]).reshape(-1, 2), np.ones(len(sites), bool)
        for name in names:
            far = np.abs(at - np.mean(targets[name], axis=0)).sum(1)
            nearest = int(np.argmin(np.where(free, far, np.inf)))
            free[nearest] = False
            place = sites[nearest]
            room.take_flip_flop(place, control)
            bind(cells[name], *place)
            placed[name] = place.tile
    return placed
