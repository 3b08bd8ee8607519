"""`dipole verilog`: the accelerator as Verilog for an ASIC flow."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["verilog"]


def verilog(
    config: Annotated[str, typer.Option(help="Preset or configuration file (.json).")] = "asic_small",
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write.")] = Path("out/verilog"),
    program: Annotated[
        Path | None, typer.Option(help="Program file (.dipole): writes a test bench that runs it.")
    ] = None,
    period: Annotated[float, typer.Option(min=0.1, help="Clock period of the constraints, ns.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the test bench's random image.")] = 0,
) -> None:
    """Write Verilog-2005 of an accelerator with constraints, lint waivers and, for a program, a test bench."""
    from ..rtl.delivery import delivery
    from ..rtl.export import convert
    from ..rtl.presets import load_config
    from ..rtl.top import Top
    from .testbench import program_testbench
    from .write_files import write_files

    configuration = load_config(config)
    files: dict[str, str] = {}
    if program is not None:
        files |= program_testbench(program, configuration, seed)
    exported = convert(Top(configuration), name="dipole")
    files |= delivery(configuration, exported, period=period)
    write_files(output, files)
    typer.echo(f"{output}: {len(exported.modules)} modules, {len(exported.text)} bytes of Verilog")
    for name, text in files.items():
        typer.echo(f"  {name}: {len(text.splitlines())} lines")
