"""`dipole verify`: integer equality of every stage, from the QONNX file to the RTL."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["print_layers", "verify"]


def print_layers(report) -> None:  # type: ignore[no-untyped-def]
    """The table of layers of a `sim.verify.Report`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    config = report.program.config
    table = Table(title=Text(f"{report.program.name} on {config.name}"), title_justify="left")
    for column, justify in (
        ("layer", "left"), ("input", "right"), ("output", "right"), ("act/weight bits", "right"),
        ("zero padding", "left"), ("cycles", "right"), ("use of array", "right"), ("equal", "left"),
    ):  # fmt: skip
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    wrong = {difference.layer for difference in report.differences}
    for layer in report.layers:
        shapes = ("x".join(map(str, shape)) for shape in (layer.in_shape, layer.out_shape))
        equal = Text("no", style="bold red") if layer.name in wrong else Text("yes")
        table.add_row(Text(layer.name), *shapes, layer.precision, layer.zero_padding, f"{layer.cycles}",
                      f"{100 * layer.use:.1f} %", equal)  # fmt: skip
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    console.print(table)


def verify(
    model: Annotated[Path, typer.Argument(help="QONNX model (.onnx).")],
    config: Annotated[str, typer.Option(help="Preset or configuration file (.json).")] = "test_tiny",
    images: Annotated[int, typer.Option(min=1, help="Images to run.")] = 20,
    rtl: Annotated[int | None, typer.Option(min=0, help="Images to simulate in RTL; default: all of them.")] = None,
    data: Annotated[str | None, typer.Option(help='"digits", "random" or an .npz file with x (and y).')] = None,
    seed: Annotated[int, typer.Option(help="Seed of random images.")] = 0,
    engine: Annotated[str, typer.Option(help='Simulator: "verilator" or "amaranth".')] = "verilator",
    waves: Annotated[Path | None, typer.Option(help="Write waves of the RTL simulation to this VCD file.")] = None,
) -> None:
    """Compare QONNX execution, golden layers, golden machine and RTL, integer for integer and cycle for cycle."""
    from ..compiler.importer import import_network
    from ..rtl.presets import load_config
    from ..sim.images import load_images
    from ..sim.verify import verify as run
    from .progress import stages

    configuration = load_config(config)
    found = load_images(import_network(model), images, data, seed)
    with stages() as progress:
        report = run(model, configuration, found.images, engine=engine, rtl_images=rtl, waves=waves, progress=progress)
    print_layers(report)
    for pair, count in report.compared.items():
        typer.echo(f"{pair}: {count} integers compared")
    for note in report.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{report.timing.cycles} cycles per image; images: {found.source}")
    for difference in report.differences:
        typer.secho(str(difference), fg=typer.colors.RED)
    if report.differences:
        raise typer.Exit(1)
    typer.echo(f"equal: all stages, {len(found)} images")
