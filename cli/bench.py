"""`dipole bench`: measurements that stand behind the figures of the documentation."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["bench"]

bench = typer.Typer(help="Measure the hardware: cells and clock from synthesis, place and route.", no_args_is_help=True)


@bench.callback()
def _group() -> None:
    """Keeps the name of the measurement on the command line while there is only one."""


@bench.command()
def pe(
    lanes: Annotated[list[int] | None, typer.Option(help="Lanes; may be repeated. Default: 32 and 64.")] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="up5k, hx8k or ecp5_25; may be repeated. Default: all.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=16, help="Place-and-route seeds.")] = 3,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the figures to this JSON file.")] = None,
    document: Annotated[Path | None, typer.Option(help="Replace the section `bench pe` of this Markdown file.")] = None,
) -> None:
    """Dot product units, ours and others: LUT4 per operation and Fmax."""
    from rich.console import Console
    from rich.table import Table

    from ..bench.pe import COLUMNS, compare, to_json, write_section
    from .progress import stages

    with stages() as progress:
        results = compare(lanes or [32, 64], device, seeds=seeds, progress=progress)
    console = Console()
    table = Table(
        *COLUMNS, caption="Routed; worst and median of the seeds. A product of two bits, added: two operations."
    )
    for row in results.rows():
        table.add_row(*row)
    console.print(table) if console.is_terminal else Console(width=140).print(table)
    for line in results.conditions():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(to_json(results))
        console.print(f"wrote {output}", soft_wrap=True)
    if document is not None:
        write_section(results, document)
        console.print(f"wrote {document}", soft_wrap=True)
