# pyright: reportMissingImports=false
"""What `dipole train` does: data, network, training, export and check of one network or of a whole cascade."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..compiler.importer import import_network
from .cascade import cascade
from .data import Data, open_data
from .errors import TrainError
from .evaluate import golden_scores
from .export import export_qonnx
from .fit import Options, Outcome, Progress, accuracy, fit, predict
from .networks import QuantNetwork, build
from .precision import Precision
from .spec import ARCHITECTURES, NAMED, Architecture, NetworkSpec, make_spec

__all__ = ["Request", "Result", "train"]


@dataclass(frozen=True)
class Request:
    """What to train and where to put it."""

    name: str
    """A network of `spec.NAMED`, or cnn or mlp together with `data`."""
    precision: Precision = field(default_factory=Precision)
    options: Options = field(default_factory=Options)
    data: str | None = None
    hidden: tuple[int, ...] | None = None
    levels: tuple[int, ...] = ()
    """Bits of a cascade, from the highest down; empty: one network, from random weights."""
    rescaled: bool = True
    output: Path | None = None
    """File, or with `levels` folder. Default: out/train/ and a name of its own."""
    resume: bool = False
    command: str = ""
    """Written into the file, for people."""

    @property
    def architecture(self) -> Architecture:
        if self.name in NAMED:
            return NAMED[self.name][0]
        for architecture in ARCHITECTURES:
            if self.name == architecture:
                return architecture
        raise TrainError(f"network {self.name!r} is unknown; there are {', '.join([*NAMED, *ARCHITECTURES])}")

    @property
    def stem(self) -> str:
        """Beginning of file names."""
        return self.name.replace("-", "_")

    def open_data(self) -> Data:
        if self.data is not None:
            return open_data(self.data)
        if self.name not in NAMED:
            raise TrainError(f"network {self.name!r} needs --data: a name, an .npz file or a folder")
        return open_data(NAMED[self.name][1])


@dataclass(frozen=True, eq=False)
class Result:
    """One trained network."""

    network: QuantNetwork
    outcome: Outcome
    train_accuracy: float
    test_accuracy: float
    test_samples: int
    checkpoint: Path
    model: Path | None
    """QONNX file; None in full precision."""
    golden_accuracy: float | None
    """Of the file, through the integer golden model."""
    agree: int | None
    """Test samples with the same class from PyTorch and the golden model."""


def _finish(request: Request, data: Data, network: QuantNetwork, outcome: Outcome, stem: Path) -> Result:
    scores = predict(network, data.x_test)
    model = golden = agree = None
    if network.spec.precision.quantized:
        model = stem.with_name(stem.name + ".onnx")
        metadata = {"dipole.data": request.data or NAMED[request.name][1], "dipole.command": request.command}
        export_qonnx(network, model, metadata)
        classes = golden_scores(import_network(model), data.x_test, data.name).argmax(axis=1)
        golden = float((classes == data.y_test).mean())
        agree = int((classes == scores.argmax(axis=1)).sum())
    return Result(
        network=network,
        outcome=outcome,
        train_accuracy=accuracy(network, data.x, data.y),
        test_accuracy=float((scores.argmax(axis=1) == data.y_test).mean()),
        test_samples=len(data.y_test),
        checkpoint=stem.with_name(stem.name + ".ckpt"),
        model=model,
        golden_accuracy=golden,
        agree=agree,
    )


def train(request: Request, progress: Progress | None = None) -> Iterator[Result]:
    """Train; yields each network when its files are written."""
    architecture = request.architecture
    data = request.open_data()
    spec = make_spec(architecture, data.shape, len(data.classes), request.precision, request.hidden)
    # Small tensors: more threads only get into each other's way.
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if int(np.prod(data.shape)) <= 1024 else threads)
    try:
        yield from _train(request, data, spec, progress)
    finally:
        torch.set_num_threads(threads)


def _train(request: Request, data: Data, spec: NetworkSpec, progress: Progress | None) -> Iterator[Result]:
    kind = spec.precision.kind
    if request.levels:
        folder = request.output or Path("out") / "train"
        members = cascade(
            spec, data, request.options, list(request.levels), rescaled=request.rescaled, checkpoints=folder,
            name=request.stem, resume=request.resume, progress=progress,
        )  # fmt: skip
        for network, outcome in members:
            stem = folder / f"{request.stem}_{network.spec.precision.label}_{kind}"
            yield _finish(request, data, network, outcome, stem)
        return
    output = request.output or Path("out") / "train" / f"{request.stem}_{spec.precision.label}_{kind}.onnx"
    stem = output.with_suffix("") if output.suffix == ".onnx" else output
    network = build(spec, request.options.seed)
    checkpoint = stem.with_name(stem.name + ".ckpt")
    again = request.resume and checkpoint.is_file()
    outcome = fit(network, data, request.options, checkpoint=checkpoint, resume=again, progress=progress)
    yield _finish(request, data, network, outcome, stem)
