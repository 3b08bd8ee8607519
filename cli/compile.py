"""`dipole compile`: a network to a program file for one configuration."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["compile_"]


def compile_(
    model: Annotated[Path, typer.Argument(help="QONNX model (.onnx).")],
    config: Annotated[str, typer.Option(help="Preset or configuration file (.json).")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Program file; default: MODEL.dipole.")] = None,
) -> None:
    """Compile MODEL for a configuration, with every proof, and write the program file."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from ..compiler.importer import import_network
    from ..compiler.mapping import compile_network
    from ..compiler.transfer import layer_report
    from ..golden.timing import simulate_cycles
    from ..rtl.presets import load_config

    configuration = load_config(config)
    program = compile_network(import_network(model), configuration)
    timing = simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, configuration)
    rows = layer_report(program)
    ends = program.layer_ends(timing.markers)
    for row, end, start in zip(rows, ends, [0, *ends], strict=False):
        row["estimate_layer_cycles"] = end - start
    table = Table(title=f"{program.name} on {configuration.name}", title_justify="left")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)
    path = output or model.with_suffix(".dipole")
    program.save(path)
    typer.echo(f"{path}: {len(program.image)} bytes of memory image, {timing.cycles} cycles per image")
