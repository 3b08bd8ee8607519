"""`dipole train`: train networks with {-1,+1} weights, or measure the table of docs/accuracy.md."""

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["train"]


def train(
    name: Annotated[
        str,
        typer.Argument(help="digits-cnn, digits-mlp, breast-cancer-mlp; cnn or mlp with --data; or table."),
    ],
    weights: Annotated[
        str | None, typer.Option(help="Weight bits 1..8: one number, one per layer as 8,2,2, or float. Default 2.")
    ] = None,
    activations: Annotated[
        str | None, typer.Option(help="Activation bits 1..8: one number, one per hidden layer, or float. Default 2.")
    ] = None,
    activation_kind: Annotated[
        str, typer.Option(help="unsigned (HReLU), odd (HTanh on {-1,+1} planes) or odd-relu (HReLU on odd codes).")
    ] = "unsigned",
    input_bits: Annotated[int, typer.Option(help="Bits of the input quantizer, 1..8.")] = 8,
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, breast_cancer, an .npz file, or a folder: images per class, MNIST, CIFAR-10, Speech Commands."
        ),
    ] = None,
    hidden: Annotated[str | None, typer.Option(help="Sizes of the hidden layers, as 16,32.")] = None,
    cascade: Annotated[str | None, typer.Option(help="A family of networks, each from the one before: 8..1.")] = None,
    rescale: Annotated[bool, typer.Option(help="Rescale the weights at each step of the cascade.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and order of samples.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="table: seeds 0.. to measure.")] = 3,
    cycles: Annotated[bool, typer.Option("--cycles", help="table: only the cycles, as hardware changes.")] = False,
    epochs: Annotated[int, typer.Option(help="Epochs of each network.")] = 40,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 0.03,
    batch: Annotated[int, typer.Option(help="Samples per step.")] = 64,
    validation: Annotated[float, typer.Option(help="Share of the training samples that early stop watches.")] = 0.0,
    patience: Annotated[int, typer.Option(help="Stop after so many epochs without a better loss; 0: never.")] = 0,
    smoothing: Annotated[float, typer.Option(help="Label smoothing, 0 (off) and up, below 1.")] = 0.1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside the output.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write (.onnx); --cascade, table: a folder. Default: out/train."),
    ] = None,
) -> None:
    """Train a network for {-1,+1} planes and write it as QONNX, a checkpoint beside it; or measure the table."""
    from ..train.errors import need_torch

    need_torch()
    from ..train.fit import Options
    from ..train.precision import Precision, parse_bits, parse_cascade
    from ..train.recipe import Request
    from ..train.recipe import train as run
    from .progress import stages

    options = Options(seed, epochs, rate, batch, validation, patience, smoothing)
    if name == "table":
        _table(options, seeds, output, cycles)
        return
    lowest = "1" if cascade else "2"
    request = Request(
        name=name,
        precision=Precision(
            parse_bits(weights or lowest, "--weights"),
            parse_bits(activations or ("2" if cascade and activation_kind == "odd-relu" else lowest), "--activations"),
            activation_kind,  # type: ignore[arg-type]
            input_bits,
        ),
        options=options,
        data=data,
        hidden=_sizes(hidden),
        levels=tuple(parse_cascade(cascade)) if cascade else (),
        rescaled=rescale,
        output=output,
        resume=resume,
        command=_command(locals()),
    )
    with stages() as progress:
        for result in run(request, progress):
            _report(result)


def _sizes(text: str | None) -> tuple[int, ...] | None:
    from ..train.errors import TrainError

    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise TrainError(f"--hidden: {text!r} is no list of sizes; give it as 16,32") from None


def _command(arguments: dict[str, Any]) -> str:
    """The command that makes this network again, with the options that differ from their defaults."""
    import inspect

    parts = [f"dipole train {arguments['name']}"]
    for key, parameter in inspect.signature(train).parameters.items():
        value = arguments[key]
        if key in ("name", "output", "resume", "seeds", "cycles") or (value == parameter.default and key != "seed"):
            continue
        option = f"--{key.replace('_', '-')}"
        parts.append(f"--no-{key}" if value is False else option if value is True else f"{option} {value}")
    return " ".join(parts)


def _report(result: Any) -> None:
    label = result.network.spec.precision.label
    early = ", stopped early" if result.outcome.stopped_early else ""
    typer.echo(
        f"{label}: {100 * result.test_accuracy:.2f} % of {result.test_samples} test samples, "
        f"{100 * result.train_accuracy:.2f} % of the training samples, {result.outcome.epochs} epochs{early}"
    )
    if result.model is None:
        typer.echo(f"wrote {result.checkpoint} (full precision: no QONNX file)")
        return
    typer.echo(
        f"wrote {result.model}: integer golden model {100 * result.golden_accuracy:.2f} %, same class as PyTorch on "
        f"{result.agree} of {result.test_samples}; checkpoint {result.checkpoint}"
    )


def _table(options: Any, seeds: int, output: Path | None, cycles_only: bool) -> None:
    from ..train.table import make_table
    from .progress import stages

    folder = output or Path("docs")
    with stages() as progress:
        text = make_table(folder, options, seeds, progress, cycles_only=cycles_only)
    typer.echo(text, nl=False)
    typer.echo(f"wrote {folder / 'accuracy.md'} and {folder / 'accuracy.png'}")
