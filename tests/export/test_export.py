"""Exported Verilog of the engine: its text, what tools say of it, and that it is the design it was made from."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dipole.rtl import boundary, rtlil
from dipole.rtl.config import Config
from dipole.rtl.delivery import SOURCES, delivery
from dipole.rtl.engine import Engine
from dipole.rtl.export import ExportError, Verilog, VerilogPlatform, convert, yosys
from dipole.rtl.presets import PRESETS
from dipole.rtl.queue import Queue
from dipole.rtl.top import Top
from dipole.sim.verilator_env import verilate

SMALL = Config(
    name="small", rows=2, columns=4, lanes=8, planes=2, hop=1, mem_depth=256, row_depth=16, column_depth=16,
    acc_width=12, ladder_depth=4, mul_width=8, queue_depth=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def exported() -> Verilog:
    return convert(Top(SMALL), name="dipole")


@pytest.fixture(scope="module")
def directory(exported: Verilog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an export."""
    path = tmp_path_factory.mktemp("export")
    for name, text in delivery(SMALL, exported, period=20).items():
        (path / name).write_text(text)
    return path


def test_text(exported: Verilog) -> None:
    text = exported.text
    assert not re.search(r"\\|\binitial\b|^\s*reg [^;]*=", text, re.MULTILINE)
    assert set(re.findall(r"\$\w*", text)) <= {"$signed"}
    assert not re.search(r"'[hbd][0-9a-f]*x", text), "an x that a tool may read as it likes"


def test_one_module_per_distinct_block(exported: Verilog) -> None:
    names = list(exported.modules)
    assert names[0] == "dipole" and len(names) == len(set(names))
    for block in ("pe", "popcount", "array", "loader", "store", "fetch", "execute", "ladder", "link", "engine"):
        assert [name for name in names if re.fullmatch(rf"dipole_{block}(_\d+)?", name)] == [f"dipole_{block}"]
    instances = re.findall(r"^  dipole_pe (\w+) ", exported.modules["dipole_array"], re.MULTILINE)
    assert len(instances) == SMALL.rows * (SMALL.columns + 1)
    assert "dipole_memory" in exported.memories and "dipole_ram" in exported.memories


def test_files(directory: Path) -> None:
    assert "module dipole_memory(clk, bus__addr," in (directory / "dipole_memory.v").read_text()
    assert (directory / "dipole_memory.v").read_text().count("endmodule") == 1
    assert Config.from_json((directory / "config.json").read_text()) == SMALL
    ports = re.search(r"module dipole\((.*?)\)", (directory / "dipole.v").read_text())
    assert ports is not None
    constrained = (directory / "dipole.sdc").read_text()
    for port in ports[1].split(", "):
        assert re.search(rf"[{{ \[]{port}(\[\*\])?[}} \]]", constrained), f"{port} has no constraint"


def test_lint_is_clean(directory: Path) -> None:
    verilate(["--lint-only", "-Wall", "--top-module", "dipole", "waivers.vlt", *SOURCES], cwd=directory)
    waivers = (directory / "waivers.vlt").read_text()
    for rule in re.finditer(r"(.*)\nlint_off", waivers):
        assert rule[1].startswith("//"), "a waiver without a reason"


def test_faster_array_has_its_clock_everywhere(tmp_path: Path) -> None:
    """Lint is clean, and the constraints know the second clock and what passes between both."""
    config = dataclasses.replace(SMALL, name="pump", pump=2)
    verilog = convert(Top(config), name="dipole")
    for name, text in delivery(config, verilog, period=20).items():
        (tmp_path / name).write_text(text)
    test_lint_is_clean(tmp_path)
    clocked = {name for name, text in verilog.modules.items() if "input fast_clk" in text}
    assert {"dipole_pe", "dipole_feed", "dipole_phase", "dipole_array"} <= clocked
    assert not {"dipole_loader", "dipole_store", "dipole_execute", "dipole_link"} & clocked
    constraints = (tmp_path / "dipole.sdc").read_text()
    assert "create_clock -name fast_clk" in constraints and constraints.count("set_multicycle_path") == 4
    assert re.search(r"^  dipole_\w+ half_shift ", verilog.modules["dipole_engine"], re.MULTILINE)
    assert "-from [get_cells -hierarchical *half_shift*]" in constraints


def test_halves_of_lines_have_half_a_period(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, name="halves", pump=2, mul_width=16, acc_width=16, few_rams=True)
    verilog = convert(Top(config), name="dipole")
    for name, text in delivery(config, verilog, period=20).items():
        (tmp_path / name).write_text(text)
    test_lint_is_clean(tmp_path)
    assert re.search(r"reg \[31:0\] lower\w*;", verilog.modules["dipole_ladder_memory"])
    assert "-from [get_cells -hierarchical *ladder_memory*lower*]" in (tmp_path / "dipole.sdc").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_lint_of_presets_is_clean(name: str, tmp_path: Path) -> None:
    config = PRESETS[name]
    for file, text in delivery(config, convert(Top(config), name="dipole"), period=20).items():
        (tmp_path / file).write_text(text)
    verilate(["--lint-only", "-Wall", "--top-module", "dipole", "waivers.vlt", *SOURCES], cwd=tmp_path)


@pytest.mark.parametrize("reader", ["read_verilog", "read_slang --threads 1 --top dipole"])
def test_yosys_reads_it(directory: Path, reader: str) -> None:
    files = " ".join(SOURCES)
    yosys(
        f"{reader} {files}\nhierarchy -check -top dipole\nproc\ncheck -assert\nselect -assert-min 500 t:*\n", directory
    )


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
def test_icarus_reads_it(directory: Path) -> None:
    command = ["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", "dipole.vvp", *SOURCES]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    assert result.stdout + result.stderr == ""


_PROVE = """
read_rtlil gold.il
hierarchy -check -top gold
proc
flatten
memory_map
opt_clean
design -stash gold
read_verilog gate.v
hierarchy -check -top gate
proc
flatten
memory_map
opt_clean
design -stash gate
design -copy-from gold -as gold gold
design -copy-from gate -as gate gate
equiv_make gold gate equiv
hierarchy -top equiv
opt_clean
equiv_simple -short
equiv_induct
equiv_status -assert
"""


def prove(component, directory: Path, *, break_it: tuple[str, str] | None = None) -> int:
    """Prove that Amaranth's RTLIL, cut at components, and the exported Verilog are the same; returns the points."""
    gold = boundary.convert(component(), "gold", VerilogPlatform())
    rtlil.strip_initial(gold)
    rtlil.legalize(gold, top=r"\gold", name="gold")
    (directory / "gold.il").write_text(rtlil.render(gold, top=r"\gold"))
    text = convert(component(), name="gate").text
    if break_it is not None:
        assert text.count(break_it[0])
        text = text.replace(*break_it, 1)
    (directory / "gate.v").write_text(text)
    log = yosys(_PROVE, directory)
    found = re.search(r"Found (\d+) \$equiv cells in equiv:\n  Of those cells (\d+) are proven and 0 ", log)
    assert found is not None and found[1] == found[2]
    return int(found[1])


def test_small_export_is_equivalent(tmp_path: Path) -> None:
    assert prove(lambda: Queue(32, 2), tmp_path) > 60


def test_proof_finds_a_difference(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="unproven"):
        prove(lambda: Queue(32, 2), tmp_path, break_it=(" & ", " | "))


@pytest.mark.formal
@pytest.mark.slow
def test_export_is_equivalent(tmp_path: Path) -> None:
    assert prove(lambda: Engine(SMALL), tmp_path) > 3000
