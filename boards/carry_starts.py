"""Between Yosys and nextpnr, on iCE40: the lowest bit of a counter in the cell that starts its carry chain.

That cell is kept, with a LUT that inverts the lowest bit (`rtl.primitives.ice40.CarryChain.start`). ABC does not see
what is kept, and makes another LUT of the same function, whose flip-flop nextpnr then places wherever a cell is left.
"""

from typing import Any

from .wiring import Cell, Wiring, change_modules

__all__ = ["join_carry_starts"]


def join_carry_starts(netlist: str) -> str:
    """Yosys' JSON in which kept LUTs that nobody reads do the work of others that invert the same bit."""
    return change_modules(netlist, "SB_CARRY", _join)


def _join(module: dict[str, Any]) -> None:
    cells: dict[str, Cell] = module["cells"]
    wiring = Wiring(cells)
    ports = {bit for port in module["ports"].values() for bit in port["bits"]}
    inverters = {name: bit for name, cell in cells.items() if (bit := _inverted(cell)) is not None}
    starts = {
        bit: cells[name]["connections"]["O"]
        for name, bit in inverters.items()
        if "keep" in cells[name].get("attributes", {}) and not wiring.readers[cells[name]["connections"]["O"][0]]
    }
    for name, bit in inverters.items():
        output = cells[name]["connections"]["O"]
        if bit not in starts or output == starts[bit] or output[0] in ports:
            continue
        for reader, port in wiring.readers[output[0]]:
            bits = cells[reader]["connections"][port]
            bits[:] = [starts[bit][0] if b == output[0] else b for b in bits]
        del cells[name]


def _inverted(cell: Cell) -> int | None:
    """The bit that a LUT inverts, where it does nothing else."""
    if cell["type"] != "SB_LUT4":
        return None
    inputs = [cell["connections"][f"I{k}"][0] for k in range(4)]
    bits = {bit for bit in inputs if isinstance(bit, int)}
    if len(bits) != 1:
        return None
    table = cell["parameters"]["LUT_INIT"][::-1]
    rows = [
        sum((value if isinstance(bit, int) else bit == "1") << k for k, bit in enumerate(inputs)) for value in (0, 1)
    ]
    return bits.pop() if [table[row] for row in rows] == ["1", "0"] else None
