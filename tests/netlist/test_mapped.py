"""The exported Verilog mapped to standard cells with plain Yosys: the netlist gives the same bytes in the same cycles.

The cells' models are made from the functions in the Liberty file. Registers start at random values, several times: what
has no reset must not matter. Memories stay outside the netlist, as macros would.
"""

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dipole.cli.testbench import conversation
from dipole.compiler.mapping import compile_network
from dipole.compiler.random_networks import Limits, random_codes, random_network
from dipole.rtl.config import Config
from dipole.rtl.delivery import SOURCES, delivery
from dipole.rtl.export import convert, yosys
from dipole.rtl.presets import PRESETS
from dipole.rtl.top import Top
from dipole.sim.testbench import testbench as write_testbench
from dipole.sim.verilator_env import environment

SMALL = Config(
    name="small", rows=2, columns=4, lanes=8, mem_depth=1024, row_depth=64, column_depth=64, acc_width=18,
    ladder_depth=16, queue_depth=2,
)  # fmt: skip
PUMP = dataclasses.replace(SMALL, name="pump", pump=2, hop=1, mem_ports=2)
LOGIC, BUFFERS, MEMORY = SOURCES

_CELLS = """
read_liberty -ignore_miss_func cells.lib
proc
opt_clean
write_verilog -noattr cells.v
"""
_MAP = f"""
read_liberty -lib cells.lib
read_verilog {LOGIC}
read_verilog -lib {BUFFERS} {MEMORY}
synth -top dipole
dfflibmap -liberty cells.lib
abc -liberty cells.lib
hilomap -singleton -hicell sg13g2_tiehi L_HI -locell sg13g2_tielo L_LO
opt_clean -purge
check -mapped -assert
stat -liberty cells.lib
write_verilog -noattr mapped.v
"""


@pytest.mark.slow
@pytest.mark.parametrize("config", [SMALL, PUMP, PRESETS["asic_small"]], ids=lambda config: config.name)
def test_mapped_netlist(config: Config, liberty: Path | None, tmp_path: Path) -> None:
    if liberty is None:
        pytest.skip("needs the Liberty file among the shared files")
    rng = np.random.default_rng(3)
    limits = Limits(layers=2, size=4, channels=6, kernel=3, bits=2)
    network = random_network(rng, limits)
    script, cycles = conversation(compile_network(network, config), random_codes(rng, network))
    files = delivery(config, convert(Top(config), name="dipole"), period=20)
    files |= write_testbench(
        script, top="dipole", sources=SOURCES, limit=cycles + 100_000, comment="", pump=config.pump
    )
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "cells.lib").write_bytes(liberty.read_bytes())

    yosys(_CELLS, tmp_path)
    log = yosys(_MAP, tmp_path)
    area = re.search(r"Chip area for top module '\\dipole': ([\d.]+)", log)
    assert area is not None and float(area[1]) > 10_000
    netlist = (tmp_path / "mapped.v").read_text()
    assert not re.search(r"\balways\b|\bassign \w+ = .*[&|^?]", netlist), "logic that is not mapped"

    env = environment()
    env["MAKEFLAGS"] += " OPT_FAST=-O0 OPT_GLOBAL=-O0"
    command = ["verilator", "--binary", "--timing", "--x-initial", "unique", "-Wno-fatal", "-Wno-lint", "-o", "tb"]
    command += ["--top-module", "tb", "tb.v", "mapped.v", BUFFERS, MEMORY, "cells.v"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    for seed in (1, 2, 3):
        command = ["obj_dir/tb", "+verilator+rand+reset+2", f"+verilator+seed+{seed}"]
        printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        assert re.search(r"^PASS: \d+ steps in \d+ cycles, \d{2,} bytes compared$", printed, re.MULTILINE), printed
