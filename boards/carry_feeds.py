"""Between Yosys and nextpnr, on iCE40: flip-flops in the cells that bring a signal into a carry chain.

nextpnr takes a cell to bring a carry in into a chain, and another one for each flip-flop whose input is not the output
of a LUT that drives nothing else. In the first the LUT has two inputs left and can hand such a flip-flop its value.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Any

__all__ = ["fill_carry_feeds"]

Cell = dict[str, Any]

_HAND_ON_I0 = f"{0xAAAA:016b}"


def fill_carry_feeds(netlist: str) -> str:
    """Yosys' JSON with as many flip-flops moved in as there are carry chains for.

    All flip-flops of a tile share clock, enable and reset. So only flip-flops without enable and reset are moved, to
    chains all of whose flip-flops are of that kind and clock, or that have none; and within a module, where wires are
    short.
    """
    if "SB_CARRY" not in netlist:
        return netlist
    design = json.loads(netlist)
    for module in design["modules"].values():
        _fill(module)
    return json.dumps(design)


def _fill(module: dict[str, Any]) -> None:
    cells: dict[str, Cell] = module["cells"]
    wiring = _Wiring(cells)
    guests: defaultdict[str, list[Cell]] = defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "SB_DFF" and wiring.has_no_lut(cell):
            guests[_module_of(name)].append(cell)
    bits = (bit for cell in cells.values() for port in cell["connections"].values() for bit in port)
    new_bit = count(1 + max((bit for bit in bits if isinstance(bit, int)), default=1))
    for name, first in [(name, cell) for name, cell in cells.items() if wiring.is_fed(cell)]:
        adders = list(wiring.adders(first))
        flip_flops = [cell for adder in adders for cell in wiring.flip_flops(adder)]
        clocks = {cell["connections"]["C"][0] for cell in flip_flops}
        candidates = guests[_module_of(name)]
        guest = next((cell for cell in candidates if clocks <= {cell["connections"]["C"][0]}), None)
        if guest is None or not adders or any(cell["type"] != "SB_DFF" for cell in flip_flops):
            continue
        candidates.remove(guest)
        carry, through, fed = first["connections"]["CI"], [next(new_bit)], [next(new_bit)]
        cells[f"{name}.feed_lut"] = _cell(
            "SB_LUT4", LUT_INIT=_HAND_ON_I0, I0=guest["connections"]["D"], I1=carry, I2=["1"], I3=["0"], O=through
        )
        cells[f"{name}.feed"] = _cell("SB_CARRY", I0=carry, I1=["1"], CI=["0"], CO=fed)
        guest["connections"]["D"] = through
        if adders[0]["connections"]["I3"] == carry:
            adders[0]["connections"]["I3"] = fed
        first["connections"]["CI"] = fed


class _Wiring:
    """Who drives and who uses each bit of a module."""

    def __init__(self, cells: dict[str, Cell]) -> None:
        self._driver: dict[Any, Cell] = {}
        self._users: defaultdict[Any, list[Cell]] = defaultdict(list)
        for cell in cells.values():
            for port, bits in cell["connections"].items():
                for bit in bits:
                    if cell["port_directions"][port] == "output":
                        self._driver[bit] = cell
                    else:
                        self._users[bit].append(cell)

    def has_no_lut(self, flip_flop: Cell) -> bool:
        """nextpnr cannot put a LUT in front of it into its cell."""
        (bit,) = flip_flop["connections"]["D"]
        driver = self._driver.get(bit)
        alone = driver is not None and driver["type"] == "SB_LUT4" and len(self._users[bit]) == 1
        return isinstance(bit, int) and not alone

    def is_fed(self, cell: Cell) -> bool:
        """The cell is a carry whose carry in is neither constant nor a carry."""
        if cell["type"] != "SB_CARRY":
            return False
        (bit,) = cell["connections"]["CI"]
        driver = self._driver.get(bit)
        return isinstance(bit, int) and not (driver is not None and driver["type"] == "SB_CARRY")

    def adders(self, carry: Cell | None) -> Iterator[Cell]:
        """The LUTs that nextpnr puts into the cells of a chain, from its first carry on."""
        while carry is not None:
            ports = carry["connections"]
            for user in self._users[ports["CI"][0]]:
                operands = user["connections"].get("I1"), user["connections"].get("I2")
                if user["connections"].get("I3") == ports["CI"] and operands == (ports["I0"], ports["I1"]):
                    yield user
                    break
            above = self._users[ports["CO"][0]]
            carry = next((user for user in above if user["type"] == "SB_CARRY"), None)
            if carry is None:
                yield from (user for user in above if user["type"] == "SB_LUT4")

    def flip_flops(self, lut: Cell) -> list[Cell]:
        return [user for user in self._users[lut["connections"]["O"][0]] if user["type"].startswith("SB_DFF")]


def _module_of(name: str) -> str:
    return name.rpartition(".")[0]


def _cell(kind: str, *, LUT_INIT: str | None = None, **connections: list[Any]) -> Cell:
    return {
        "type": kind,
        "parameters": {} if LUT_INIT is None else {"LUT_INIT": LUT_INIT},
        "attributes": {},
        "port_directions": {port: "output" if port in ("O", "CO") else "input" for port in connections},
        "connections": connections,
    }
