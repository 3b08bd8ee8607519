"""`dipole bench`: measurements that stand behind the figures of the documentation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["bench"]

bench = typer.Typer(
    help="Measure the hardware: cells and clock from synthesis, place and route; cycles.", no_args_is_help=True
)

Seeds = Annotated[int, typer.Option(min=1, max=16, help="Place-and-route seeds.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the figures to this JSON file.")]
Document = Annotated[Path | None, typer.Option(help="Replace the section of this command in this Markdown file.")]


def _show(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str, conditions: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(*columns, caption=caption)
    for row in rows:
        table.add_row(*row)
    console.print(table) if console.is_terminal else Console(width=180).print(table)
    for line in conditions:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _write(output: Path | None, data: dict[str, Any]) -> None:
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(data, indent=2) + "\n")
        typer.echo(f"wrote {output}")


@bench.command()
def pe(
    lanes: Annotated[list[int] | None, typer.Option(help="Lanes; may be repeated. Default: 32 and 64.")] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="up5k, hx8k or ecp5_25; may be repeated. Default: all.")
    ] = None,
    seeds: Seeds = 3,
    output: Output = None,
    document: Document = None,
) -> None:
    """Dot product units, ours and others: LUT4 per operation and Fmax."""
    from ..bench.pe import COLUMNS, compare, to_dict, write_section
    from .progress import stages

    with stages() as progress:
        results = compare(lanes or [32, 64], device, seeds=seeds, progress=progress)
    caption = "Routed; worst and median of the seeds. A product of two bits, added: two operations."
    _show(COLUMNS, results.rows(), caption, results.conditions())
    _write(output, to_dict(results))
    if document is not None:
        write_section(results, document)
        typer.echo(f"wrote {document}")


@bench.command()
def array(
    config: Annotated[
        list[str] | None, typer.Option(help="Preset or configuration file (.json); may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="up5k, hx8k or ecp5_25.")] = "up5k",
    seeds: Seeds = 3,
    output: Output = None,
    document: Document = None,
) -> None:
    """Arrays of PEs with their buffers, without control: cells, Fmax, peak binary GOPS."""
    from ..bench.array import COLUMNS, measure_arrays
    from ..rtl.presets import load_config
    from .progress import stages

    configs = [load_config(name) for name in config or ["icebreaker"]]
    with stages() as progress:
        results = measure_arrays(configs, device, seeds=seeds, progress=progress)
    _show(COLUMNS, results.rows(), "Routed; 1 bMAC = 2 operations.", results.conditions())
    _write(output, results.to_dict())
    if document is not None:
        results.write_section(document)
        typer.echo(f"wrote {document}")


@bench.command()
def device(
    builds: Annotated[
        list[str],
        typer.Argument(
            metavar="BOARD[=CONFIG]...",
            help="Boards: hx8k_evn, icebreaker, ulx3s_25f, ulx3s_45f, ulx3s_85f; each with its own configuration, or "
            "with that preset or configuration file (.json).",
        ),
    ],
    frequency: Annotated[
        float | None, typer.Option(min=0.001, help="Constraint in MHz. Default: the board's clock.")
    ] = None,
    seeds: Seeds = 3,
    output: Output = None,
    document: Document = None,
) -> None:
    """The whole accelerator on a board's device: cells used, Fmax of every seed, peak binary GOPS."""
    from ..bench.device import COLUMNS, measure_devices
    from .progress import stages

    with stages() as progress:
        results = measure_devices(builds, frequency=frequency, seeds=seeds, progress=progress)
    _show(COLUMNS, results.rows(), "Routed; 1 bMAC = 2 operations.", results.conditions())
    _write(output, results.to_dict())
    if document is not None:
        results.write_section(document)
        typer.echo(f"wrote {document}")


@bench.command()
def network(
    networks: Annotated[
        list[str] | None,
        typer.Argument(help="conv64, conv3, dense, resnet8 or QONNX files (.onnx). Default: the four names."),
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(help="Preset or configuration file (.json); may be repeated.")
    ] = None,
    frequency: Annotated[
        float | None, typer.Option(min=0.001, help="Clock in MHz. Default: that of the configuration's board.")
    ] = None,
    output: Output = None,
    document: Document = None,
) -> None:
    """Networks on a configuration: exact cycles, use of the array, what binds, frames per second."""
    from ..bench.network import COLUMNS, compare
    from ..bench.workloads import WORKLOADS
    from ..rtl.presets import load_config
    from .progress import stages

    configs = [load_config(name) for name in config or ["icebreaker"]]
    with stages() as progress:
        results = compare(
            networks or list(WORKLOADS),
            configs,
            frequency=None if frequency is None else frequency * 1e6,
            progress=progress,
        )
    _show(COLUMNS, results.rows(), "Exact cycle model; what binds is an estimate.", results.conditions())
    _write(output, results.to_dict())
    if document is not None:
        results.write_section(document)
        typer.echo(f"wrote {document}")


@bench.command()
def regression(
    update: Annotated[bool, typer.Option("--update", help="Write the numbers of now into the table.")] = False,
    table: Annotated[Path, typer.Option(help="The recorded table.")] = Path("tests/bench/regression.json"),
) -> None:
    """Cells of the blocks and cycles of the workloads, against the table that the tests compare with.

    Exit code 1: cells differ by more than 3 %, or cycles at all.
    """
    from ..bench.regression import COLUMNS, load, record, save
    from .progress import stages

    recorded = {} if update and not table.exists() else load(table)
    with stages() as progress:
        differences, now = record(recorded, progress=progress)
    changed = [difference for difference in differences if difference.recorded != difference.now]
    _show(COLUMNS, [difference.row() for difference in changed], f"{len(differences)} numbers, those that changed", [])
    if update:
        save(now, table)
        typer.echo(f"wrote {table}")
    elif wrong := [difference.what for difference in differences if not difference.same]:
        typer.echo(f"{len(wrong)} numbers are not as recorded; if that is meant: dipole bench regression --update")
        raise typer.Exit(1)
