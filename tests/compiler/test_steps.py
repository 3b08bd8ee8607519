"""The float32 steps against onnxruntime, bit for bit, and their directions."""

from typing import Any

import numpy as np
import pytest
from onnx import helper

from dipole.compiler.graph import evaluate
from dipole.compiler.steps import Arithmetic, BatchNorm, Clip, Relu

C, N = 7, 400


def values(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(C, N)) * 10.0 ** rng.integers(-4, 5, (C, N))).astype(np.float32)


def run(op: str, arrays: list[Any], opset: int = 13, **attributes: Any) -> np.ndarray:
    node = helper.make_node(op, [f"a{k}" for k in range(len(arrays))], ["y"], **attributes)
    return evaluate(node, arrays, opset)[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("opset", [9, 13, 14, 15, 21])
@pytest.mark.parametrize("shape", ["image", "dense"])
def test_batch_norm(seed: int, opset: int, shape: str) -> None:
    rng, x = np.random.default_rng(seed), values(seed)
    scale, bias, mean = (rng.normal(size=C).astype(np.float32) for _ in range(3))
    var = rng.uniform(1e-6, 5, C).astype(np.float32)
    step = BatchNorm(scale, bias, mean, var, 1e-5)
    laid_out = x.reshape(1, C, N // 20, 20) if shape == "image" else x.T.copy()
    expected = run("BatchNormalization", [laid_out, scale, bias, mean, var], opset, epsilon=1e-5)
    np.testing.assert_array_equal(step(x), expected.reshape(C, N) if shape == "image" else expected.T)
    assert np.array_equal(step.direction, np.sign(scale))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_arithmetic(op: str, swapped: bool, per_channel: bool) -> None:
    constant = np.random.default_rng(1).normal(size=C if per_channel else 1).astype(np.float32)
    if op == "Div" and swapped:
        with pytest.raises(ValueError, match="not monotone"):
            Arithmetic(op, constant, swapped)
        return
    step, x = Arithmetic(op, constant, swapped), values(2)
    operands = [constant[:, None], x] if swapped else [x, constant[:, None]]
    np.testing.assert_array_equal(step(x), run(op, operands))
    rising = np.sort(x, axis=1)
    slope = np.sign(step(rising)[:, -1] - step(rising)[:, 0])
    assert np.array_equal(np.broadcast_to(step.direction, C), slope)
    a, b = step.affine
    np.testing.assert_allclose(step(x), a[:, None] * x + b[:, None], rtol=1e-6)


def test_relu_and_clip() -> None:
    x = np.concatenate([values(3), np.full((C, 1), -0.0, np.float32)], axis=1)
    np.testing.assert_array_equal(Relu()(x), run("Relu", [x]))
    np.testing.assert_array_equal(Clip(-0.3, 0.7)(x), run("Clip", [x, np.float32(-0.3), np.float32(0.7)]))
    np.testing.assert_array_equal(Clip(-0.3, 0.7)(x), run("Clip", [x], opset=9, min=-0.3, max=0.7))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Arithmetic("Mul", np.array([np.inf], np.float32)), "not finite"),
        (lambda: Arithmetic("Div", np.array([0], np.float32)), "divides by zero"),
        (
            lambda: BatchNorm(*[np.ones(1, np.float32)] * 3, var=-np.ones(1, np.float32), epsilon=1e-5),
            "negative variance",
        ),
    ],
)
def test_refused(make: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()
