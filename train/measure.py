# pyright: reportMissingImports=false
"""Measurements behind docs/accuracy.md: trains one network per case and seed and keeps every result in a JSON file.

An accuracy that is in the file already is not measured again, so an interrupted run goes on; a file made with other
options is started anew. Cycles are computed again every time, as compiler and hardware change, from the networks of
seed 0: those in models/, or kept in out/train/table, or else trained again.
"""

import json
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch

from ..compiler.importer import import_network
from ..golden.errors import DipoleError
from ..rtl.presets import load_config
from .cascade import cascade
from .checkpoint import write_whole
from .data import Data, open_data
from .evaluate import cycles_per_image
from .export import export_qonnx
from .fit import Options, Progress, accuracy, fit
from .networks import build
from .precision import KINDS, ActivationKind, Bits, Precision
from .spec import NAMED, NetworkSpec, make_spec

__all__ = [
    "CASCADE_EPOCHS",
    "CASCADE_LEVELS",
    "CASCADE_NETWORK",
    "CASCADE_ROWS",
    "CONFIGS",
    "NETWORKS",
    "PAIRS",
    "Case",
    "Measurements",
    "cases",
    "measure",
    "work",
]

NETWORKS = ("digits-cnn", "digits-mlp")
PAIRS: tuple[tuple[Bits, Bits], ...] = ((None, None), (8, 8), (4, 4), (2, 4), (2, 2), (1, 2), (1, 1))
"""Weight bits, activation bits."""
CONFIGS = ("icebreaker", "ulx3s_85f")
CASCADE_LEVELS = (8, 7, 6, 5, 4, 3, 2, 1)
CASCADE_NETWORK = "digits-mlp"
CASCADE_EPOCHS = 2
"""Epochs of each network of the cascade: few, as with many all networks learn all there is to learn."""
CASCADE_ROWS = ("cascade", "cascade without rescaling", "scratch, same epochs", "scratch, all epochs")


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    network: str
    kind: ActivationKind
    weights: Bits
    activations: Bits
    input_bits: int = Precision().input_bits

    @property
    def key(self) -> str:
        of_input = f" input {self.input_bits}" if self.input_bits != Precision().input_bits else ""
        return f"{self.network} {self.kind} w{self.weights or 'float'} a{self.activations or 'float'}{of_input}"

    def spec(self, data: Data) -> NetworkSpec:
        precision = Precision((self.weights,), (self.activations,), self.kind, self.input_bits)
        return make_spec(NAMED[self.network][0], data.shape, len(data.classes), precision)


def cases() -> list[Case]:
    """All lines, for each activation full precision first, and 1-bit networks on a 1-bit input.

    Clipping at full precision is the same for both kinds of HReLU.
    """
    made: list[Case] = []
    for network in NETWORKS:
        for kind in KINDS:
            made += [Case(network, kind, weights, activations) for weights, activations in PAIRS]
        made.append(Case(network, "unsigned", 1, 1, input_bits=1))
    return [c for c in made if c.kind != "odd-relu" or (c.activations is not None and c.activations > 1)]


def work(spec: NetworkSpec) -> tuple[int, int]:
    """Weight memory in bits, and plane-pair products (one XNOR each) per sample, of a quantized network.

    The constant top plane of HReLU on odd codes is not multiplied. Validity planes of zero padding are not counted.
    """
    precision = spec.precision.spread(spec.layers)
    size: tuple[int, ...] = spec.input_shape
    bits_in: Bits = precision.input_bits
    memory = products = 0
    for index in range(spec.layers):
        width = spec.hidden[index] if index < len(spec.hidden) else spec.classes
        bits = precision.weights[index]
        assert bits is not None and bits_in is not None
        if spec.architecture == "cnn" and len(size) == 3 and index < len(spec.hidden):
            weights, positions = width * size[0] * 9, size[1] * size[2]
            shrink = 2 if spec.pools[index] else 1
            size = (width, size[1] // shrink, size[2] // shrink)
        else:
            weights, positions = width * prod(size), 1
            size = (width,)
        memory += weights * bits
        products += weights * positions * bits * bits_in
        if index < len(spec.hidden):
            bits_in = precision.activations[index]
            if bits_in is not None and precision.kind == "odd-relu":
                bits_in -= 1
    return memory, products


class Measurements:
    """The JSON file: {"options", "accuracy": {case: {seed: share}}, "cycles": {case: {config: n}}, "cascade": ...}."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        asked = {key: value for key, value in asdict(options).items() if key != "seed"}
        empty = {"options": asked, "torch": torch.__version__, "accuracy": {}, "cycles": {}, "cascade": {}}
        try:
            found = json.loads(path.read_text()) if path.is_file() else empty
        except ValueError:
            found = empty
        self.content: dict[str, Any] = found if found.get("options") == asked else empty

    def table(self, part: str, key: str) -> dict[str, Any]:
        return self.content[part].setdefault(key, {})

    def save(self) -> None:
        write_whole(self.path, (json.dumps(self.content, indent=1, sort_keys=True) + "\n").encode())


def _kept(case: Case) -> Path:
    """Where the network of seed 0 is kept, relative to the working directory."""
    return Path("out") / "train" / "table" / f"{case.key.replace(' ', '_')}.onnx"


def _network_file(case: Case, data: Data, options: Options) -> Path:
    """The network of seed 0 as a file: the one that ships, the one kept, or one trained now."""
    shipped = Path("models") / f"{case.network.replace('-', '_')}_w{case.weights}a{case.activations}_{case.kind}.onnx"
    for path in (shipped, _kept(case)):
        if path.is_file() and (path != shipped or case.input_bits == Precision().input_bits):
            return path
    network = build(case.spec(data), 0)
    fit(network, data, replace(options, seed=0))
    export_qonnx(network, _kept(case))
    return _kept(case)


def _cycles(model: Path) -> dict[str, int | str]:
    """Cycles on each preset, or why the network does not run there."""
    imported = import_network(model)
    cycles: dict[str, int | str] = {}
    for name in CONFIGS:
        try:
            cycles[name] = cycles_per_image(imported, load_config(name))
        except DipoleError as error:
            cycles[name] = str(error)
    return cycles


def measure(
    path: Path, options: Options, seeds: int, progress: Progress | None = None, *, cycles_only: bool = False
) -> Measurements:
    """Measure what the file does not have yet, for seeds 0 .. seeds-1, seed by seed; `cycles_only`: no accuracies."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the layers are too small to share
    try:
        found, data = Measurements(path, options), open_data("digits")
        if not cycles_only:
            _measure_accuracies(found, options, seeds, data, progress)
            for seed in range(seeds):
                _measure_cascade(found, options, seed, data, progress)
        _measure_cycles(found, options, data, progress)
        return found
    finally:
        torch.set_num_threads(threads)


def _measure_accuracies(
    found: Measurements, options: Options, seeds: int, data: Data, progress: Progress | None
) -> None:
    jobs = [(seed, case) for seed in range(seeds) for case in cases()]
    for done, (seed, case) in enumerate(jobs):
        shares = found.table("accuracy", case.key)
        if progress is not None:
            progress(f"{case.key} seed {seed}", done, len(jobs))
        if str(seed) in shares:
            continue
        network = build(case.spec(data), seed)
        fit(network, data, replace(options, seed=seed))
        shares[str(seed)] = accuracy(network, data.x_test, data.y_test)
        if seed == 0 and case.weights is not None:
            export_qonnx(network, _kept(case))
        found.save()


def _measure_cycles(found: Measurements, options: Options, data: Data, progress: Progress | None) -> None:
    quantized = [case for case in cases() if case.weights is not None]
    for done, case in enumerate(quantized):
        if progress is not None:
            progress(f"{case.key} cycles", done, len(quantized))
        found.content["cycles"][case.key] = _cycles(_network_file(case, data, options))
    found.save()


def _measure_cascade(found: Measurements, options: Options, seed: int, data: Data, progress: Progress | None) -> None:
    spec = Case(CASCADE_NETWORK, "unsigned", 1, 1).spec(data)
    stage = replace(options, seed=seed, epochs=CASCADE_EPOCHS)
    for row, rescaled in zip(CASCADE_ROWS[:2], (True, False), strict=True):
        shares = {bits: found.table("cascade", f"{row} {bits}") for bits in CASCADE_LEVELS}
        if all(str(seed) in share for share in shares.values()):
            continue
        members = cascade(spec, data, stage, list(CASCADE_LEVELS), rescaled=rescaled)
        next(members)  # full precision
        for bits, (network, _) in zip(CASCADE_LEVELS, members, strict=True):
            if progress is not None:
                progress(f"{row} seed {seed}", CASCADE_LEVELS.index(bits), len(CASCADE_LEVELS))
            shares[bits][str(seed)] = accuracy(network, data.x_test, data.y_test)
        found.save()
    for row in CASCADE_ROWS[2:]:
        for index, bits in enumerate(CASCADE_LEVELS):
            shares = found.table("cascade", f"{row} {bits}")
            if str(seed) in shares:
                continue
            if progress is not None:
                progress(f"{row} seed {seed}", index, len(CASCADE_LEVELS))
            # With full precision the cascade has trained index + 2 networks when it comes to these bits.
            epochs = CASCADE_EPOCHS * (index + 2 if row == "scratch, all epochs" else 1)
            network = build(Case(CASCADE_NETWORK, "unsigned", bits, bits).spec(data), seed)
            fit(network, data, replace(stage, epochs=epochs))
            shares[str(seed)] = accuracy(network, data.x_test, data.y_test)
            found.save()
