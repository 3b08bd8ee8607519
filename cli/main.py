"""The `dipole` command: registers the verbs and turns exceptions into exit codes.

Exit codes: 0 done; 1 the verb's answer is no (results differ, timing missed); 2 wrong usage, data or surroundings
(every `DipoleError`, every operating system error with a file name); 70 a fault of Dipole itself; 130 interrupted.
Verbs are plain functions, one file each. They import what is heavy inside the function, so that `dipole --help` stays
quick.
"""

import sys
import warnings
from typing import Annotated

import typer

from ..golden.errors import DipoleError
from .bench import bench
from .build import build
from .check import check
from .compile import compile_
from .demo import demo
from .evaluate import evaluate
from .flash import flash
from .presets import presets
from .train import train
from .verify import verify
from .verilog import verilog

__all__ = ["app", "main"]

app = typer.Typer(
    name="dipole",
    help="Quantized neural networks as {-1,+1} bit planes: from a QONNX file to exact systolic hardware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order of use.
app.command()(train)
app.command()(check)
app.command("compile")(compile_)
app.command()(verify)
app.command()(evaluate)
app.command()(verilog)
app.command()(build)
app.command()(demo)
app.command()(flash)
app.command()(presets)
app.add_typer(bench, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dipole {version('dipole')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="On an error print the whole traceback.")] = False,
) -> None:
    """The options before the verb; `main` reads --debug itself, so it may also stand behind the verb."""


def _fail(message: str, code: int) -> None:
    """One red line on stderr, then exit."""
    typer.secho(" ".join(f"error: {message}".split()), err=True, fg=typer.colors.RED)
    sys.exit(code)


def main(arguments: list[str] | None = None) -> None:
    """Run the command with these arguments (default: those of the process) and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    # A build that is refused half way leaves parts that Amaranth did not get to see; that is not news for users.
    warnings.filterwarnings("ignore", message=".*created but never used")
    try:
        app(args=[argument for argument in arguments if argument != "--debug"], prog_name="dipole")
    except Exception as error:
        if debug:
            raise
        match error:
            case DipoleError():
                _fail(str(error), 2)
            case OSError(filename=name) if name is not None:
                _fail(f"{name}: {error.strerror}", 2)
            case _:
                _fail(
                    f"internal error, {type(error).__name__}: {error} "
                    "(please report it, with what the same command prints with --debug)",
                    70,
                )


if __name__ == "__main__":
    main()
