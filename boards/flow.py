"""Synthesis, then place and route with several seeds side by side, then packing the best: Yosys and nextpnr.

Amaranth's platform prepares the files and the commands; they run here, because the platform itself runs each once.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event

from ..golden.errors import DipoleError
from .board import Board, BoardTop, SerialCore
from .carry_feeds import fill_carry_feeds
from .carry_starts import join_carry_starts
from .floorplan import place_array
from .mapping import mapping_script
from .netlist import add_settings, open_carry_ends, share_modules
from .report import FlowReport, SeedResult, read_excess, read_seed, read_stuck
from .toolchain import ToolError, find_tool, run_tool

__all__ = ["FlowError", "Progress", "TimingError", "flow_options", "read_log", "require_tools", "run_flow"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, steps done, steps in all."""

# Memory promises the old word when a location is read and written in one cycle, which costs 27 LUTs and 42 flip-flops
# per memory. The memories of the design assert in simulation that this never happens, so synthesis need not care.
# What is read by the clock of `fast`, which is not that of writing, has no such logic.
_NO_COLLISION_LOGIC = r"setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 w:*fast_clk %co1:+$memrd_v2[CLK] %d"


class FlowError(DipoleError):
    """The design cannot be put on the device; the message says by how much it is too large where that is the reason."""


class TimingError(FlowError):
    """No seed reaches the wanted frequency; the message names clock, frequency reached and constraint."""

    def __init__(self, message: str, report: FlowReport):
        super().__init__(message)
        self.report = report


def flow_options(board: Board, mapping: Sequence[str]) -> dict[str, str]:
    """Options for the platform's flow: the board's and our own."""
    options = dict(board.overrides)
    options["nextpnr_opts"] = f"{options.get('nextpnr_opts', '')} --report report.json --timing-allow-fail".lstrip()
    options["script_after_read"] = "\n".join((_NO_COLLISION_LOGIC, mapping_script(mapping)))
    if board.by_block:
        options["synth_opts"] = f"{options.get('synth_opts', '')} -noflatten"
        options["script_after_synth"] = "flatten; opt_clean -purge"
    return options


def require_tools(board: Board) -> list[str]:
    """Names of the three tools of the board's flow; ToolError when one is missing."""
    tools = list(board.platform().required_tools)[:3]  # behind them some platforms list their programmer
    for tool in tools:
        find_tool(tool)
    return tools


def run_flow(
    board: Board,
    core: SerialCore,
    *,
    frequency: float,
    seeds: int,
    work: Path,
    progress: Progress,
    mapping: Sequence[str] = (),
    first: bool = False,
    jobs: int | None = None,
) -> FlowReport:
    """Build `core` on `board` at `frequency` (Hz) in the empty folder `work` with seeds 1..`seeds`.

    `mapping` are commands of ABC in place of Yosys' own. With `first` the first seed that meets timing ends the others,
    which the report leaves out.

    Leaves the packed bitstream of the best seed as `work / board.bitstream`; `read_log` collects what the tools said.
    Raises TimingError when no seed meets timing, FlowError when the design does not fit, ToolError for missing tools.
    """
    platform = board.platform()
    tools = require_tools(board)

    steps = seeds + 3
    progress("elaborate", 0, steps)
    top = BoardTop(board, core, frequency=frequency)
    plan = platform.prepare(
        top,
        "top",
        emit_src=False,
        **flow_options(board, mapping),
    )
    for name, content in plan.files.items():
        text = content.decode() if isinstance(content, bytes) else content
        (work / name).write_text(share_modules(text) if board.by_block and name == "top.il" else text)
    synthesize, place, pack = (command[1:] for command in json.loads(plan.files["build_top.json"])["commands"])

    progress("synthesize", 1, steps)
    run_tool(tools[0], synthesize, directory=work, log=work / "yosys.out")
    if not (work / "top.json").exists():
        raise ToolError("yosys ended well but wrote no netlist")
    netlist = fill_carry_feeds(join_carry_starts(open_carry_ends((work / "top.json").read_text())))
    (work / "top.json").write_text(add_settings(place_array(netlist, board.fabric), board.settings))

    enough = Event()

    def one_seed(seed: int, placers: Sequence[str]) -> SeedResult | None:
        """None where it is not needed any more."""
        if enough.is_set():
            return None
        placer, *others = placers
        folder = work / f"seed{seed}-{placer}"
        folder.mkdir()
        placed = folder / "top.tim"
        for path in (work / "top.json", *work.glob("top.[pl][cp]f")):
            shutil.copy(path, folder)
        try:
            run_tool(
                tools[1],
                [*place, "--seed", str(seed), "--placer", placer],
                directory=folder,
                log=folder / "nextpnr.out",
                # The static placer tries for ever to place what does not fit.
                stuck=lambda: (
                    "another seed meets timing" if enough.is_set()
                    else read_excess(placed, board.cells) or read_stuck(placed)
                ),
            )  # fmt: skip
        except ToolError as error:
            if enough.is_set():
                return None
            if excess := read_excess(placed, board.cells):
                raise FlowError(f"the design does not fit {board.title}: {excess}") from error
            failure = read_stuck(placed)  # stopped by us, or given up
            if failure is None:
                raise FlowError(str(error)) from error
            return one_seed(seed, others) if others else SeedResult(seed, {}, {}, placer, failure=failure)
        return read_seed(seed, folder / "report.json", placer)

    progress("place and route", 2, steps)
    # The first start of a WebAssembly tool compiles it into a cache, which several at once would write together.
    run_tool(tools[1], ["--version"], directory=work, log=work / "version.out")
    results: list[SeedResult] = []
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        futures = [pool.submit(one_seed, seed, board.placers) for seed in range(1, seeds + 1)]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                if result := future.result():
                    results.append(result)
                    if first and result.met:
                        enough.set()
                progress("place and route", 2 + done, steps)
        except FlowError:
            pool.shutdown(cancel_futures=True)
            raise
    report = FlowReport(tuple(sorted(results, key=lambda result: result.seed)))
    if report.best.failure:
        raise FlowError(
            f"no seed routes on {board.title}: {report.best.failure}; use a lower --frequency, a smaller configuration "
            "or more --seeds"
        )
    if not report.best.met:
        raise TimingError(_missed(board, report), report)

    progress("pack", steps - 1, steps)
    best = work / f"seed{report.best.seed}-{report.best.placer}"
    run_tool(tools[2], pack, directory=best, log=best / "pack.out")
    shutil.copy(best / board.bitstream, work / board.bitstream)
    progress("done", steps, steps)
    return report


def read_log(work: Path) -> str:
    """Everything that the tools wrote in a flow's folder, also in one that failed; "" when none was started."""
    logs = [
        work / "yosys.out",
        work / "top.rpt",
        *sorted(work.glob("seed*/nextpnr.out")),
        *sorted(work.glob("seed*/top.tim")),
    ]
    return "".join(f"==== {log.relative_to(work)}\n{log.read_text(errors='replace')}" for log in logs if log.exists())


def _missed(board: Board, report: FlowReport) -> str:
    reasons = [
        f"clock {clock} reaches {fmax['max']:.1f} MHz at best over {len(report.seeds)} seeds, must reach "
        f"{fmax['constraint']:.1f} MHz"
        for clock, fmax in report.fmax().items()
        if fmax["max"] < fmax["constraint"]
    ] or ["no single seed meets the constraints of all clocks"]
    return f"timing missed on {board.title}: {'; '.join(reasons)}; use a lower --frequency or more --seeds"
