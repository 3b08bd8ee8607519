"""`dipole evaluate`: accuracy of a model through integer arithmetic, and on simulated hardware."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="QONNX model (.onnx).")],
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, breast_cancer, an .npz file or a folder; default: what `dipole train` wrote into the model."
        ),
    ] = None,
    rtl: Annotated[int, typer.Option(min=0, help="Test samples to run on simulated hardware too.")] = 0,
    config: Annotated[str, typer.Option(help="Preset or configuration file (.json) for --rtl.")] = "test_tiny",
    engine: Annotated[str, typer.Option(help='Simulator: "verilator" or "amaranth".')] = "verilator",
) -> None:
    """Accuracy on the test samples through the integer golden model; with --rtl N also through simulated hardware."""
    from ..rtl.presets import load_config
    from ..train.evaluate import evaluate as run
    from .progress import stages

    configuration = load_config(config)
    with stages() as progress:
        result = run(model, data, rtl=rtl, config=configuration, engine=engine, progress=progress)
    typer.echo(
        f"golden model: {100 * result.accuracy:.2f} % of {result.samples} test samples of {result.data} "
        f"({result.correct} right)"
    )
    if result.rtl_samples:
        share = 100 * result.rtl_correct / result.rtl_samples
        typer.echo(
            f"simulated hardware ({configuration.name}): {share:.2f} % of the first {result.rtl_samples}, "
            f"{result.cycles} cycles per sample"
        )
        if result.rtl_differences:
            typer.secho(f"{result.rtl_differences} samples differ from the golden model", fg=typer.colors.RED)
            raise typer.Exit(1)
        typer.echo("equal: all integer scores")
