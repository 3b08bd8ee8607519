"""Between Yosys and nextpnr, on iCE40: flip-flops in the cells that bring a signal into a carry chain.

nextpnr takes a cell to bring a carry in into a chain, and another one for each flip-flop whose input is not the output
of a LUT that drives nothing else. In the first the LUT has two inputs left and can hand such a flip-flop its value.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Any

from .wiring import Cell, Wiring

__all__ = ["fill_carry_feeds"]

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
    chains = _Chains(cells)
    guests: defaultdict[str, list[Cell]] = defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "SB_DFF" and chains.has_no_lut(name):
            guests[_module_of(name)].append(cell)
    bits = (bit for cell in cells.values() for port in cell["connections"].values() for bit in port)
    new_bit = count(1 + max((bit for bit in bits if isinstance(bit, int)), default=1))
    for name in [name for name in cells if chains.is_fed(name)]:
        first = cells[name]
        adders = list(chains.adders(name))
        flip_flops = [cell for adder in adders for cell in chains.flip_flops(adder)]
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


class _Chains:
    """Carry chains of a module as they are when it is made, and the cells that nextpnr puts into their cells."""

    def __init__(self, cells: dict[str, Cell]) -> None:
        self._cells = dict(cells)
        self._wiring = Wiring(cells)

    def has_no_lut(self, flip_flop: str) -> bool:
        """nextpnr cannot put a LUT in front of it into its cell."""
        driver = self._wiring.source(flip_flop, "D")
        alone = driver and self._cells[driver]["type"] == "SB_LUT4" and self._wiring.is_only_reader(flip_flop, "D")
        return self._wiring.bit(flip_flop, "D") is not None and not alone

    def is_fed(self, name: str) -> bool:
        """The cell is a carry whose carry in is neither constant nor a carry."""
        if self._cells[name]["type"] != "SB_CARRY":
            return False
        driver = self._wiring.source(name, "CI")
        carried = driver and self._cells[driver]["type"] == "SB_CARRY"
        return self._wiring.bit(name, "CI") is not None and not carried

    def adders(self, carry: str | None) -> Iterator[Cell]:
        """The LUTs that nextpnr puts into the cells of a chain, from its first carry on."""
        while carry is not None:
            ports = self._cells[carry]["connections"]
            for user in self._users(ports["CI"][0]):
                operands = user["connections"].get("I1"), user["connections"].get("I2")
                if user["connections"].get("I3") == ports["CI"] and operands == (ports["I0"], ports["I1"]):
                    yield user
                    break
            above = [name for name, _ in self._wiring.readers[ports["CO"][0]]]
            carry = next((name for name in above if self._cells[name]["type"] == "SB_CARRY"), None)
            if carry is None:
                yield from (self._cells[name] for name in above if self._cells[name]["type"] == "SB_LUT4")

    def flip_flops(self, lut: Cell) -> list[Cell]:
        return [user for user in self._users(lut["connections"]["O"][0]) if user["type"].startswith("SB_DFF")]

    def _users(self, bit: int) -> list[Cell]:
        return [self._cells[name] for name, _ in self._wiring.readers[bit]]


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
