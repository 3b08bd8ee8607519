"""Places for the array of an ECP5: each operand register within its PE, and block RAMs for the buffers."""

import dataclasses
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from dipole.boards import load_board
from dipole.boards.floorplan import place_array
from dipole.boards.flow import FlowError, run_flow
from dipole.boards.toolchain import run_tool
from dipole.rtl.presets import PRESETS
from dipole.rtl.top import Top

BOARD = load_board("ulx3s_85f")
assert BOARD.fabric is not None
FABRIC = BOARD.fabric
CONFIG = dataclasses.replace(
    PRESETS["ulx3s_85f"], rows=3, columns=4, lanes=16, mem_width=32, mem_depth=1024, ladder_depth=16, ladders=1,
    corrections=False, mul_width=16, row_depth=64, column_depth=64,
)  # fmt: skip
# A long drain chain, a short one.
CONFIGS = {
    1: dataclasses.replace(CONFIG, rows=5),
    4: dataclasses.replace(CONFIG, planes=4, mem_width=64),
}


@pytest.fixture(scope="module", params=CONFIGS)
def planes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def folder(planes: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the flow has stopped in front of place and route."""
    folder = tmp_path_factory.mktemp(f"flow{planes}")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(FlowError):
        stop = folder.with_name("stop")
        stop.write_text('#!/bin/sh\ncase "$*" in *--version*) ;; *) exit 1 ;; esac\n')
        stop.chmod(0o755)
        patch.setenv("NEXTPNR_ECP5", str(stop))
        core = Top(CONFIGS[planes], clocks_per_bit=50)
        run_flow(BOARD, core, frequency=50e6, seeds=1, work=folder, progress=lambda *_: None)
    return folder


def test_places(folder: Path, planes: int) -> None:
    config = CONFIGS[planes]
    text = (folder / "top.json").read_text()
    cells = json.loads(text)["modules"]["top"]["cells"]
    places = {name: cell["attributes"]["BEL"] for name, cell in cells.items() if "BEL" in cell["attributes"]}
    assert len(set(places.values())) == len(places)

    # A flip-flop that brings operands stands in the part of the device of the PE that reads it, the first of several.
    readers: dict[int, set[tuple[int, int]]] = {}
    for name, cell in cells.items():
        if match := re.search(r"\.pe_(\d+)_(\d+)\.popcount", name):
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input":
                    readers.setdefault(bits[0], set()).add((int(match[1]), int(match[2])))
    counts: Counter[tuple[int, int]] = Counter()
    drains: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    parts: dict[int, dict[int, list[int]]] = {0: {}, 1: {}}  # columns and rows of PEs -> those of tiles
    for name, place in places.items():
        column, row = map(int, re.match(r"X(\d+)/Y(\d+)/", place).groups())  # type: ignore[union-attr]
        if match := re.search(r"\.pe_(\d+)_(\d+)\.drain", name):
            # Where a drain register has a place, so has the LUT in front of it: in the same half of a slice.
            drains[int(match[1]), int(match[2])].append(place.replace(".K", ".FF"))
        elif cells[name]["type"] == "TRELLIS_FF":
            r, c = min(readers[cells[name]["connections"]["Q"][0]])
            counts[r, c] += 1
            parts[0].setdefault(c, []).append(FABRIC.columns.index(column))
            parts[1].setdefault(r, []).append(-FABRIC.rows.index(row))
        else:
            assert cells[name]["type"] == "DP16KD"
    anchors = {(r, 1) for r in range(config.rows)} if config.rows > 4 else set()
    assert {pe for pe in drains if len(set(drains[pe])) == config.acc_width} == set(drains) == anchors
    gaps = [[min(part[k + 1]) - max(part[k]) for k in range(len(part) - 1)] for part in parts.values()]
    assert min(*gaps[0], *gaps[1]) > 0
    # The strip for the machine around the array is in the middle.
    middle = gaps[0].pop((config.columns + 1) // 2 - 1)
    assert middle > max(gaps[0]) + 1
    operands = (planes + 1) * config.lanes
    assert all(counts[r, c] == operands for r in range(1, config.rows) for c in range(1, config.columns))
    assert all(counts[r, config.columns] >= planes * config.lanes for r in range(config.rows))

    # One block RAM to each 16 bits of a buffer, which has all planes of a row.
    buffers = [re.search(r"(row|column)_buffer_(\d+)", name) for name in places if cells[name]["type"] == "DP16KD"]
    rows = {f"row_buffer_{r}": planes for r in range(config.rows)}
    columns = {f"column_buffer_{c}": 1 for c in range(config.columns)}
    assert Counter(match[0] for match in buffers if match) == rows | columns


@pytest.mark.parametrize(
    ("rows", "columns", "lanes"), [(1, 4, 8), (12, 17, 64), (16, 16, 64), (32, 65, 16), (32, 5, 256)]
)
def test_any_size(rows: int, columns: int, lanes: int) -> None:
    """Every place is one of the device and taken once, and beside registers there is room for carry chains."""
    bits = iter(range(rows * columns * lanes))
    cells: dict[str, dict] = {}
    for r, c, lane in ((r, c, lane) for r in range(rows) for c in range(columns) for lane in range(lanes)):
        bit = next(bits)
        cells[f"array.a_{bit}"] = {"type": "TRELLIS_FF", "connections": {"DI": ["0"], "Q": [bit]}}
        cells[f"array.pe_{r}_{c}.popcount.U${lane}"] = {"type": "CCU2C", "connections": {"A0": [bit], "CIN": ["x"]}}
    design = {"modules": {"top": {"attributes": {"top": "1"}, "cells": cells}}}
    placed = json.loads(place_array(json.dumps(design), FABRIC))["modules"]["top"]["cells"]
    places = [cell["attributes"]["BEL"] for cell in placed.values() if "attributes" in cell]
    assert len(places) == len(set(places)) >= rows * columns * 8
    tiles = [tuple(map(int, match.groups())) for place in places if (match := re.match(r"X(\d+)/Y(\d+)/", place))]
    assert {column for column, _ in tiles} <= set(FABRIC.columns)
    assert {row for _, row in tiles} <= set(FABRIC.rows)
    wide, in_row = len(FABRIC.columns) // columns, Counter(row for _, row in set(tiles))
    assert max(in_row.values()) <= columns * max(1, wide // 2)


def test_rows_that_share_registers() -> None:
    """Where registers are for several PEs, they stand at the first one. A block RAM stands where its words come to."""
    cells: dict[str, dict] = {}
    for r, lane in ((r, lane) for r in range(6) for lane in range(8)):
        bit = 8 * (r // 4) + lane
        cells[f"array.w_{bit}"] = {"type": "TRELLIS_FF", "connections": {"DI": [100 + bit], "Q": [bit]}}
        cells[f"array.pe_{r}_0.popcount.U${lane}"] = {"type": "CCU2C", "connections": {"A0": [bit]}}
    # Behind a register that has no place.
    cells["engine.column_buffer_0.ram.cell_0"] = {"type": "DP16KD", "connections": {"DOB0": [200]}}
    cells["array.late"] = {"type": "TRELLIS_FF", "connections": {"DI": [200], "Q": [115]}}
    design = {"modules": {"top": {"attributes": {"top": "1"}, "cells": cells}}}
    placed = json.loads(place_array(json.dumps(design), FABRIC))["modules"]["top"]["cells"]
    # Row 4, which has the registers of row 5, too, is the second one from above.
    (row,) = {re.search(r"Y(\d+)", placed[f"array.w_{bit}"]["attributes"]["BEL"])[1] for bit in range(8, 16)}  # type: ignore[index]
    assert FABRIC.rows.index(int(row)) * 6 // len(FABRIC.rows) == 1
    assert placed["engine.column_buffer_0.ram.cell_0"]["attributes"]["BEL"] == "X4/Y22/EBR0"


def test_nothing_to_place(folder: Path) -> None:
    text = (folder / "top.json").read_text()
    assert place_array(text, None) == text
    empty = json.dumps({"modules": {"top": {"attributes": {"top": "1"}, "cells": {}}}})
    assert place_array(empty, FABRIC) == empty


def test_every_place_of_the_fabric_can_be_taken(tmp_path: Path) -> None:
    """The static placer ends without a word at a register in a row of tiles that it does not know."""
    columns, rows = FABRIC.columns, FABRIC.rows
    tiles = [(x, y) for y in rows for x in (columns[0], columns[-1])] + [(x, rows[0]) for x in columns[1:-1]]
    (tmp_path / "top.v").write_text(f"""
module top(input clk, d, output q);
  reg [{len(tiles) - 1}:0] line;
  always @(posedge clk) line <= {{line, d}};
  assign q = line[{len(tiles) - 1}];
  genvar k;
  generate for (k = 0; k < {len(FABRIC.memories)}; k = k + 1) begin: ram
    (* keep *) DP16KD cell_(.CLKA(clk), .CLKB(clk), .DIA0(d));
  end endgenerate
endmodule
""")
    script = "read_verilog -lib +/ecp5/cells_bb.v; read_verilog top.v; synth_ecp5 -top top -json top.json"
    run_tool("yosys", ["-p", script], directory=tmp_path, log=tmp_path / "yosys.out")
    design = json.loads((tmp_path / "top.json").read_text())
    cells = design["modules"]["top"]["cells"].values()
    registers, memories = ([c for c in cells if c["type"] == kind] for kind in ("TRELLIS_FF", "DP16KD"))
    places = [f"X{x}/Y{y}/SLICED.FF1" for x, y in tiles] + ["X{}/Y{}/{}".format(*memory) for memory in FABRIC.memories]
    for cell, place in zip(registers + memories, places, strict=True):
        cell["attributes"]["BEL"] = place
    (tmp_path / "top.json").write_text(json.dumps(design))
    arguments = [
        *("--85k", "--package", "CABGA381", "--json", "top.json", "--lpf-allow-unconstrained"),
        *("--placer", BOARD.placers[0], "--no-route", "--write", "placed.json"),
    ]
    run_tool("nextpnr-ecp5", arguments, directory=tmp_path, log=tmp_path / "nextpnr.out")
    placed = json.loads((tmp_path / "placed.json").read_text())["modules"]["top"]["cells"].values()
    assert set(places) <= {cell["attributes"].get("NEXTPNR_BEL") for cell in placed}


@pytest.mark.slow
def test_placed(folder: Path) -> None:
    """nextpnr has all these places, and finds some for the rest around them."""
    arguments = [
        *("--85k", "--package", "CABGA381", "--json", "top.json", "--lpf", "top.lpf"),
        *("--placer", BOARD.placers[0], "--no-route", "--write", "placed.json"),
    ]
    run_tool("nextpnr-ecp5", arguments, directory=folder, log=folder / "nextpnr.out")
    bound = json.loads((folder / "top.json").read_text())["modules"]["top"]["cells"]
    placed = json.loads((folder / "placed.json").read_text())["modules"]["top"]["cells"]
    for name, cell in bound.items():
        if "BEL" in cell["attributes"]:
            assert placed[name]["attributes"]["NEXTPNR_BEL"] == cell["attributes"]["BEL"]
