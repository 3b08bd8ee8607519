"""`dipole presets`: the named configurations and their sizes."""

from typing import Annotated

import typer

__all__ = ["presets"]


def presets(
    name: Annotated[
        str | None, typer.Argument(help="Print this configuration as JSON, to start one of your own.")
    ] = None,
) -> None:
    """List the named configurations with their sizes, or print one as JSON."""
    from ..rtl.presets import PRESETS, load_config

    if name is not None:
        typer.echo(load_config(name).to_json(), nl=False)
        return

    from rich.console import Console
    from rich.table import Table

    table = Table(
        caption="pump: clock of the array by that of the engine. "
        "bMAC/cycle: products of two bits, each with its addition, per cycle of the engine at full use."
    )
    table.add_column("configuration", no_wrap=True)
    for heading in ("rows", "columns", "lanes", "planes", "pump", "hop", "memory KiB", "row buffer", "column buffer",
                    "accumulator", "ladders", "bMAC/cycle"):  # fmt: skip
        table.add_column(heading, justify="right")
    for config in PRESETS.values():
        memory = config.mem_width * config.mem_depth / 8 / 1024
        sizes = (config.rows, config.columns, config.lanes, config.planes, config.pump, config.hop, f"{memory:g}",
                 f"{config.row_depth} words", f"{config.column_depth} words", f"{config.acc_width} bits",
                 config.ladders, config.peak_bmac)  # fmt: skip
        table.add_row(config.name, *map(str, sizes))
    # A pipe has no width of its own; 80 columns would cut the numbers.
    console = Console()
    console.print(table) if console.is_terminal else Console(width=150).print(table)
