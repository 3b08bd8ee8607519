# pyright: reportMissingImports=false
"""PyTorch, QONNX's execution and the integers give every test sample the same class, for all networks that ship.

`test_shipped_models.py` adds the hardware: the same scores as the integers.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from dipole.compiler.importer import import_network
from dipole.compiler.reference import reference_tensors
from dipole.train.data import open_data
from dipole.train.evaluate import golden_scores
from dipole.train.fit import predict
from dipole.train.networks import QuantNetwork, build
from dipole.train.precision import Precision
from dipole.train.spec import make_spec

pytestmark = [pytest.mark.train, pytest.mark.slow]

MODELS = Path(__file__).parents[2] / "models"


def _metadata(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


TRAINED = sorted(path.name for path in MODELS.glob("*.onnx") if "dipole.command" in _metadata(path))


def _torch_network(path: Path) -> tuple[QuantNetwork, str]:
    """The network in PyTorch with the parameters of the file, and the name of its data."""
    found = {i.name: torch.tensor(numpy_helper.to_array(i)) for i in onnx.load(path).graph.initializer}
    data = open_data(_metadata(path)["dipole.data"])
    architecture = "cnn" if "_cnn_" in path.name else "mlp"
    _, bits, kind = path.stem.rsplit("_", 2)
    weights, activations = int(bits[1]), int(bits[3])
    precision = Precision((weights,), (activations,), kind)  # type: ignore[arg-type]
    network = build(make_spec(architecture, data.shape, len(data.classes), precision), seed=99)
    # BipolarQuant's scale is the gain, Quant's is two parts of 2^b - 1 of it.
    gain = float(found["last_weight_codes_scale"]) * (1 if weights == 1 else ((1 << weights) - 1) / 2)
    state = {"last.weight": found["last_weight"] / gain, "last.bias": found["last_bias"]}
    state["last.log_gain"] = torch.tensor(gain).log()
    for index in range(len(network.hidden)):
        state[f"blocks.{index}.layer.weight"] = found[f"layer{index + 1}_weight"]
        for key in ("weight", "bias", "running_mean", "running_var"):
            state[f"blocks.{index}.norm.{key}"] = found[f"layer{index + 1}_norm_{key}"]
        state[f"blocks.{index}.norm.num_batches_tracked"] = torch.tensor(0)
    network.load_state_dict(state)
    return network, data.name


def test_there_are_networks():
    assert len(TRAINED) == 26


@pytest.mark.parametrize("name", TRAINED)
def test_every_class_is_the_same(name):
    network, data_name = _torch_network(MODELS / name)
    data = open_data(data_name)
    x = np.concatenate([data.x_test, data.x])
    by_torch = predict(network, x).argmax(axis=1)
    by_integers = golden_scores(import_network(MODELS / name), x).argmax(axis=1)
    by_qonnx = reference_tensors(MODELS / name, x)["scores"].argmax(axis=1)
    np.testing.assert_array_equal(by_qonnx, by_torch)
    np.testing.assert_array_equal(by_integers, by_torch)
