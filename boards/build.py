"""Builds a bitstream: configuration and board in, files in a folder out."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..rtl.config import Config
from ..rtl.presets import load_config
from ..rtl.primitives.pll import Pll
from ..rtl.top import Top
from . import load_board
from .board import Board, BoardError, SerialCore, clocks_per_bit
from .flow import FlowError, Progress, read_log, require_tools, run_flow
from .report import FlowReport
from .toolchain import ToolError

__all__ = ["Built", "build_board", "build_core"]


@dataclass(frozen=True)
class Built:
    """A finished build and where its files are."""

    board: Board
    report: FlowReport
    frequency: float
    """Clock of the design, Hz, as the PLL makes it."""
    bitstream: Path
    report_file: Path
    log: Path


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody wants to see."""


def build_board(
    board_name: str,
    *,
    config: Config | str | None = None,
    frequency: float | None = None,
    seeds: int = 3,
    first: bool = False,
    output: Path,
    progress: Progress = _silent,
) -> Built:
    """Build the accelerator of a configuration (default: the board's preset) for a board.

    Parameters
    ----------
    config : Config or str or None
        Configuration, or the name or file of one.
    frequency : float or None
        Clock of the design, Hz; None for the board's default.
    seeds : int
        Place-and-route seeds to try, 1..64.
    first : bool
        Whether the first seed that meets timing is enough.
    output : Path
        Folder for BOARD.bin or BOARD.bit, BOARD.json (report), BOARD.config.json and BOARD.log; each appears whole or
        not at all, and all but BOARD.failed.log only when timing is met.
    """
    board = load_board(board_name)
    chosen = load_config(config or board.config) if not isinstance(config, Config) else config
    wanted = board.frequency_of(chosen.name) if frequency is None else frequency
    platform = board.platform()
    exact = Pll.exact_frequency(platform, board.reference(platform), wanted, double=chosen.pump > 1)
    bit = clocks_per_bit(exact, board.baud)
    require_tools(board)
    core = Top(chosen, clocks_per_bit=bit)
    facts = {"configuration": dataclasses.asdict(chosen), "configuration_hash": f"{chosen.hash32:08x}"}
    built = build_core(
        board.for_preset(chosen.name), core, frequency=wanted, mapping=board.mappings.get(chosen.name, ()),
        seeds=seeds, first=first, output=output, progress=progress, facts=facts,
    )  # fmt: skip
    _write(output / f"{board.name}.config.json", chosen.to_json())
    return built


def build_core(
    board: Board,
    core: SerialCore,
    *,
    frequency: float,
    seeds: int,
    mapping: Sequence[str] = (),
    first: bool = False,
    output: Path,
    progress: Progress = _silent,
    facts: dict[str, Any] | None = None,
) -> Built:
    """Build any design with a UART for a board; `facts` go into the report. See `build_board`."""
    if not 1 <= seeds <= 64:
        raise BoardError(f"seeds is {seeds}, must be in 1..64")
    platform = board.platform()
    exact = Pll.exact_frequency(platform, board.reference(platform), frequency, double=core.pump > 1)
    files = {kind: output / f"{board.name}{kind}" for kind in (Path(board.bitstream).suffix, ".json", ".log")}
    failed = output / f"{board.name}.failed.log"
    with tempfile.TemporaryDirectory(prefix="dipole-build-") as name:
        work = Path(name)
        try:
            report = run_flow(
                board, core, frequency=frequency, seeds=seeds, mapping=mapping, first=first, work=work,
                progress=progress,
            )  # fmt: skip
        except (FlowError, ToolError) as error:
            if not (text := read_log(work)):
                raise
            output.mkdir(parents=True, exist_ok=True)
            _write(failed, text)
            error.args = (f"{error} (log: {failed})",)
            raise
        output.mkdir(parents=True, exist_ok=True)
        data = {
            "board": board.name,
            "device": board.title,
            "frequency_mhz": exact / 1e6,
            "baud": board.baud,
            **(facts or {}),
            **report.to_dict(),
        }
        bitstream, report_file, log = files.values()
        _write(log, read_log(work))
        _write(report_file, json.dumps(data, indent=2) + "\n")
        _write(bitstream, (work / board.bitstream).read_bytes())
        failed.unlink(missing_ok=True)
    return Built(board, report, exact, bitstream, report_file, log)


def _write(target: Path, content: str | bytes) -> None:
    """Write so that `target` appears whole or not at all."""
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(partial, target)
