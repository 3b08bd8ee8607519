"""The accelerator as the cells of an iCE40, as boards make them: the same bytes as the reference, in the same cycles.

Synthesis as the iCEBreaker has it for each of its presets, mapping of logic included, then the passes over the netlist;
Yosys' models of the cells. What is placed and routed is such a netlist.
"""

import dataclasses
import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]
from cell_models import cell_models

from dipole.boards import load_board
from dipole.boards.carry_feeds import fill_carry_feeds
from dipole.boards.carry_starts import join_carry_starts
from dipole.boards.flow import flow_options
from dipole.boards.report import MID_CYCLE
from dipole.boards.toolchain import run_tool
from dipole.boards.wiring import top_cells
from dipole.cli.testbench import conversation
from dipole.compiler.mapping import compile_network
from dipole.compiler.random_networks import Limits, random_codes, random_network
from dipole.rtl.config import Config
from dipole.rtl.presets import PRESETS
from dipole.rtl.top import Top
from dipole.sim.testbench import testbench as write_testbench
from dipole.sim.verilator_env import environment


def small(preset: str) -> Config:
    """The preset with fewer PEs and less memory."""
    return dataclasses.replace(
        PRESETS[preset], rows=2, columns=4, lanes=16, chunk=8, mem_width=64, mem_depth=1024, row_depth=64,
        column_depth=64, ladder_depth=16, sum_column=True,
    )  # fmt: skip


@pytest.mark.parametrize("preset", ["icebreaker", "up5k", "up5k_w1"])
def test_cells_of_a_board(preset: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    network = random_network(rng, Limits(layers=2, size=4, channels=6, kernel=3, bits=3))
    program = compile_network(network, small(preset))
    script, cycles = conversation(program, random_codes(rng, network))
    bench = write_testbench(script, top="dipole", sources=[], limit=cycles + 100_000, comment="", pump=2)
    for name, text in bench.items():
        (tmp_path / name).write_text(text)

    # Not the UP5K: its main memory, of 128 KB, would be SPRAM, with contents that the models leave open.
    platform = SimpleNamespace(family="ice40", device="iCE40HX8K")
    (tmp_path / "top.il").write_text(
        rtlil.convert(Top(program.config), platform=platform, name="dipole", emit_src=False)
    )
    board = load_board("icebreaker")
    options = flow_options(board, board.mappings.get(preset, ()))
    synthesis = f"synth_ice40 {options['synth_opts']} -top dipole -json top.json"
    (tmp_path / "top.ys").write_text(f"read_rtlil top.il\n{options['script_after_read']}\n{synthesis}\n")
    run_tool("yosys", ["-q", "top.ys"], directory=tmp_path, log=tmp_path / "yosys.log")
    netlist = fill_carry_feeds(join_carry_starts((tmp_path / "top.json").read_text()))
    (tmp_path / "filled.json").write_text(netlist)
    back = "read_json filled.json; write_verilog -noattr mapped.v"
    run_tool("yosys", ["-q", "-p", back], directory=tmp_path, log=tmp_path / "verilog.log")
    cells = sorted({cell["type"] for cell in top_cells(json.loads(netlist)).values()} - {"$scopeinfo"})
    assert {"SB_LUT4", "SB_CARRY", "SB_DFF", "SB_RAM40_4K"} <= set(cells), cells
    # What has half a cycle of the engine is found in nextpnr's report by its name (without multipliers not `lower`).
    flip_flops = (name for name in top_cells(json.loads(netlist)) if "_SB_DFF" in name)
    late = {found[0] for name in flip_flops if (found := MID_CYCLE.search(name))}
    assert late == {"half_shift."}
    (tmp_path / "cells.v").write_text(cell_models("ice40", cells))

    env = environment()
    env["MAKEFLAGS"] += " OPT_FAST=-O0 OPT_GLOBAL=-O0"
    command = ["verilator", "--binary", "--timing", "-Wno-fatal", "-Wno-lint", "-o", "tb", "--top-module", "tb"]
    command += ["tb.v", "mapped.v", "cells.v"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    printed = subprocess.run(["obj_dir/tb"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert re.search(r"^PASS: \d+ steps in \d+ cycles, \d{2,} bytes compared$", printed, re.MULTILINE), printed
