"""`dipole verilog`: files, the test bench in Icarus and Verilator, errors."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dipole.cli.verilog import verilog
from dipole.compiler.importer import import_network
from dipole.compiler.mapping import compile_network
from dipole.compiler.program import ProgramError
from dipole.compiler.random_networks import Limits, random_network
from dipole.golden.errors import DipoleError
from dipole.rtl.config import Config, ConfigError
from dipole.rtl.presets import load_config
from dipole.sim.verilator_env import environment

CONFIG = Config(
    name="bench", rows=2, columns=4, lanes=8, mem_depth=1024, row_depth=64, column_depth=64, acc_width=20,
    ladder_depth=16, queue_depth=2,
)  # fmt: skip
FILES = {
    "dipole.v", "dipole_buffers.v", "dipole_memory.v", "dipole.sdc", "waivers.vlt", "config.json", "tb.v", "tb.hex",
}  # fmt: skip


def write(path: Path, *, program_config: Config = CONFIG, **options) -> Path:
    """Run the verb in a fresh directory; returns where it has written."""
    (path / "bench.json").write_text(CONFIG.to_json())
    network = random_network(np.random.default_rng(8), Limits(layers=2, size=4, channels=6, kernel=3, bits=2))
    compile_network(network, program_config).save(path / "network.dipole")
    fields = {"output": path / "out", "program": path / "network.dipole", "period": 12.5, "seed": 3} | options
    verilog(config=str(path / "bench.json"), **fields)
    return path / "out"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("verilog"))


SIMULATORS = [
    pytest.param("icarus", marks=pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")),
    "verilator",
]


def build_bench(simulator: str, directory: Path) -> list[str]:
    """Compile what `dipole verilog` wrote; the command that runs it in a directory with a tb.hex."""
    sources = ["tb.v", "dipole.v", "dipole_buffers.v", "dipole_memory.v"]
    if simulator == "icarus":
        subprocess.run(["iverilog", "-g2005", "-o", "tb.vvp", *sources], cwd=directory, check=True)
        return ["vvp", str(directory / "tb.vvp")]
    env = environment()
    env["MAKEFLAGS"] += " OPT_FAST=-O0 OPT_GLOBAL=-O0"
    command = ["verilator", "--binary", "--timing", "-Wno-fatal", "-o", "tb", "--top-module", "tb", *sources]
    subprocess.run(command, cwd=directory, env=env, check=True, capture_output=True)
    return [str(directory / "obj_dir" / "tb")]


def run_bench(command: list[str], directory: Path) -> str:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module", params=SIMULATORS)
def bench(request: pytest.FixtureRequest, written: Path) -> list[str]:
    return build_bench(request.param, written)


def test_files(written: Path) -> None:
    assert {path.name for path in written.iterdir()} >= FILES
    assert not list(written.glob(".draft*"))
    assert load_config(str(written / "config.json")).hash32 == CONFIG.hash32
    assert "set period 12.5\n" in (written / "dipole.sdc").read_text()
    assert "1024 words of 32 bits" in (written / "dipole_memory.v").read_text()


def test_bench_passes(bench: list[str], written: Path) -> None:
    """In Icarus a four-state simulation without initial values: nothing unknown reaches the answers."""
    printed = run_bench(bench, written)
    assert re.search(r"^PASS: \d+ steps in \d+ cycles, \d{2,} bytes compared$", printed, re.MULTILINE), printed


def test_bench_finds_a_wrong_byte(bench: list[str], written: Path, tmp_path: Path) -> None:
    steps = (written / "tb.hex").read_text().split()
    last = max(index for index, step in enumerate(steps) if step[0] == "1")
    steps[last - 6] = f"1{int(steps[last - 6][1:], 16) ^ 1:02x}"
    (tmp_path / "tb.hex").write_text("\n".join(steps) + "\n")
    assert "FAIL: step" in run_bench(bench, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_digits_network(simulator: str, models: Path, tmp_path: Path) -> None:
    """A real network on asic_small: every byte of its result, and its cycles."""
    config = load_config("asic_small")
    compile_network(import_network(models / "digits_w2a2.onnx"), config).save(tmp_path / "digits.dipole")
    verilog(config="asic_small", output=tmp_path, program=tmp_path / "digits.dipole")
    printed = run_bench(build_bench(simulator, tmp_path), tmp_path)
    assert re.search(r"^PASS: \d+ steps in \d+ cycles, \d{2,} bytes compared$", printed, re.MULTILINE), printed


def test_program_for_another_configuration(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"is for configuration 'test_tiny' .*, not for 'bench'"):
        write(tmp_path, program_config=load_config("test_tiny"))
    assert not (tmp_path / "out").exists()


def test_unknown_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown configuration 'nonsense'"):
        verilog(config="nonsense", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DipoleError, match=r"cannot write .*choose another directory"):
        write(tmp_path, output=tmp_path / "file" / "out", program=None)
