"""The networks in models/ that `dipole train` made are what models/README.md says of them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from dipole.compiler.importer import import_network
from dipole.compiler.reference import reference_tensors
from dipole.rtl.presets import load_config
from dipole.train.data import open_data
from dipole.train.evaluate import evaluate, golden_scores

MODELS = Path(__file__).parents[2] / "models"
ROW = re.compile(r"\| `([a-z0-9_]+\.onnx)` \| ([0-9.]+) % \| `(dipole train [^`]+)` \|")
ROWS = ROW.findall((MODELS / "README.md").read_text())
QUICK = ("digits_cnn_w2a2_unsigned.onnx", "digits_mlp_w1a1_odd.onnx", "breast_cancer_mlp_w2a2_unsigned.onnx")


def _metadata(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_the_readme_lists_every_trained_network():
    trained = {path.name for path in MODELS.glob("*.onnx") if "dipole.command" in _metadata(path)}
    assert trained == {name for name, _, _ in ROWS}
    assert len(ROWS) >= 4


@pytest.mark.parametrize(
    "name,percent,command", [pytest.param(*row, marks=() if row[0] in QUICK else pytest.mark.slow) for row in ROWS]
)
def test_accuracy_and_classes(name, percent, command):
    """The accuracy of the README through golden layers, {-1,+1} weights only, QONNX's class for every test sample."""
    path = MODELS / name
    metadata = _metadata(path)
    assert metadata["dipole.command"] == command and metadata["license"] == "Apache-2.0"
    network = import_network(path)
    assert all(layer.weight_format.is_odd for layer in network.layers)
    data = open_data(metadata["dipole.data"])
    classes = golden_scores(network, data.x_test).argmax(axis=1)
    assert f"{100 * (classes == data.y_test).mean():.2f}" == percent
    np.testing.assert_array_equal(reference_tensors(path, data.x_test)["scores"].argmax(axis=1), classes)


def test_the_network_of_the_demo_is_good_enough():
    assert evaluate(MODELS / "digits_cnn_w2a2_unsigned.onnx").accuracy >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_hardware_gives_the_same_scores(name):
    # Odd 8-bit codes have step functions that no 18-bit multiplier of the ladder follows exactly.
    config = replace(load_config("test_wide"), name="test_wide_22", mul_width=22)
    found = evaluate(MODELS / name, rtl=20, config=config)
    assert found.rtl_samples == 20 and found.rtl_differences == 0 and found.cycles > 0
