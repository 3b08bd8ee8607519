"""`dipole verilog`: files, the test bench in Icarus, errors."""

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


def run_icarus(directory: Path) -> str:
    sources = ["tb.v", "dipole.v", "dipole_buffers.v", "dipole_memory.v"]
    subprocess.run(["iverilog", "-g2005", "-o", "tb.vvp", *sources], cwd=directory, check=True)
    return subprocess.run(["vvp", "tb.vvp"], cwd=directory, capture_output=True, text=True, check=True).stdout


def test_files(written: Path) -> None:
    assert {path.name for path in written.iterdir()} >= FILES
    assert not list(written.glob(".draft*"))
    assert load_config(str(written / "config.json")).hash32 == CONFIG.hash32
    assert "set period 12.5\n" in (written / "dipole.sdc").read_text()
    assert "1024 words of 32 bits" in (written / "dipole_memory.v").read_text()


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
def test_bench_passes_in_icarus(written: Path) -> None:
    """Four-state simulation without initial values: nothing unknown reaches the answers."""
    printed = run_icarus(written)
    assert re.search(r"^PASS: \d+ steps in \d+ cycles, \d{2,} bytes compared$", printed, re.MULTILINE), printed


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
def test_bench_finds_a_wrong_byte(written: Path, tmp_path: Path) -> None:
    directory = tmp_path / "wrong"
    shutil.copytree(written, directory)
    steps = (directory / "tb.hex").read_text().split()
    last = max(index for index, step in enumerate(steps) if step[0] == "1")
    steps[last - 6] = f"1{int(steps[last - 6][1:], 16) ^ 1:02x}"
    (directory / "tb.hex").write_text("\n".join(steps) + "\n")
    assert "FAIL: step" in run_icarus(directory)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_digits_network(simulator: str, models: Path, tmp_path: Path) -> None:
    """A real network on asic_small: every byte of its result, and its cycles."""
    config = load_config("asic_small")
    compile_network(import_network(models / "digits_w2a2.onnx"), config).save(tmp_path / "digits.dipole")
    verilog(config="asic_small", output=tmp_path, program=tmp_path / "digits.dipole")
    if simulator == "icarus":
        if shutil.which("iverilog") is None:
            pytest.skip("needs iverilog")
        printed = run_icarus(tmp_path)
    else:
        command = ["verilator", "--binary", "--timing", "-Wno-fatal", "-o", "tb", "--top-module", "tb"]
        command += ["tb.v", "dipole.v", "dipole_buffers.v", "dipole_memory.v"]
        subprocess.run(command, cwd=tmp_path, env=environment(), check=True, capture_output=True)
        printed = subprocess.run(["obj_dir/tb"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
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
