"""The flow with a small design on real tools, both families; and what happens when something goes wrong."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from echo import Echo

from dipole.boards import BoardError, load_board
from dipole.boards.build import build_board, build_core
from dipole.boards.flow import FlowError, TimingError
from dipole.boards.toolchain import ToolError
from dipole.rtl.presets import PRESETS, load_config


@pytest.mark.parametrize(
    ("name", "cell", "seeds"), [("icebreaker", "ICESTORM_LC", 3), ("ulx3s_25f", "TRELLIS_COMB", 1)]
)
def test_build(name: str, cell: str, seeds: int, tmp_path: Path) -> None:
    board = load_board(name)
    stages: list[tuple[str, int, int]] = []
    built = build_core(
        board, Echo(), frequency=board.frequency, seeds=seeds, output=tmp_path / "out",
        progress=lambda *stage: stages.append(stage), facts={"configuration": "echo"},
    )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [f"{name}{Path(board.bitstream).suffix}", f"{name}.json", f"{name}.log"]
    )
    assert built.bitstream.stat().st_size > 50_000

    report = json.loads(built.report_file.read_text())
    assert report["board"] == name and report["configuration"] == "echo"
    assert [seed["seed"] for seed in report["seeds"]] == [*range(1, seeds + 1)]
    assert report["best_seed"] in range(1, seeds + 1)
    (fmax,) = report["fmax_mhz"].values()
    assert fmax["min"] <= fmax["median"] <= fmax["max"]
    # nextpnr rounds periods.
    assert fmax["constraint"] == pytest.approx(board.frequency / 1e6, rel=2e-3)
    assert fmax["max"] >= fmax["constraint"]
    used = report["utilisation"][cell]
    assert 50 < used["used"] < used["available"]
    assert "yosys" in built.log.read_text().lower()

    assert stages[0] == ("elaborate", 0, seeds + 3) and stages[-1] == ("done", seeds + 3, seeds + 3)
    assert [done for _, done, _ in stages] == sorted(done for _, done, _ in stages)


def test_mapping_is_what_abc_does(tmp_path: Path) -> None:
    """The preset's own commands run; ABC that ends before it has written anything ends synthesis."""
    board = load_board("icebreaker")
    mapping = board.mappings[board.config]
    work = {"frequency": board.frequency, "seeds": 1, "output": tmp_path}
    assert build_core(board, Echo(), mapping=mapping, **work).report.best.met
    with pytest.raises(ToolError, match="yosys"):
        build_core(board, Echo(), mapping=["quit", *mapping], **work)


@pytest.mark.parametrize("name", ["icebreaker", "ulx3s_25f"])
def test_two_clocks(name: str, tmp_path: Path) -> None:
    """The PLL makes both, block RAM is written with one and read with the other, and what crosses is timed."""
    board = load_board(name)
    built = build_core(board, Echo(pump=2), frequency=board.frequency, seeds=1, output=tmp_path)
    fmax = built.report.fmax()
    ratios = {clock: limits["constraint"] * 1e6 / board.frequency for clock, limits in fmax.items()}
    assert ratios == pytest.approx({"clk": 1, "fast_clk": 2, "clk to fast_clk": 1, "fast_clk to clk": 1}, rel=2e-3)
    assert built.report.best.met


def test_nextpnr_heeds_settings(tmp_path: Path) -> None:
    """By one that shows in the log: how long the second router took for which nets."""
    board = dataclasses.replace(load_board("ulx3s_25f"), settings={"router2/perfProfile": "1"})
    built = build_core(board, Echo(), frequency=board.frequency, seeds=1, output=tmp_path)
    assert "slowest nets by runtime" in built.log.read_text()


def test_missed_timing_names_clock_frequency_and_constraint(tmp_path: Path) -> None:
    board = load_board("icebreaker")
    message = (
        r"timing missed on iCEBreaker \(iCE40UP5K-SG48\): clock \S+ reaches [\d.]+ MHz at best over 1 seeds, must "
        r"reach 120\.\d MHz; .* \(log: .*icebreaker\.failed\.log\)$"
    )
    with pytest.raises(TimingError, match=message):
        build_core(board, Echo(width=64), frequency=120e6, seeds=1, output=tmp_path)
    (log,) = tmp_path.iterdir()
    assert log.name == "icebreaker.failed.log" and "Max frequency" in log.read_text()


def test_too_large_says_by_how_much(tmp_path: Path) -> None:
    board = load_board("icebreaker")
    message = r"does not fit iCEBreaker \(iCE40UP5K-SG48\): \d+ logic cells of 5280"
    with pytest.raises(FlowError, match=message) as error:
        build_core(board, Echo(width=128, copies=48), frequency=board.frequency, seeds=1, output=tmp_path)
    used = re.search(r"(\d+) logic cells", str(error.value))
    assert used and 6000 < int(used[1]) < 8000
    assert [path.name for path in tmp_path.iterdir()] == ["icebreaker.failed.log"]


@pytest.mark.slow
def test_whole_accelerator(tmp_path: Path) -> None:
    built = build_board("ulx3s_25f", config="test_tiny", frequency=25e6, seeds=1, output=tmp_path)
    assert built.bitstream.stat().st_size > 100_000 and built.frequency == 25e6
    config = load_config(str(tmp_path / "ulx3s_25f.config.json"))
    assert config == PRESETS["test_tiny"]
    report = json.loads(built.report_file.read_text())
    assert report["configuration_hash"] == f"{config.hash32:08x}"
    # Row and column buffers and the main memory are block RAM.
    assert report["utilisation"]["DP16KD"]["used"] >= config.rows + config.columns + config.mem_depth * 32 // 18432


@pytest.mark.parametrize("tool", ["YOSYS", "NEXTPNR_ICE40", "ICEPACK"])
def test_missing_tool(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tool, "no-such-program")
    board = load_board("icebreaker")
    with pytest.raises(ToolError, match=f"{tool} names 'no-such-program', which is no program"):
        build_core(board, Echo(), frequency=board.frequency, seeds=1, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seeds", [0, 65])
def test_seeds_out_of_range(seeds: int, tmp_path: Path) -> None:
    board = load_board("icebreaker")
    with pytest.raises(BoardError, match=f"seeds is {seeds}, must be in 1..64"):
        build_core(board, Echo(), frequency=board.frequency, seeds=seeds, output=tmp_path)
