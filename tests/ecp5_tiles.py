"""ECP5 cells as Yosys writes them, and what nextpnr wants of the tiles that they stand in."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

_BEL = re.compile(r"X(\d+)/Y(\d+)/SLICE([A-D])\.(K|FF)([01])")


_OUTPUTS = ("COUT", "DOB0", "F", "FCO", "Q", "S0", "S1", "Z")


def a_cell(kind: str, **ports: int | str) -> dict[str, Any]:
    """A cell with ports of one bit; carry cells are adders."""
    parameters = {
        "CCU2C": {f"{what}{k}": value for k in (0, 1) for what, value in (("INIT", "0110" * 4), ("INJECT1_", "NO"))},
        "TRELLIS_FF": {"CEMUX": "CE" if "CE" in ports else "1", "CLKMUX": "CLK", "LSRMUX": "LSR"},
    }
    return {
        "type": kind,
        "parameters": parameters.get(kind, {}),
        "attributes": {},
        "port_directions": {port: "output" if port in _OUTPUTS else "input" for port in ports},
        "connections": {port: [bit] for port, bit in ports.items()},
    }


def places_of(cells: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Column, row and half of each cell with a place in a slice; no place is taken twice, and each kind has its own."""
    places, seen = {}, set()
    for name, cell in cells.items():
        if match := _BEL.fullmatch(cell["attributes"].get("BEL", "")):
            assert match[0] not in seen
            seen.add(match[0])
            assert (match[4] == "FF") == (cell["type"] == "TRELLIS_FF")
            places[name] = int(match[1]), int(match[2]), 2 * "ABCD".index(match[3]) + int(match[5])
    return places


def check_tiles(cells: Mapping[str, Any]) -> None:
    """A tile has one clock and reset, a slice one enable, no carry cell beside a LUT; carries go to the next half."""
    places = places_of(cells)
    driver: dict[int | str, str] = {}
    readers: Counter[int | str] = Counter()
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                driver |= dict.fromkeys(bits, name)
            else:
                readers.update(bits)
    tiles, slices, kinds = defaultdict(set), defaultdict(set), defaultdict(set)
    for name, (column, row, half) in places.items():
        cell = cells[name]
        ports, parameters = cell["connections"], cell["parameters"]
        if cell["type"] == "TRELLIS_FF":
            reset = ports.get("LSR", ["0"])[0]
            tiles[column, row].add(
                (ports["CLK"][0], reset, parameters["CLKMUX"], reset != "0" and parameters["LSRMUX"])
            )
            slices[column, row, half // 2].add(ports["CE"][0] if parameters["CEMUX"] == "CE" else None)
            lut = driver.get(ports["DI"][0])
            if lut in places and cells[lut]["type"] != "TRELLIS_FF" and readers[ports["DI"][0]] == 1:
                assert places[lut] == (column, row, half)
        else:
            kinds[column, row, half // 2].add(cell["type"])
            carry = ports.get("FCI", [None])[0]
            if carry is not None:
                x, y, before = places[driver[carry]]
                assert (8 * x + before + 1, y) == (8 * column + half, row)
    for sets in (tiles, slices, kinds):
        assert all(len(found) == 1 for found in sets.values())
