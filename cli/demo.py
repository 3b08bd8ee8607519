"""`dipole demo`: the main job on real images, from the network files to pictures, Verilog and a bitstream."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]

_MODELS = ("digits_cnn_w2a2_unsigned.onnx", "digits_w4a4.onnx")
_BOARD = "icebreaker"


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the files.")] = Path("out/demo"),
    models: Annotated[Path, typer.Option(help="Folder with the digits networks of the repository.")] = Path("models"),
    rtl: Annotated[int, typer.Option(min=1, max=540, help="Images to simulate in RTL per network.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, max=64, help="Place-and-route seeds to try for the bitstream.")] = 3,
    bitstream: Annotated[bool, typer.Option(help="Build the iCEBreaker bitstream.")] = True,
) -> None:
    """Classify the digits test images on simulated hardware, then write Verilog and the iCEBreaker bitstream."""
    from ..golden.errors import DipoleError
    from ..rtl.presets import PRESETS
    from ..sim.demo import draw, run_digits
    from .build import build
    from .progress import stages
    from .verify import print_layers
    from .verilog import verilog

    config = PRESETS[_BOARD]
    missing = [name for name in _MODELS if not (models / name).is_file()]
    if missing:
        raise DipoleError(
            f"{models / missing[0]}: not there; run the demo in a clone of the repository, or give --models"
        )
    output.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    equal = True
    for name in _MODELS:
        typer.echo(f"== {name}: 540 test images, {rtl} of them in RTL simulation ({config.name})")
        with stages() as progress:
            result = run_digits(models / name, config, rtl=rtl, progress=progress)
        print_layers(result.report)
        for note in result.report.notes:
            typer.echo(f"note: {note}")
        for difference in result.report.differences:
            typer.secho(str(difference), fg=typer.colors.RED)
        equal = equal and result.report.equal
        typer.echo(
            f"accuracy {100 * result.accuracy:.2f} % of {len(result.labels)} images "
            f"({int(result.errors)} wrong); {result.report.timing.cycles} cycles per image"
        )
        picture = output / f"{name.removesuffix('.onnx')}.png"
        draw(result, picture)
        written.append(picture)
    typer.echo("== Verilog for ASIC flows (asic_small)")
    verilog(config="asic_small", output=output / "verilog", program=None)
    written.append(output / "verilog")
    if bitstream:
        typer.echo(f"== bitstream for {_BOARD}")
        build(_BOARD, config=None, frequency=None, seeds=seeds, first=True, output=output / _BOARD)
        written.append(output / _BOARD)
    typer.echo("== written")
    for path in written:
        typer.echo(f"  {path}")
    if not equal:
        raise typer.Exit(1)
