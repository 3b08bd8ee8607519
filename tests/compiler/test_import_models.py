"""Four networks of models/, all of their images: QONNX's execution against integers."""

from pathlib import Path

import numpy as np
import pytest
from importing import agree
from onnx_builder import infer
from sklearn.datasets import load_digits

from dipole.compiler.importer import check_model, import_network
from dipole.compiler.quantizers import quantize_input
from dipole.compiler.reference import layer_integers, reference_tensors

MODELS = Path(__file__).parents[2] / "models"
DIGITS = ("digits_w2a2", "digits_w4a4", "digits_w8a8")


def digits() -> np.ndarray:
    images, _ = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)


def ladder_inputs() -> np.ndarray:
    """Random inputs, and inputs on the grid of ties and clamps of the 2-bit ladder."""
    rng = np.random.default_rng(0)
    ties = rng.choice(np.array([-2, -1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 1, 2], np.float32), (200, 4, 8, 8))
    return np.concatenate([rng.uniform(-1, 1, (200, 4, 8, 8)).astype(np.float32), ties])


def images(name: str) -> np.ndarray:
    return digits() if name in DIGITS else ladder_inputs()


@pytest.mark.parametrize("name", [*DIGITS, "ladder_m2k2_untrained"])
def test_equal_with_exact_sums(name: str) -> None:
    agree(MODELS / f"{name}.onnx", images(name))


@pytest.mark.parametrize("name", ["digits_w2a2", "digits_w4a4", "ladder_m2k2_untrained"])
def test_equal_with_qonnx_sums(name: str) -> None:
    path = MODELS / f"{name}.onnx"
    network = import_network(path)
    codes = quantize_input(network.input_quantizer, network.input_format, images(name))
    theirs = layer_integers(network, reference_tensors(path, images(name)))
    for (y, made, pooled), layer in zip(infer(network, codes), theirs, strict=True):
        np.testing.assert_array_equal(layer.accumulators, y)
        assert layer.accumulator_residual < 0.01
        if made is not None:
            np.testing.assert_array_equal(layer.codes, made)
        if layer.pooled is not None:
            np.testing.assert_array_equal(layer.pooled, pooled)


def test_w8a8_differs_only_by_the_noise_of_float_sums() -> None:
    """QONNX's own sums put 7 codes of the first layer on the other side of a threshold: each by one, where the real
    accumulator is a few ulp off, and the same chain of steps on QONNX's accumulator gives QONNX's code."""
    path, x = MODELS / "digits_w8a8.onnx", digits()
    network = import_network(path)
    codes = quantize_input(network.input_quantizer, network.input_format, x)
    noisy = reference_tensors(path, x)
    first = network.layers[0]
    y, made, _ = infer(network, codes)[0]
    theirs = layer_integers(network, noisy)[0]
    assert made is not None and theirs.codes is not None and first.weight_scale is not None
    np.testing.assert_array_equal(theirs.accumulators, y)
    where = theirs.codes != made
    assert 0 < where.sum() < 50
    assert np.abs(theirs.codes.astype(int) - made)[where].max() == 1
    rounded = (y * (first.weight_scale.astype(float) * first.input_scale)[:, None, None]).astype(np.float32)
    real = noisy[first.qonnx_tensors["accumulator"]]
    assert np.all(real[where] != rounded[where])
    assert np.all(np.abs(real - rounded)[where] <= 8 * np.spacing(np.abs(rounded))[where])


@pytest.mark.parametrize("name", [*DIGITS, "ladder_m2k2_untrained"])
def test_report_names_every_node(name: str) -> None:
    report = check_model(MODELS / f"{name}.onnx")
    assert report.ok and not report.all_problems
    assert all(row.status == "used" and row.becomes for row in report.nodes)
    assert len(report.nodes) == (9 if name.startswith("ladder") else 15)


def test_ladder_has_negative_slopes() -> None:
    network = import_network(MODELS / "ladder_m2k2_untrained.onnx")
    sign = network.layers[0].sign
    assert sign is not None and set(sign.tolist()) == {-1, 1}
    assert network.input_format.is_odd and network.layers[0].weight_format.is_odd
