"""Between Yosys and nextpnr, on ECP5: carry cells as their two halves, each of which can have a place.

nextpnr makes two TRELLIS_COMB of each CCU2C, forgets its attributes, and places a chain as a whole where it thinks
best. What comes as TRELLIS_COMB stays as it is.
"""

from collections.abc import Iterator
from typing import Any

from .wiring import Cell, Wiring

__all__ = ["split_carry_cells"]


def split_carry_cells(cells: dict[str, Cell], names: set[str], bits: Iterator[int]) -> None:
    """Replace the CCU2C of these names by halves NAME$0 and NAME$1; `bits` gives numbers that no wire has.

    Chains with a carry that comes from other logic or goes there stay, as nextpnr adds cells to these. An input that
    is not connected is 1 on the device; the table of a half does not depend on an input that is 0.
    """
    for name in _closed(cells, names):
        cell = cells.pop(name)
        ports, parameters = cell["connections"], cell["parameters"]
        within = [next(bits)]
        carries = {"FCI": ports.get("CIN"), "FCO": within}, {"FCI": within, "FCO": ports.get("COUT")}
        for k in (0, 1):
            inputs = {pin: ports.get(f"{pin}{k}") for pin in "ABCD"}
            table = int(parameters[f"INIT{k}"], 2)
            for at, wire in enumerate(inputs.values()):
                if wire == ["0"]:
                    table = sum((table >> (row & ~(1 << at)) & 1) << row for row in range(16))
            wires: dict[str, Any] = {**inputs, **carries[k], "F": ports.get(f"S{k}")}
            connections = {port: wire for port, wire in wires.items() if wire and isinstance(wire[0], int)}
            cells[f"{name}${k}"] = {
                "type": "TRELLIS_COMB",
                "parameters": {
                    "MODE": "CCU2",
                    "INITVAL": f"{table:016b}",
                    "CCU2_INJECT1": parameters[f"INJECT1_{k}"],
                },
                "attributes": {},
                "port_directions": {port: "output" if port in ("F", "FCO") else "input" for port in connections},
                "connections": connections,
            }


def _closed(cells: dict[str, Cell], names: set[str]) -> list[str]:
    """Those of chains that lie within `names` as a whole."""
    wiring = Wiring(cells)
    closed = []
    for name in sorted(names):
        if wiring.bit(name, "CIN") is not None:
            continue
        chain, after = [name], name
        while (carry := wiring.bit(after, "COUT")) and (readers := wiring.readers[carry]):
            after, port = readers[0]
            if len(readers) > 1 or port != "CIN" or after not in names:
                break
            chain.append(after)
        else:
            closed += chain
    return closed
