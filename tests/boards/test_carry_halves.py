"""Halves of carry cells: the same function as the cell that Yosys makes, for every table and constant."""

import json
import random
import re
from itertools import count, pairwise, product
from pathlib import Path
from typing import Any

import pytest
from ecp5_tiles import a_cell

from dipole.boards.carry_halves import split_carry_cells
from dipole.boards.netlist import open_carry_ends
from dipole.boards.toolchain import run_tool
from dipole.boards.wiring import Cell

Bit = int | str
PINS = "ABCD"


def half(table: int, inputs: tuple[int, ...], carry: int) -> tuple[int, int]:
    """Sum and carry out (FPGA-TN-02200): a LUT4 propagates, the LUT2 of A and B in its lowest quarter generates."""
    propagate = table >> sum(bit << k for k, bit in enumerate(inputs)) & 1
    generate = table >> (inputs[0] + 2 * inputs[1]) & 1
    return propagate ^ carry, carry if propagate else generate


def ccu2c(tables: list[int], ports: dict[str, Bit]) -> Cell:
    carry = a_cell("CCU2C", **ports)
    carry["parameters"] |= {f"INIT{k}": f"{table:016b}" for k, table in enumerate(tables)}
    return carry


@pytest.mark.parametrize("seed", range(20))
def test_function(seed: int) -> None:
    generator = random.Random(seed)
    tables = [generator.getrandbits(16) for _ in range(2)]
    free = count(2)
    ports: dict[str, Bit] = {
        f"{pin}{k}": generator.choice(("0", "1", next(free), next(free))) for pin, k in product(PINS, (0, 1))
    }
    cells = {"c": ccu2c(tables, {**ports, "CIN": "x", "S0": 100, "S1": 101, "COUT": "x"})}
    split_carry_cells(cells, {"c"}, count(1000))
    assert set(cells) == {"c$0", "c$1"}
    for k, carry in product((0, 1), (0, 1)):
        cell = cells[f"c${k}"]
        assert cell["type"] == "TRELLIS_COMB" and cell["parameters"]["MODE"] == "CCU2"
        assert cell["connections"]["F"] == [100 + k]
        wires = {pin: cell["connections"].get(pin) for pin in PINS}
        table = int(cell["parameters"]["INITVAL"], 2)
        for values in product((0, 1), repeat=4):
            before, after = [], []
            for pin, value in zip(PINS, values, strict=True):
                bit = ports[f"{pin}{k}"]
                before.append(int(bit) if isinstance(bit, str) else value)
                assert wires[pin] == (None if isinstance(bit, str) else [bit])
                after.append(1 if isinstance(bit, str) else value)
            assert half(table, tuple(after), carry) == half(tables[k], tuple(before), carry), f"seed {seed}"


def chain(length: int, **ends: Any) -> dict[str, Cell]:
    """Carry cells c0, c1, ... with carries 50, 51, ...; `ends` are other ports of the first and the last."""
    cells = {}
    for k in range(length):
        ports = {"A0": 2 + k, "S0": 100 + k, "CIN": 50 + k if k else "x", "COUT": 51 + k if k < length - 1 else "x"}
        cells[f"c{k}"] = ccu2c([0x6666, 0x6666], ports)
    cells["c0"]["connections"] |= {port: [bit] for port, bit in ends.items() if port == "CIN"}
    cells[f"c{length - 1}"]["connections"] |= {port: [bit] for port, bit in ends.items() if port == "COUT"}
    return cells


def test_carries_go_from_half_to_half() -> None:
    cells = chain(3)
    split_carry_cells(cells, set(cells), count(1000))
    halves = [cells[f"c{cell}${k}"]["connections"] for cell, k in product(range(3), (0, 1))]
    for before, after in pairwise(halves):
        assert before["FCO"] == after["FCI"]
    carries = [half["FCO"][0] for half in halves[:-1]]
    assert len(set(carries)) == 5 and carries[1::2] == [51, 52]
    assert "FCI" not in halves[0] and "FCO" not in halves[-1]


@pytest.mark.parametrize("ends", [{"CIN": 40}, {"COUT": 60}])
def test_chains_that_nextpnr_has_to_mend_stay(ends: dict[str, int]) -> None:
    """A carry in from a LUT, a carry out to one."""
    cells = chain(2, **ends)
    cells["lut"] = a_cell("LUT4", Z=40, A=60)
    before = dict(cells)
    split_carry_cells(cells, {"c0", "c1"}, count(1000))
    assert cells == before


def test_a_part_of_a_chain_stays() -> None:
    cells = chain(3)
    split_carry_cells(cells, {"c0", "c1"}, count(1000))
    assert set(cells) == {"c0", "c1", "c2"}


def test_nextpnr_makes_the_same_of_both(tmp_path: Path) -> None:
    """Tables, modes and registers of a chain's tile, of cells that nextpnr splits and of ours at the same places."""
    generator = random.Random(1)
    wires = iter(range(24))
    lines = [
        "module top(input clk, input [23:0] d, output reg [5:0] q); reg [23:0] r; always @(posedge clk) r <= d;",
        "wire [5:0] s; always @(posedge clk) q <= s; wire [3:0] c;",
    ]
    for cell in range(3):
        ports, tables = [], []
        for k in (0, 1):
            # A constant 0 at C or D comes to nextpnr's cells by a wire, unless the other one is 1.
            inputs = [f"r[{next(wires)}]" for _ in PINS[:3]] + ["1'b1"]
            table = generator.getrandbits(16)
            if cell == k == 0:
                inputs[2], table = "1'b1", table & 0xFFF  # no carry in
            elif k:
                inputs[generator.randrange(3)] = "1'b0"
            ports += [f".{pin}{k}({wire})" for pin, wire in zip(PINS, inputs, strict=True)]
            tables.append(f'.INIT{k}(16\'d{table}), .INJECT1_{k}("NO")')
        ports.append(f".S0(s[{2 * cell}]), .S1(s[{2 * cell + 1}]), .COUT(c[{cell + 1}])")
        ports.append(f".CIN(c[{cell}])" if cell else ".CIN(1'b0)")
        lines.append(f"(* keep *) CCU2C #({', '.join(tables)}) x{cell} ({', '.join(ports)});")
    (tmp_path / "top.v").write_text("\n".join([*lines, "endmodule"]))
    script = "read_verilog -lib +/ecp5/cells_bb.v; read_verilog top.v; synth_ecp5 -top top -json ccu2c.json"
    run_tool("yosys", ["-p", script], directory=tmp_path, log=tmp_path / "yosys.out")

    def tiles(name: str) -> tuple[dict[str, set[str]], dict[str, Any]]:
        """Configuration of each tile but for its wires; cells as they are placed."""
        arguments = ["--25k", "--package", "CABGA381", "--lpf-allow-unconstrained", "--disable-router-lutperm"]
        arguments += ["--json", f"{name}.json", "--textcfg", f"{name}.config", "--write", f"{name}.placed.json"]
        run_tool("nextpnr-ecp5", arguments, directory=tmp_path, log=tmp_path / f"{name}.out")
        found: dict[str, set[str]] = {}
        for line in (tmp_path / f"{name}.config").read_text().splitlines():
            if line.startswith(".tile "):
                settings = found.setdefault(line, set())
            elif line.startswith(("word:", "enum:")) and "PLC2" in next(reversed(found)):
                settings.add(line)
        return found, json.loads((tmp_path / f"{name}.placed.json").read_text())["modules"]["top"]["cells"]

    before, placed = tiles("ccu2c")
    design = json.loads(open_carry_ends((tmp_path / "ccu2c.json").read_text()))
    cells = design["modules"]["top"]["cells"]
    split_carry_cells(cells, {"x0", "x1", "x2"}, count(10_000))
    halves = [name for name, cell in cells.items() if cell["type"] == "TRELLIS_COMB"]
    assert len(halves) == 6
    for name, cell in cells.items():
        if name in halves:
            name = name.replace("$", "$CCU2_COMB")
        if cell["type"] in ("TRELLIS_COMB", "TRELLIS_FF"):
            cell["attributes"]["BEL"] = placed[name]["attributes"]["NEXTPNR_BEL"]
    (tmp_path / "halves.json").write_text(json.dumps(design))
    after, _ = tiles("halves")
    (x, y) = re.findall(r"\d+", cells[halves[0]]["attributes"]["BEL"])[:2]
    tile = f".tile R{y}C{x}:PLC2"
    assert any("CCU2" in setting for setting in after[tile])
    for setting in after[tile] ^ before[tile]:
        # nextpnr's own cell brings in the carry that ours leave open.
        assert setting in before[tile] and "SLICEA" in setting, setting
