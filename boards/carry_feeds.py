"""Between Yosys and nextpnr, on iCE40: flip-flops in the cells that bring a signal into a carry chain.

nextpnr takes a cell to bring a carry in into a chain, and another one for each flip-flop whose input is not the output
of a LUT that drives nothing else. In the first the LUT has two inputs left and can hand such a flip-flop its value.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Any

from .wiring import Cell, Wiring, change_modules

__all__ = ["fill_carry_feeds"]

_HAND_ON_I0 = f"{0xAAAA:016b}"


def fill_carry_feeds(netlist: str) -> str:
    """Yosys' JSON with as many flip-flops moved in as there are carry chains for.

    All flip-flops of a tile share clock, enable and reset, so a chain takes none that differs in these from its own.
    A flip-flop whose output is the carry in goes into the cell of that chain. Other chains take flip-flops without
    enable and reset from their own module, where wires are short.
    """
    return change_modules(netlist, "SB_CARRY", _fill)


def _fill(module: dict[str, Any]) -> None:
    cells: dict[str, Cell] = module["cells"]
    chains = _Chains(cells)
    fed = [name for name in cells if chains.is_fed(name)]
    guest_of: dict[str, str] = {}
    for name in fed:
        feeder = chains.feeder(name)
        if feeder and feeder not in guest_of.values() and chains.takes(name, feeder):
            guest_of[name] = feeder
    others: defaultdict[str, list[str]] = defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "SB_DFF" and chains.has_no_lut(name) and name not in guest_of.values():
            others[_module_of(name)].append(name)
    for name in fed:
        candidates = others[_module_of(name)]
        if name not in guest_of and (guest := next((guest for guest in candidates if chains.takes(name, guest)), None)):
            candidates.remove(guest)
            guest_of[name] = guest
    bits = (bit for cell in cells.values() for port in cell["connections"].values() for bit in port)
    new_bit = count(1 + max((bit for bit in bits if isinstance(bit, int)), default=1))
    for name, guest in guest_of.items():
        first, ports = cells[name], cells[guest]["connections"]
        adders = list(chains.adders(name))
        carry, through, feed = first["connections"]["CI"], [next(new_bit)], [next(new_bit)]
        cells[f"{name}.feed_lut"] = _cell(
            "SB_LUT4", LUT_INIT=_HAND_ON_I0, I0=ports["D"], I1=carry, I2=["1"], I3=["0"], O=through
        )
        cells[f"{name}.feed"] = _cell("SB_CARRY", I0=carry, I1=["1"], CI=["0"], CO=feed)
        ports["D"] = through
        if adders[0]["connections"]["I3"] == carry:
            adders[0]["connections"]["I3"] = feed
        first["connections"]["CI"] = feed


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

    def feeder(self, carry: str) -> str | None:
        """The flip-flop without a LUT in front whose output is the carry in."""
        name = self._wiring.source(carry, "CI")
        if name is None or not self._cells[name]["type"].startswith("SB_DFF"):
            return None
        return name if self.has_no_lut(name) else None

    def takes(self, carry: str, flip_flop: str) -> bool:
        """Whether the flip-flop may stand in the tile of that chain."""
        adders = list(self.adders(carry))
        own = {_control(cell) for adder in adders for cell in self.flip_flops(adder)}
        return bool(adders) and own <= {_control(self._cells[flip_flop])}

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


def _control(flip_flop: Cell) -> tuple[Any, ...]:
    """What all flip-flops of a tile must have in common."""
    return flip_flop["type"], *(flip_flop["connections"].get(port, [None])[0] for port in "CERS")


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
