"""Places for the array of an ECP5: each operand register within its PE, and block RAMs for the buffers."""

import dataclasses
import json
import re
from collections import Counter, defaultdict
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from ecp5_tiles import a_cell, check_tiles

from dipole.boards import load_board
from dipole.boards.floorplan import place_array
from dipole.boards.floorplan_pes import place_pes
from dipole.boards.floorplan_reads import place_reads
from dipole.boards.floorplan_registers import place_registers
from dipole.boards.flow import FlowError, run_flow
from dipole.boards.toolchain import run_tool
from dipole.rtl.presets import PRESETS
from dipole.rtl.top import Top

BOARD = load_board("ulx3s_85f")
assert BOARD.fabric is not None
FABRIC = BOARD.fabric
CONFIG = dataclasses.replace(
    PRESETS["ulx3s_85f"], rows=3, columns=4, hop=1, lanes=16, mem_width=32, mem_depth=1024, ladder_depth=16, ladders=1,
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
    """Where the flow has stopped in front of the floorplan."""
    folder = tmp_path_factory.mktemp(f"flow{planes}")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(FlowError):
        stop = folder.with_name("stop")
        stop.write_text('#!/bin/sh\ncase "$*" in *--version*) ;; *) exit 1 ;; esac\n')
        stop.chmod(0o755)
        patch.setenv("NEXTPNR_ECP5", str(stop))
        patch.setattr("dipole.boards.flow.place_array", lambda netlist, fabric: netlist)
        core = Top(CONFIGS[planes], clocks_per_bit=50)
        run_flow(BOARD, core, frequency=50e6, seeds=1, work=folder, progress=lambda *_: None)
    return folder


@pytest.fixture(params=["PEs", "registers"])
def what(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What has places: PEs, as if the array were dense, or registers."""
    if request.param == "PEs":
        monkeypatch.setattr("dipole.boards.floorplan_pes._DENSE", 0)
    return request.param


def real(place: str) -> tuple[int, int]:
    """Column and row of the device."""
    match = re.match(r"X(\d+)/Y(\d+)/", place)
    assert match
    return int(match[1]), int(match[2])


def tile_of(place: str) -> tuple[int, int]:
    """Column and row, counted in tiles with logic, rows from below."""
    column, row = real(place)
    return FABRIC.columns.index(column), len(FABRIC.rows) - 1 - FABRIC.rows.index(row)


def test_places(folder: Path, planes: int, what: str) -> None:
    config = CONFIGS[planes]
    cells = json.loads(place_array((folder / "top.json").read_text(), FABRIC))["modules"]["top"]["cells"]
    check_tiles(cells)
    places = {name: cell["attributes"]["BEL"] for name, cell in cells.items() if "BEL" in cell["attributes"]}

    # A flip-flop that brings operands or control stands with the PE that reads it, and that in its part of the device.
    readers: dict[int, Counter[tuple[int, int]]] = defaultdict(Counter)
    popcounts: set[int] = set()
    for name, cell in cells.items():
        if match := re.search(r"\.pe_(\d+)_(\d+)\.(popcount)?", name):
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input":
                    readers[bits[0]][int(match[1]), int(match[2])] += 1
                    if match[3]:
                        popcounts.add(bits[0])
    operands: Counter[tuple[int, int]] = Counter()
    drains: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    parts: tuple[dict[int, set[int]], ...] = ({}, {})  # rows and columns of PEs -> those of tiles
    for name, place in places.items():
        if match := re.search(r"\.pe_(\d+)_(\d+)\.(drain)?", name):
            pe = int(match[1]), int(match[2])
            if match[3]:
                drains[pe].append(place.replace(".K", ".FF"))
            if what == "registers":
                continue
        elif cells[name]["type"] == "TRELLIS_FF":
            bit = cells[name]["connections"]["Q"][0]
            if bit not in readers:  # on the way to a block RAM
                assert what == "PEs"
                continue
            pe = readers[bit].most_common(1)[0][0] if what == "PEs" else min(readers[bit])
            operands[pe] += bit in popcounts
        elif cells[name]["type"] == "LUT4":  # in front of a register
            continue
        else:
            assert cells[name]["type"] in ("DP16KD", "MULT18X18D")
            continue
        for part, at, tile in zip(parts, pe, reversed(tile_of(place)), strict=True):
            part.setdefault(at, set()).add(tile)
    down, across = ([min(part[at + 1]) - max(part[at]) for at in range(len(part) - 1)] for part in parts)
    assert min(*down, *across) > 0
    # The strip for the machine around the array is in the middle.
    assert across.pop((config.columns + 1) // 2 - 1) > max(across) + 1
    both = (planes + 1) * config.lanes
    assert all(operands[pe] == both for pe in product(range(1, config.rows), range(1, config.columns)))

    # All that a PE has but for LUTs with no flip-flop of their own; else some drain registers of long chains, each
    # behind its LUT.
    if what == "PEs":
        for name, cell in cells.items():
            if re.search(r"\.pe_\d+_\d+\.", name):
                assert name in places or cell["type"] == "LUT4"
    else:
        anchors = {(r, 1) for r in range(config.rows)} if config.rows > 4 else set()
        assert {pe for pe in drains if len(set(drains[pe])) == config.acc_width} == set(drains) == anchors

    # The register in front of each read port stands beside its block RAMs, if PEs have places.
    addressed = [
        (register, name)
        for name, place in places.items()
        if cells[name]["type"] == "DP16KD" and "_buffer_" in name
        for register in places
        if cells[register]["type"] == "TRELLIS_FF"
        and [cells[register]["connections"]["Q"]] == [cells[name]["connections"]["CEB"]]
    ]
    assert len({name for _, name in addressed}) == (planes * config.rows + config.columns if what == "PEs" else 0)
    for register, name in addressed:
        assert sum(abs(a - b) for a, b in zip(real(places[register]), real(places[name]), strict=True)) < 10

    # One block RAM to each 16 bits of a buffer, which has all planes of a row.
    buffers = [re.search(r"(row|column)_buffer_(\d+)", name) for name in places if cells[name]["type"] == "DP16KD"]
    rows = {f"row_buffer_{r}": planes for r in range(config.rows)}
    columns = {f"column_buffer_{c}": 1 for c in range(config.columns)}
    assert Counter(match[0] for match in buffers if match) == rows | columns


def synthetic(rows: int, columns: int, lanes: int, hop: int) -> dict[str, Any]:
    """A netlist of PEs that are a carry chain each, of registers that bring operands to `hop` PEs, and of a buffer."""
    bits = count(2)
    cells: dict[str, Any] = {}

    clock, word = next(bits), next(bits)
    registers: dict[tuple[int, int, int], int] = {}
    for row, column, lane in product(range(rows), range(-(-columns // hop)), range(lanes)):
        registers[row, column, lane] = out = next(bits)
        data = registers.get((row, column - 1, lane), word)
        cells[f"array.a_{row}_{column}_{lane}"] = a_cell("TRELLIS_FF", CLK=clock, DI=data, Q=out, LSR="0")
    for row, column in product(range(rows), range(columns)):
        carry: int | str = "x"
        for pair in range(lanes // 2):
            a = [registers[row, column // hop, lane] for lane in (2 * pair, 2 * pair + 1)]
            after, sums = next(bits), [next(bits), next(bits)]
            name = f"array.pe_{row}_{column}.popcount.U${pair}"
            cells[name] = a_cell("CCU2C", A0=a[0], A1=a[1], S0=sums[0], S1=sums[1], CIN=carry, COUT=after)
            for k, bit in enumerate(sums):
                cells[f"array.pe_{row}_{column}.sum{pair}_{k}"] = a_cell(
                    "TRELLIS_FF", CLK=clock, DI=bit, Q=next(bits), LSR="0"
                )
            carry = after
    cells["engine.row_buffer_0.ram.cell_0"] = a_cell("DP16KD", DOB0=word)
    for ladder, half in product(range(2), range(2)):
        cells[f"engine.store.ladder{ladder}.product{half}"] = a_cell("MULT18X18D", A0=word)
    return cells


@pytest.mark.parametrize(
    ("rows", "columns", "lanes", "hop"),
    [(1, 1, 4, 1), (1, 5, 8, 1), (5, 3, 16, 2), (12, 17, 16, 1), (7, 9, 16, 4), (2, 3, 32, 64), (40, 3, 4, 1)],
)
def test_any_size(rows: int, columns: int, lanes: int, hop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dipole.boards.floorplan_pes._DENSE", 0)
    design = {"modules": {"top": {"attributes": {"top": "1"}, "cells": synthetic(rows, columns, lanes, hop)}}}
    placed = json.loads(place_array(json.dumps(design), FABRIC))["modules"]["top"]["cells"]
    check_tiles(placed)
    places = {name: cell["attributes"]["BEL"] for name, cell in placed.items() if "BEL" in cell["attributes"]}
    assert set(places) == set(placed)
    for name, place in places.items():
        if placed[name]["type"] not in ("DP16KD", "MULT18X18D"):
            tile_of(place)
    # Multipliers are those around the middle of the last row of them, those of a ladder side by side.
    products = [real(places[f"engine.store.ladder{ladder}.product{half}"]) for ladder in range(2) for half in range(2)]
    last = sorted((abs(x - 61.5), x, y) for x, y, _ in FABRIC.multipliers if y == 58)[:4]
    assert products == sorted((x, y) for _, x, y in last)
    # The block RAM is the nearest to the registers that its word comes to.
    first = [real(place) for name, place in places.items() if re.match(r"array\.a_\d+_0_", name)]

    def distance(x: int, y: int) -> int:
        return sum(abs(x - column) + abs(y - row) for column, row in first)

    assert distance(*real(places["engine.row_buffer_0.ram.cell_0"])) == min(
        distance(x, y) for x, y, _ in FABRIC.memories
    )


@pytest.mark.parametrize(
    ("rows", "columns", "lanes", "whole"),
    [(86, 1, 4, False), (12, 17, 256, False), (1, 121, 4, False), (4, 5, 16, False), (28, 48, 16, True)],
)
def test_dense_arrays_have_places_if_there_is_room(rows: int, columns: int, lanes: int, whole: bool) -> None:
    assert place_pes(synthetic(rows, columns, lanes, 1), FABRIC) == whole


def test_registers_on_the_way_to_a_read_port() -> None:
    """Three of them stand in free places next to what they drive; one that follows a LUT goes to that."""
    cells = {
        "ram": a_cell("DP16KD", ADB4=1, CEB=2),
        "other": a_cell("DP16KD", ADB4=1),
        "lut": a_cell("LUT4", A=0, Z=6),
        "follows": a_cell("TRELLIS_FF", CLK=9, DI=6, Q=2),
    }
    for k in range(4):
        cells[f"late{k}"] = a_cell("TRELLIS_FF", CLK=9, DI=f"{k}" if k == 3 else 11 + k, Q=1 if k == 0 else 10 + k)
    x, y, name = FABRIC.memories[0]
    for k, ram in enumerate(("ram", "other")):
        cells[ram]["attributes"]["BEL"] = f"X{x}/Y{y}/{name[:-1]}{k}"
    # The tiles beside them are taken, by another clock and to the last half.
    places = iter(f"X{x + dx}/Y{y}/SLICE{'ABCD'[half // 2]}.FF{half % 2}" for dx in (0, 1) for half in range(8))
    for k, place in enumerate(places):
        cells[f"taken{k}"] = a_cell("TRELLIS_FF", CLK=9 if k > 7 else 8, DI="0", Q=100 + k)
        cells[f"taken{k}"]["attributes"]["BEL"] = place
    place_reads(cells, FABRIC)
    check_tiles(cells)
    placed = [name for name, cell in cells.items() if "BEL" in cell["attributes"] and "late" in name]
    assert placed == ["late0", "late1", "late2"]
    for name in placed:
        column, row = real(cells[name]["attributes"]["BEL"])
        assert 0 < abs(column - x) + abs(row - y) <= 2


@pytest.mark.parametrize(
    ("rows", "columns", "lanes"), [(1, 4, 8), (12, 17, 64), (16, 16, 64), (32, 65, 16), (32, 5, 256)]
)
def test_registers_of_any_array(rows: int, columns: int, lanes: int) -> None:
    """Every place is one of the device and taken once, and beside registers there is room for carry chains."""
    bits = iter(range(rows * columns * lanes))
    cells: dict[str, dict] = {}
    for r, c, lane in ((r, c, lane) for r in range(rows) for c in range(columns) for lane in range(lanes)):
        bit = next(bits)
        cells[f"array.a_{bit}"] = a_cell("TRELLIS_FF", DI="0", Q=bit)
        cells[f"array.pe_{r}_{c}.popcount.U${lane}"] = a_cell("CCU2C", A0=bit, CIN="x")
    place_registers(cells, FABRIC)
    places = [cell["attributes"]["BEL"] for cell in cells.values() if cell["attributes"]]
    assert len(places) == len(set(places)) >= rows * columns * 8
    tiles = [tuple(map(int, match.groups())) for place in places if (match := re.match(r"X(\d+)/Y(\d+)/", place))]
    assert {column for column, _ in tiles} <= set(FABRIC.columns)
    assert {row for _, row in tiles} <= set(FABRIC.rows)
    wide, in_row = len(FABRIC.columns) // columns, Counter(row for _, row in set(tiles))
    assert max(in_row.values()) <= columns * max(1, wide // 2)


def test_rows_that_share_registers() -> None:
    """Where registers are for several PEs, they stand at the first one."""
    cells: dict[str, dict] = {}
    for r, lane in ((r, lane) for r in range(6) for lane in range(8)):
        bit = 8 * (r // 4) + lane
        cells[f"array.w_{bit}"] = a_cell("TRELLIS_FF", DI=100 + bit, Q=bit)
        cells[f"array.pe_{r}_0.popcount.U${lane}"] = a_cell("CCU2C", A0=bit)
    place_registers(cells, FABRIC)
    # Row 4, which has the registers of row 5, too, is the second one from above.
    (row,) = {re.search(r"Y(\d+)", cells[f"array.w_{bit}"]["attributes"]["BEL"])[1] for bit in range(8, 16)}  # type: ignore[index]
    assert FABRIC.rows.index(int(row)) * 6 // len(FABRIC.rows) == 1


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
  generate for (k = 0; k < {len(FABRIC.multipliers)}; k = k + 1) begin: product
    (* keep *) MULT18X18D cell_(.A0(d));
  end endgenerate
endmodule
""")
    script = "read_verilog -lib +/ecp5/cells_bb.v; read_verilog top.v; synth_ecp5 -top top -json top.json"
    run_tool("yosys", ["-p", script], directory=tmp_path, log=tmp_path / "yosys.out")
    design = json.loads((tmp_path / "top.json").read_text())
    cells = design["modules"]["top"]["cells"].values()
    places = [f"X{x}/Y{y}/SLICED.FF1" for x, y in tiles]
    places += ["X{}/Y{}/{}".format(*site) for site in [*FABRIC.memories, *FABRIC.multipliers]]
    of_type = [c for kind in ("TRELLIS_FF", "DP16KD", "MULT18X18D") for c in cells if c["type"] == kind]
    for cell, place in zip(of_type, places, strict=True):
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
def test_placed(folder: Path, what: str) -> None:
    """nextpnr has all these places, and finds some for the rest around them."""
    (folder / "floorplan.json").write_text(place_array((folder / "top.json").read_text(), FABRIC))
    arguments = [
        *("--85k", "--package", "CABGA381", "--json", "floorplan.json", "--lpf", "top.lpf"),
        *("--placer", BOARD.placers[0], "--no-route", "--write", "placed.json"),
    ]
    run_tool("nextpnr-ecp5", arguments, directory=folder, log=folder / "nextpnr.out")
    bound = json.loads((folder / "floorplan.json").read_text())["modules"]["top"]["cells"]
    placed = json.loads((folder / "placed.json").read_text())["modules"]["top"]["cells"]
    for name, cell in bound.items():
        if "BEL" in cell["attributes"]:
            assert placed[name]["attributes"]["NEXTPNR_BEL"] == cell["attributes"]["BEL"]
