"""Finding and running tools, nextpnr's reports, and loading a board with programs in openFPGALoader's place."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from dipole.boards import load_board
from dipole.boards.flash import FlashError, flash_board
from dipole.boards.flow import run_flow
from dipole.boards.report import FlowReport, ReportError, SeedResult, read_excess, read_seed, read_stuck
from dipole.boards.toolchain import ToolError, find_tool, run_tool
from dipole.rtl.presets import PRESETS
from dipole.rtl.top import Top


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize("tool", ["yosys", "nextpnr-ice40", "nextpnr-ecp5", "icepack", "ecppack", "openFPGALoader"])
def test_every_tool_is_found_without_an_active_environment(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv(tool.upper().replace("-", "_"), raising=False)
    (command,) = find_tool(tool)
    assert Path(command).is_file()


def test_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = script(tmp_path / "mine", "exit 0")
    monkeypatch.setenv("YOSYS", f"{program} --quiet")
    assert find_tool("yosys") == [program, "--quiet"]


def test_unknown_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXTPNR_NIX", raising=False)
    with pytest.raises(ToolError, match=r"nextpnr-nix is missing: install it with .* or set NEXTPNR_NIX"):
        find_tool("nextpnr-nix")


def test_failure_gives_the_last_error_of_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = script(tmp_path / "yosys", "echo working; echo 'ERROR: no such module'; echo bye; exit 3")
    monkeypatch.setenv("YOSYS", program)
    with pytest.raises(ToolError, match="yosys failed with exit code 3: ERROR: no such module"):
        run_tool("yosys", ["a.ys"], directory=tmp_path, log=tmp_path / "log")
    assert (tmp_path / "log").read_text().splitlines() == ["working", "ERROR: no such module", "bye"]


def test_tool_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "yosys"
    program.write_bytes(b"\x00not a program")
    program.chmod(0o755)
    monkeypatch.setenv("YOSYS", str(program))
    with pytest.raises(ToolError, match="yosys cannot start"):
        run_tool("yosys", [], directory=tmp_path, log=tmp_path / "log")


def test_router_that_gets_nowhere_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "top.tim"
    lines = "".join(f"Info:     iter={k} wires=9 overused=2 overuse=2 archfail=NA\\n" for k in (1, 199, 200))
    monkeypatch.setenv("NEXTPNR_ICE40", script(tmp_path / "router", f"printf '{lines}' > top.tim; exec sleep 60"))
    with pytest.raises(ToolError, match="nextpnr-ice40 was stopped: 2 wires still have two nets after 200 rounds"):
        run_tool("nextpnr-ice40", [], directory=tmp_path, log=tmp_path / "out", stuck=lambda: read_stuck(log))


def test_router_that_gets_on_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "top.tim"
    assert read_stuck(log) is None
    log.write_text("Info: Routing..\nInfo:     iter=199 wires=9 overused=2 overuse=2 archfail=NA\n")
    assert read_stuck(log) is None


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ("overused=0 overuse=0 tmgfail=3", "3 wires are still too slow for their clock after 200 rounds of routing"),
        ("overused=2 overuse=2 tmgfail=3", "2 wires still have two nets after 200 rounds of routing"),
    ],
)
def test_router_that_cannot_meet_the_clock(counts: str, reason: str, tmp_path: Path) -> None:
    log = tmp_path / "top.tim"
    log.write_text(f"Info:     iter=200 wires=9 {counts} archfail=NA\n")
    assert read_stuck(log) == reason


def test_seed_that_did_not_route_is_no_best(tmp_path: Path) -> None:
    routed = read_seed(2, write_report(tmp_path / "report.json", {"clk": (10.0, 20.0)}))
    report = FlowReport((SeedResult(1, {}, {}, failure="stuck"), routed))
    assert report.best is routed and not report.seeds[0].met
    assert report.fmax()["clk"]["min"] == 10.0
    assert report.to_dict()["seeds"][0]["failure"] == "stuck"


def flow_with(nextpnr: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> FlowReport:
    """A flow in tmp_path / "work" with a shell script for nextpnr, and others that do nothing but leave a file."""
    for tool, body in (("YOSYS", "echo {} > top.json"), ("NEXTPNR_ICE40", nextpnr), ("ICEPACK", "pwd > top.bin")):
        monkeypatch.setenv(tool, script(tmp_path / tool, body))
    core, work = Top(PRESETS["test_tiny"], clocks_per_bit=30), tmp_path / "work"
    work.mkdir()
    return run_flow(load_board("icebreaker"), core, frequency=30e6, work=work, progress=lambda *_: None, **options)


@pytest.mark.parametrize(
    "first",
    [
        "echo 'Info:     iter=200 wires=9 overused=2 overuse=2 archfail=NA' > top.tim; exec sleep 60",
        "echo 'ERROR: Unable to find legal placement for all cells' > top.tim; exit 1",
    ],
    ids=["router", "placer"],
)  # fmt: skip
def test_seed_that_does_not_route_is_placed_by_the_next_placer(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path / "report", {"clk": (40.0, 30.0)})
    nextpnr = f"""case "$*" in
    *--version*) ;;
    *--placer\\ static*) {first} ;;
    *) cp {tmp_path / "report"} report.json ;;
    esac"""
    report = flow_with(nextpnr, tmp_path, monkeypatch, seeds=1)
    assert (report.best.placer, report.best.met) == ("heap", True)
    assert (tmp_path / "work" / "top.bin").read_text().strip().endswith("seed1-heap")


def test_first_seed_that_meets_timing_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(tmp_path / "report", {"clk": (40.0, 30.0)})
    nextpnr = f"""case "$*" in
    *--version*) ;;
    *--seed\\ 2\\ *) cp {tmp_path / "report"} report.json ;;
    *) exec sleep 600 ;;
    esac"""
    report = flow_with(nextpnr, tmp_path, monkeypatch, seeds=3, first=True, jobs=2)
    assert [seed.seed for seed in report.seeds] == [2]


def write_report(path: Path, fmax: dict[str, tuple[float, float]]) -> Path:
    clocks = {name: {"achieved": achieved, "constraint": constraint} for name, (achieved, constraint) in fmax.items()}
    cells = {"LC": {"used": 7, "available": 9}, "RAM": {"used": 0, "available": 4}}
    path.write_text(json.dumps({"fmax": clocks, "utilization": cells}))
    return path


def test_report_over_seeds(tmp_path: Path) -> None:
    clocks = [(30.0, 20.0), (20.0, 40.0), (50.0, 25.0)]
    seeds = []
    for seed, (fast, slow) in enumerate(clocks, start=1):
        path = write_report(tmp_path / f"{seed}.json", {"$glbnet$fast": (fast, 24.0), "slow": (slow, 20.0)})
        seeds.append(read_seed(seed, path))
    report = FlowReport(tuple(seeds))
    assert [seed.met for seed in seeds] == [True, False, True]
    # Margins: min(1.25, 1.0), min(0.83, 2), min(2.08, 1.25).
    assert report.best.seed == 3 and report.best.margin == pytest.approx(1.25)
    assert report.fmax()["fast"] == {"min": 20.0, "median": 30.0, "max": 50.0, "constraint": 24.0}
    assert report.best.cells == {"LC": (7, 9)}
    assert report.to_dict()["utilisation"] == {"LC": {"used": 7, "available": 9}}


@pytest.mark.parametrize("text", ["", "{", "{}", '{"fmax": {"clk": {}}, "utilization": {}}', '{"fmax": [1]}'])
def test_report_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ReportError, match="seed 4"):
        read_seed(4, tmp_path / "report.json")
    with pytest.raises(ReportError, match="seed 5"):
        read_seed(5, tmp_path / "missing.json")


def test_report_without_clock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="timed no clock"):
        read_seed(1, write_report(tmp_path / "report.json", {}))


def test_excess(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Info: \t ICESTORM_LC:   9312/   5280   176%\nInfo: \t ICESTORM_RAM:    8/   30    26%\nERROR: no\n")
    assert read_excess(log, {"ICESTORM_LC": "logic cells"}) == "9312 logic cells of 5280"
    assert read_excess(log, {}) == "9312 ICESTORM_LC of 5280"
    assert read_excess(tmp_path / "missing", {}) == ""


@pytest.fixture
def bitstream(tmp_path: Path) -> Path:
    path = tmp_path / "icebreaker.bin"
    path.write_bytes(b"\x7e\xaa")
    return path


def test_flash(tmp_path: Path, bitstream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENFPGALOADER", script(tmp_path / "loader", f'echo "$@" > {tmp_path}/arguments'))
    flash_board(load_board("icebreaker"), bitstream)
    assert (tmp_path / "arguments").read_text().split() == ["-b", "ice40_generic", "-f", str(bitstream)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 'unable to open ftdi device: -3 (device not found)' >&2; exit 1", "no iCEBreaker .* found on USB"),
        (
            "echo 'x: error while loading shared libraries: libftdi1.so.2: cannot open' >&2; exit 127",
            r"libftdi1\.so\.2 is missing: install libftdi1 and libusb",
        ),
        ("echo 'verify failed' >&2; exit 4", "openFPGALoader failed with exit code 4: verify failed"),
        ("exit 5", "openFPGALoader failed with exit code 5: no message"),
    ],
)
def test_flash_failures(tmp_path: Path, bitstream: Path, monkeypatch, body: str, message: str) -> None:
    monkeypatch.setenv("OPENFPGALOADER", script(tmp_path / "loader", body))
    with pytest.raises(FlashError, match=message):
        flash_board(load_board("icebreaker"), bitstream)


def test_flash_refuses_other_files(tmp_path: Path, bitstream: Path) -> None:
    with pytest.raises(FlashError, match=r"no bitstream .*missing\.bin"):
        flash_board(load_board("icebreaker"), tmp_path / "missing.bin")
    with pytest.raises(FlashError, match=r"is no bitstream for ULX3S .*, which takes \.bit files"):
        flash_board(load_board("ulx3s_85f"), bitstream)


def test_flash_with_the_real_loader_and_no_board(bitstream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its libraries are there or not, the message says what to do."""
    monkeypatch.delenv("OPENFPGALOADER", raising=False)
    with pytest.raises(FlashError, match=r"found on USB|is missing: install"):
        flash_board(load_board("icebreaker"), bitstream)


def test_paths_between_clocks_have_a_cycle_of_the_slower(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.json", {"clk": (40.0, 30.0), "$glbnet$core.fast_clk": (70.0, 60.0)})
    report = json.loads(path.read_text())
    for ends, delays in ((("clk", "core.fast_clk"), (15.0, 20.0)), (("core.fast_clk", "clk"), (9.0, 1.0))):
        ends = [f"posedge {end}" for end in ends]
        report["critical_paths"] = [
            *report.get("critical_paths", []),
            {"from": ends[0], "to": ends[1], "path": [{"delay": delay} for delay in delays]},
            {"from": ends[0], "to": "<async>", "path": [{"delay": 90.0}]},
            {"from": ends[0], "to": ends[0], "path": [{"delay": 14.0}]},
        ]
    path.write_text(json.dumps(report))
    seed = read_seed(1, path)
    assert {name: (clock.achieved, clock.constraint, clock.met) for name, clock in seed.clocks.items()} == {
        "clk": (40.0, 30.0, True),
        "fast_clk": (70.0, 60.0, True),
        "clk to fast_clk": (pytest.approx(1000 / 35), 30.0, False),
        "fast_clk to clk": (100.0, 30.0, True),
    }
    assert not seed.met


def test_registers_written_in_the_middle_of_a_cycle_have_half_of_it(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.json", {"clk": (40.0, 30.0), "core.fast_clk": (70.0, 60.0)})
    report = json.loads(path.read_text())
    fast, slow = "posedge core.fast_clk", "posedge clk"
    report["detailed_net_timings"] = [
        {"net": f"core.engine.{net}", "driver": f"core.engine.{driver}", "event": event, "endpoints": [
            {"cell": "mac", "event": event, "delay": delay} for event, delay in ends
        ]}
        for event, net, driver, ends in (
            (fast, "store.ladder_data", "ladder_memory_0.lower_mac_DSP", [
                (slow, [5.0, 12.5]), (slow, [4.0, 10.0]), (fast, [30.0, 30.0]),
            ]),
            (fast, "lower", "feed.lower", [(slow, [30.0, 30.0])]),
            (slow, "half_shift.late_1", "store.U$10_LC", [(fast, [6.25, 6.25])]),
        )
    ]  # fmt: skip
    path.write_text(json.dumps(report))
    clocks = read_seed(1, path).clocks
    assert clocks["fast_clk to clk, half a cycle"].achieved == 40.0 and clocks.keys() == {
        "clk", "fast_clk", "fast_clk to clk, half a cycle", "clk to fast_clk, half a cycle",
    }  # fmt: skip
    assert clocks["clk to fast_clk, half a cycle"].achieved == 80.0
