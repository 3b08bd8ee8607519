"""Accuracy of a QONNX file: through the integer golden model, and on simulated hardware. Needs no PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from ..compiler.importer import import_network
from ..compiler.mapping import compile_network
from ..compiler.network import Conv, Network
from ..compiler.quantizers import quantize_input
from ..compiler.transfer import pack_input, unpack_layer
from ..golden.layers import real_output, run_network
from ..golden.timing import simulate_cycles
from ..rtl.config import Config
from .data import Data, open_data
from .errors import TrainError

__all__ = ["Evaluation", "cycles_per_image", "data_of_model", "evaluate", "golden_scores", "rtl_scores"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found on the test samples."""

    data: str
    samples: int
    correct: int
    """Through the golden model."""
    rtl_samples: int = 0
    rtl_correct: int = 0
    rtl_differences: int = 0
    """Samples of which any integer score of the simulated hardware differs from the golden model."""
    cycles: int = 0
    """Clock cycles per sample on the hardware."""

    @property
    def accuracy(self) -> float:
        return self.correct / self.samples


def data_of_model(path: Path) -> str | None:
    """The data set that `dipole train` wrote into the file."""
    try:
        model = onnx.load(path)
    except OSError as error:
        raise TrainError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception:
        raise TrainError(f"{path}: not an ONNX model") from None
    return next((entry.value for entry in model.metadata_props if entry.key == "dipole.data"), None)


def _codes(network: Network, x: np.ndarray, name: str) -> np.ndarray:
    if int(np.prod(x.shape[1:])) != int(np.prod(network.input_shape)):
        raise TrainError(
            f"data {name!r}: inputs have the shape {x.shape[1:]}, network {network.name!r} takes {network.input_shape}"
        )
    codes = quantize_input(network.input_quantizer, network.input_format, x)
    return codes.reshape(len(x), *network.input_shape)


def _scores(last: Conv, integers: np.ndarray) -> np.ndarray:
    real = real_output(last, integers) if last.thresholds is None else integers
    return real.reshape(len(integers), -1)


def golden_scores(network: Network, x: np.ndarray, name: str = "input") -> np.ndarray:
    """Class scores [n, classes] of real inputs through the exact integer layers."""
    results = run_network(network, _codes(network, x, name))
    return _scores(network.layers[-1], results[-1].output)


def rtl_scores(
    network: Network,
    config: Config,
    x: np.ndarray,
    *,
    name: str = "input",
    engine: str = "verilator",
    progress: Progress | None = None,
) -> tuple[np.ndarray, int]:
    """Class scores [n, classes] from the simulated hardware, and its cycles per sample."""
    from ..sim.engine import open_simulator

    program = compile_network(network, config)
    size = config.mem_width // 8
    outputs: list[np.ndarray] = []
    cycles = 0
    with open_simulator(config, engine=engine) as simulator:
        simulator.load(program.image)
        for k, codes in enumerate(_codes(network, x, name)):
            for address, words in pack_input(program, codes):
                simulator.write(address, b"".join(word.to_bytes(size, "little") for word in words))
            result = simulator.run(program.entry)
            if result.error:
                raise TrainError(
                    f"network {network.name!r} on {config.name!r}: the hardware stopped with error {result.error}"
                )
            cycles = result.cycles
            memory = np.ascontiguousarray(simulator.memory).view(np.uint8).ravel()
            outputs.append(unpack_layer(program, len(program.layers) - 1, memory))
            if progress is not None:
                progress("simulated hardware", k + 1, len(x))
    return _scores(network.layers[-1], np.stack(outputs)), cycles


def cycles_per_image(network: Network, config: Config) -> int:
    """Exact clock cycles of one image, from the cycle model."""
    program = compile_network(network, config)
    return simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, config).cycles


def evaluate(
    model: Path,
    data: str | None = None,
    *,
    rtl: int = 0,
    config: Config | None = None,
    engine: str = "verilator",
    progress: Progress | None = None,
) -> Evaluation:
    """Accuracy of a model on the test samples of a data set (default: the one it was trained on).

    The first `rtl` samples also run on the simulated hardware of `config`.
    """
    name = data or data_of_model(model)
    if name is None:
        raise TrainError(f"{model}: does not say which data it was trained on; give --data")
    network = import_network(model)
    found: Data = open_data(name)
    golden = golden_scores(network, found.x_test, found.name)
    if golden.shape[1] < len(found.classes):
        raise TrainError(
            f"data {found.name!r}: {len(found.classes)} classes, but {model} gives {golden.shape[1]} scores"
        )
    hits = golden.argmax(axis=1) == found.y_test
    if not rtl:
        return Evaluation(found.name, len(hits), int(hits.sum()))
    if config is None:
        raise TrainError("simulated hardware needs a configuration: give --config")
    rtl = min(rtl, len(hits))
    hardware, cycles = rtl_scores(
        network, config, found.x_test[:rtl], name=found.name, engine=engine, progress=progress
    )
    right = int((hardware.argmax(axis=1) == found.y_test[:rtl]).sum())
    differ = int((hardware != golden[:rtl]).any(axis=1).sum())
    return Evaluation(found.name, len(hits), int(hits.sum()), rtl, right, differ, cycles)
