"""`dipole check`: every node of a model with what it becomes, and everything that is not supported, with the reason."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["check"]

_STYLES = {"used": "", "host": "cyan", "unused": "dim", "unsupported": "bold red", "blocked": "yellow"}


def check(model: Annotated[Path, typer.Argument(help="QONNX model (.onnx).")]) -> None:
    """List every node of MODEL with what it becomes; exit code 1 when anything is unsupported."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..compiler.importer import check_model

    report = check_model(model)
    table = Table(title=Text(str(model)), title_justify="left")
    table.add_column("node", overflow="fold")
    table.add_column("op", no_wrap=True)
    table.add_column("becomes / reason", overflow="fold")
    for node in report.nodes:
        mark = {"unsupported": "unsupported: ", "unused": "ignored: "}.get(node.status, "")
        cells = (node.name, node.op, mark + node.becomes)
        table.add_row(*(Text(cell) for cell in cells), style=_STYLES[node.status])
    # A pipe has no width of its own; 80 columns would fold the reasons.
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)
    for problem in report.problems:
        console.print(Text(f"unsupported: {problem}", style="bold red"))
    if report.network is None:
        count, blocked = len(report.all_problems), report.count("blocked")
        behind = f"; {blocked} nodes behind them were not judged" if blocked else ""
        console.print(Text(f"{count} problem{'s' if count != 1 else ''}{behind}: Dipole cannot run this model."))
        raise typer.Exit(1)
    layers = report.network.layers
    console.print(Text(f"{len(report.nodes)} nodes become {len(layers)} layers; nothing is unsupported."))
    for layer in layers:
        shape = "x".join(map(str, layer.weights.shape))
        output = f"{layer.output_format.bits} bit codes" if layer.output_format else "integers"
        bits = f"{layer.input_format.bits} bit activations, {layer.weight_format.bits} bit weights {shape}"
        console.print(Text(f"  {layer.name}: {bits} -> {output}"))
