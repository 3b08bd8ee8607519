"""Who drives and who reads each bit of a module in Yosys' JSON."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Cell", "Wiring", "change_modules", "top_cells", "top_module"]

Cell = dict[str, Any]


def change_modules(netlist: str, cell_type: str, change: Callable[[dict[str, Any]], None]) -> str:
    """Yosys' JSON with each module changed in place; as it is where it has no cells of that type."""
    if cell_type not in netlist:
        return netlist
    design = json.loads(netlist)
    for module in design["modules"].values():
        change(module)
    return json.dumps(design)


def top_module(design: Mapping[str, Any]) -> dict[str, Any]:
    return next(module for module in design["modules"].values() if module.get("attributes", {}).get("top"))


def top_cells(design: Mapping[str, Any]) -> dict[str, Cell]:
    """The cells of the top module, by name."""
    return top_module(design)["cells"]


class Wiring:
    """The bits between cells as they are when it is made; constants are no bits.

    Members
    -------
    driver : bit -> name and port of the cell that drives it
    readers : bit -> name and port of each that reads it
    """

    def __init__(self, cells: Mapping[str, Cell]) -> None:
        self._cells = cells
        self.driver: dict[int, tuple[str, str]] = {}
        self.readers: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
        for name, cell in cells.items():
            for port, bits in cell["connections"].items():
                for bit in bits:
                    if not isinstance(bit, int):
                        continue
                    if cell["port_directions"][port] == "output":
                        self.driver[bit] = name, port
                    else:
                        self.readers[bit].append((name, port))

    def bit(self, name: str, port: str) -> int | None:
        """The bit at a port of one bit; None for a constant or nothing."""
        return next((bit for bit in self._cells[name]["connections"].get(port, ()) if isinstance(bit, int)), None)

    def source(self, name: str, port: str) -> str | None:
        """The cell that drives a port of one bit, if one does."""
        bit = self.bit(name, port)
        return None if bit is None or bit not in self.driver else self.driver[bit][0]

    def is_only_reader(self, name: str, port: str) -> bool:
        """Nobody else reads what drives this input."""
        bit = self.bit(name, port)
        return bit is not None and self.readers[bit] == [(name, port)]
