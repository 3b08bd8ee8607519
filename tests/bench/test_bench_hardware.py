"""`dipole bench pe`, `array` and `device`: what is computed around the tools, and, slow, the tools themselves."""

import dataclasses
import re
from pathlib import Path

import pytest

from dipole.bench import array as array_module
from dipole.bench import device as device_module
from dipole.bench import flow, pe
from dipole.bench.array import BufferedArray, measure_arrays
from dipole.bench.device import measure_devices
from dipole.bench.flow import DEVICES, Measurement, Routed, cached, netlist
from dipole.bench.units import Frame, bismo, dipole_unit, plain
from dipole.boards.flow import TimingError
from dipole.boards.report import ClockResult, FlowReport, SeedResult
from dipole.boards.toolchain import ToolError
from dipole.cli.main import main
from dipole.rtl.config import Config

TINY = Config(name="tiny", rows=2, columns=4, lanes=8, planes=1, mem_depth=1024, row_depth=64, column_depth=64)


def silent(stage: str, done: int, total: int) -> None:
    pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing known from before."""
    monkeypatch.setenv("DIPOLE_CACHE", str(tmp_path / "cache"))


def test_what_is_known_is_not_made_again() -> None:
    calls = []

    def make() -> dict[str, int]:
        calls.append(1)
        return {"a": len(calls)}

    assert cached("kind", ["netlist", 3], make) == cached("kind", ["netlist", 3], make) == {"a": 1}
    assert cached("kind", ["netlist", 4], make) == {"a": 2} and cached("other", ["netlist", 3], make) == {"a": 3}


def test_synthesis_without_statistics_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "run_tool", lambda *arguments, **keywords: None)
    with pytest.raises(ToolError, match="no statistics"):
        flow.synthesize("", DEVICES["up5k"], tmp_path)


def test_recoding_counts_for_an_eighth() -> None:
    m = Measurement("unit", 64, 4, "up5k", 512, 400, 420, 180, {"1": 50.0, "2": 40.0}, shared_luts=320)
    assert m.luts_per_operation == (400 + 40) / 512 and m.worst == 40.0


@pytest.mark.parametrize("unit", [plain(16), bismo(16), dipole_unit(16, 1), dipole_unit(16, 4)])
@pytest.mark.parametrize("device", ["up5k", "ecp5_25"])
def test_frame_knows_what_it_takes(unit, device: str) -> None:
    frame = Frame(unit, DEVICES[device].family)
    text = netlist(frame, DEVICES[device], [frame.i, frame.o])
    assert frame.muxes == 24 and frame.flip_flops > 16
    assert ("SB_LUT4" in text or "CCU2C" in text) == unit.name.startswith("Dipole")


@pytest.mark.parametrize("planes", [1, 4])
@pytest.mark.parametrize("device", ["up5k", "ecp5_25"])
def test_array_has_all_pes_and_buffers(planes: int, device: str) -> None:
    config = dataclasses.replace(TINY, planes=planes)
    text = netlist(BufferedArray(config, DEVICES[device].family), DEVICES[device])
    assert len(re.findall(r"cell \\\S+ \\pe_\d+_\d+$", text, re.MULTILINE)) == 2 * (4 + config.sum_column)
    assert len(re.findall(r"cell \\\S+ \\(?:row|column)_buffer_\d+$", text, re.MULTILINE)) == 2 + 4


def test_array_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    routed = Routed(
        luts=900, flip_flops=500, used={"ICESTORM_LC": 1000, "ICESTORM_RAM": 8}, fmax={"1": 60.0, "2": 50.0}
    )
    monkeypatch.setattr(array_module, "place", lambda *arguments, **keywords: routed)
    design = BufferedArray(TINY, "ice40")
    netlist(design, DEVICES["up5k"])
    (result,) = measure_arrays([TINY], "up5k", seeds=2, progress=silent).results
    assert result.gops == pytest.approx(2 * TINY.peak_bmac * 50.0 / 1000) and result.rams == 8
    assert result.luts == 900 - design.muxes and result.cells == 1000 - design.muxes - design.flip_flops


@pytest.mark.filterwarnings("ignore:.*created but never used")
@pytest.mark.parametrize("met", [True, False])
def test_device_figures_also_where_timing_is_missed(met: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    achieved = {1: 30.0, 2: 25.5}
    calls = []

    def run_flow(board, core, *, frequency, seeds, mapping, work, progress):
        calls.append(frequency)
        assert not mapping  # that is for presets
        cells = {"ICESTORM_LC": (5000, 5280)}
        crystal = {"crystal": ClockResult(300, 12)}
        clocks = {seed: {"clk": ClockResult(mhz, frequency / 1e6), **crystal} for seed, mhz in achieved.items()}
        report = FlowReport(tuple(SeedResult(seed, clock, cells) for seed, clock in clocks.items()))
        if not met:
            raise TimingError("missed", report)
        return report

    monkeypatch.setattr(device_module, "run_flow", run_flow)
    file = tmp_path / "tiny.json"
    file.write_text(TINY.to_json())
    for _ in range(2):  # the second time from the cache
        measured = measure_devices([f"icebreaker={file}"], frequency=48, seeds=2, progress=silent)
    (result,) = measured.results
    assert len(calls) == 1
    assert result.fmax == {"1": 30.0, "2": 25.5} and result.worst == 25.5
    assert result.gops == pytest.approx(2 * TINY.peak_bmac * 25.5 / 1000)
    assert "5000 of 5280 logic cells" in result.row()[3]
    measured.write_section(tmp_path / "performance.md")
    unrouted = dataclasses.replace(result, fmax={"1": 0.0, "2": 30.0})
    assert unrouted.row()[5:] == ("not routed, 30.0", "not routed", "not routed", "none")
    section = (tmp_path / "performance.md").read_text()
    assert "bench device: begin" in section
    assert "-dffe_min_ce_use 3" in section and "ABC for icebreaker = &scorr" in section


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["pe", "--device", "none"], r"unknown device 'none': give up5k"),
     (["pe", "--lanes", "7"], r"lanes is 7, must be a power of two"),
     (["array", "--device", "none"], r"unknown device 'none': give up5k"),
     (["array", "--config", "none"], r"unknown configuration 'none'"),
     (["device", "none"], r"unknown board 'none'"),
     (["device", "icebreaker=none"], r"unknown configuration 'none'"),
     (["device", "icebreaker", "--frequency", "0.5"], r"0\.5")],
)  # fmt: skip
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert stop.value.code == 2
    assert re.fullmatch(rf"error: [^\n]*{message}[^\n]*\n", capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["up5k", "ecp5_25"])
def test_pe_on_the_tools(device: str) -> None:
    results = pe.compare([8], [device], seeds=1, progress=silent)
    assert [m.planes for m in results.measurements] == [1, 1, 1, 2, 4, 8]
    for m in results.measurements:
        # The accumulator alone takes its bits; recoding is there only where iCE40 chooses sums of pairs.
        assert 24 <= m.luts <= m.cells + 8 and m.flip_flops >= 24 and 10 < m.worst < 600
        assert (m.shared_luts > 0) == (m.planes > 1 and device == "up5k")


@pytest.mark.slow
def test_array_on_the_tools() -> None:
    (result,) = measure_arrays([TINY], "up5k", seeds=1, progress=silent).results
    assert result.rams >= 6 and 10 * 24 < result.luts <= result.cells < 3000 and 10 < min(result.fmax.values()) < 200
