"""Window geometry against onnxruntime: shapes and values of pools and convolutions with every way to pad."""

from typing import Any

import numpy as np
import pytest
from onnx import helper

from dipole.compiler.graph import evaluate
from dipole.compiler.windows import Geometry, conv_geometry, pool_geometry


def windows(x: np.ndarray, geometry: Geometry, fill: float) -> np.ndarray:
    top, left, bottom, right = geometry.padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, geometry.kernel, axis=(2, 3))
    return view[:, :, :: geometry.stride[0], :: geometry.stride[1]]


@pytest.mark.parametrize("seed", range(150))
@pytest.mark.parametrize("op", ["MaxPool", "Conv"])
def test_same_as_onnxruntime(seed: int, op: str) -> None:
    rng = np.random.default_rng(seed)
    kernel = rng.integers(1, 5, 2).tolist()
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": rng.integers(1, 4, 2).tolist()}
    mode = seed % 5
    if mode < 3:
        attributes["pads"] = [int(rng.integers(0, kernel[k % 2])) for k in range(4)]
        if op == "MaxPool" and mode:
            attributes["ceil_mode"] = 1
    else:
        attributes["auto_pad"] = ["SAME_UPPER", "SAME_LOWER"][mode - 3]
        if op == "MaxPool":  # onnxruntime refuses to pool with gaps between windows and SAME
            attributes["strides"] = [min(pair) for pair in zip(kernel, attributes["strides"], strict=True)]
    x = rng.normal(size=(1, 2, *rng.integers(5, 12, 2))).astype(np.float32)
    if op == "MaxPool":
        geometry = pool_geometry(attributes, x.shape[2:], False)
        expected = evaluate(helper.make_node(op, ["x"], ["y"], **attributes), [x], 13)[0]
        made = windows(x, geometry, -np.inf).max(axis=(4, 5))
    else:
        w = rng.normal(size=(3, 2, *kernel)).astype(np.float32)
        geometry = conv_geometry(attributes, kernel, x.shape[2:], False)
        expected = evaluate(helper.make_node(op, ["x", "w"], ["y"], **attributes), [x, w], 13)[0]
        made = np.einsum("nchwij,ocij->nohw", windows(x, geometry, 0), w)
    assert (*expected.shape[2:],) == geometry.output, attributes
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"kernel_shape": [2]}, "attributes for 1 axes"),
        ({"kernel_shape": [2, 2], "pads": [1, 1]}, "has 2 pads, must have 4"),
        ({"kernel_shape": [2, 2], "pads": [-1, 0, 0, 0]}, "negative padding"),
        ({"kernel_shape": [2, 0]}, "must be positive"),
        ({"kernel_shape": [2, 2], "auto_pad": "SAME"}, "auto_pad 'SAME' is not known"),
        ({}, "kernel_shape is missing"),
    ],
)
def test_refused(attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pool_geometry(attributes, (6, 6), False)
