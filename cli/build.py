"""`dipole build`: a bitstream for a board."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["build"]


def build(
    board: Annotated[str, typer.Argument(help="Board: hx8k_evn, icebreaker, ulx3s_25f, ulx3s_45f or ulx3s_85f.")],
    config: Annotated[
        str | None, typer.Option(help="Configuration: a preset or a JSON file. Default: the board's.")
    ] = None,
    frequency: Annotated[float | None, typer.Option(help="Clock in MHz. Default: the board's.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=64, help="Place-and-route seeds to try.")] = 3,
    first: Annotated[bool, typer.Option("--first", help="Stop at the first seed that meets timing.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the files. Default: out/BOARD.")
    ] = None,
) -> None:
    """Build the accelerator for a board: bitstream, use of the device, and Fmax over several seeds."""
    from rich.console import Console
    from rich.table import Table

    from ..boards.build import build_board
    from .progress import stages

    console = Console()
    with stages() as progress:
        built = build_board(
            board,
            config=config,
            frequency=None if frequency is None else frequency * 1e6,
            seeds=seeds,
            first=first,
            output=output or Path("out") / board,
            progress=progress,
        )
    report = built.report

    tried = "1 seed" if len(report.seeds) == 1 else f"{len(report.seeds)} seeds"
    console.print(f"{built.board.title} at {built.frequency / 1e6:g} MHz, best of {tried}")
    for seed in report.seeds:
        if seed.failure:
            console.print(f"seed {seed.seed} does not route: {seed.failure}", soft_wrap=True)
    timing = Table("clock", "constraint MHz", "min MHz", "median MHz", "max MHz")
    for clock, fmax in report.fmax().items():
        timing.add_row(clock, *(f"{fmax[key]:.1f}" for key in ("constraint", "min", "median", "max")))
    console.print(timing)
    use = Table("resource", "used", "available", "%")
    for cell, name in built.board.cells.items():
        used, available = report.best.cells.get(cell, (0, 0))
        if used:
            use.add_row(name, str(used), str(available), f"{100 * used / available:.0f}")
    console.print(use)
    for path in (built.bitstream, built.report_file, built.log):
        console.print(f"wrote {path}", soft_wrap=True)
