"""Every supported layer and function: QONNX's execution against the imported integers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from importing import IMAGE, agree, becomes, conv, finish, images, rng, start
from onnx import TensorProto
from onnx_builder import Build

from dipole.compiler.importer import check_model, import_network
from dipole.compiler.network import Format, Network

# --- layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 0, 2, 1]},
        {"strides": [2, 1]},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "VALID"},
        {"kernel_shape": [3, 3], "dilations": [1, 1], "group": 1, "auto_pad": "NOTSET"},
    ],
)
def test_conv_geometry(tmp_path: Path, attributes: dict[str, Any]) -> None:
    b = Build()
    x = b.quant(conv(b, start(b), **attributes), 0.2, 4)
    size = {"pads": 35, "strides": 8, "auto_pad": 36, "kernel_shape": 16}[next(iter(attributes))]
    if "auto_pad" in attributes and (attributes.get("strides") or attributes["auto_pad"] == "VALID"):
        size = 9 if "strides" in attributes else 16
    agree(b.save(tmp_path, finish(b, x, 5 * size)), images(*IMAGE))


def test_conv_1d(tmp_path: Path) -> None:
    b = Build()
    x = b.quant(b.input(3, 12), 0.05, 6)
    x = b.op("Conv", x, b.weights(rng().normal(size=(5, 3, 3))), pads=[1, 0], strides=[2])
    x = b.quant(x, 0.3, 4)
    x = b.op("MaxPool", x, kernel_shape=[2], strides=[1])
    network = agree(b.save(tmp_path, finish(b, x, 5 * 5)), images(3, 12))
    assert network.input_shape == (3, 1, 12) and network.layers[0].stride == (1, 2)


@pytest.mark.parametrize("kind", ["gemm", "gemm transposed", "matmul", "matmul of transposed", "matmul of view"])
def test_dense_orientations(tmp_path: Path, kind: str) -> None:
    b = Build()
    x = b.quant(b.input(7), 0.05, 6)
    w = rng().normal(size=(5, 7))
    if kind == "gemm":
        y = b.op("Gemm", x, b.weights(w), b.const(rng().normal(size=5)), transB=1, alpha=0.5, beta=2.0)
    elif kind == "gemm transposed":
        y = b.op("Gemm", x, b.weights(w.T, rng().uniform(0.1, 0.2, (1, 5))), b.const(rng().normal(size=(1, 5))))
    elif kind == "matmul":
        y = b.op("Add", b.op("MatMul", x, b.weights(w.T)), b.const(rng().normal(size=5)))
    elif kind == "matmul of transposed":
        quantized = b.weights(w, rng().uniform(0.1, 0.2, (5, 1)), narrow=1)
        y = b.op("Add", b.const(rng().normal(size=(1, 5))), b.op("MatMul", x, b.op("Transpose", quantized)))
    else:
        quantized = b.op("Reshape", b.weights(w.T.reshape(7, 5, 1)), b.const([7, 5], np.int64))
        y = b.op("MatMul", x, quantized)
    y = b.quant(y, 0.2, 5)
    y = b.op("MatMul", y, b.weights(rng(1).normal(size=(5, 3))))
    network = agree(b.save(tmp_path, y), images(7))
    assert network.input_shape == (7, 1, 1) and network.layers[0].weights.shape == (5, 7, 1, 1)


def test_matmul_with_leading_ones(tmp_path: Path) -> None:
    b = Build()
    x = b.quant(b.input(1, 7), 0.05, 6)
    y = b.op("MatMul", b.quant(b.op("MatMul", x, b.weights(rng().normal(size=(7, 5)))), 0.2, 4),
             b.weights(rng().normal(size=(5, 3))))  # fmt: skip
    agree(b.save(tmp_path, y), images(1, 7))


def test_flatten_of_transposed_activation(tmp_path: Path) -> None:
    """Channels last before the flattening: the weights are put into the order of the codes."""
    b = Build()
    x = b.op("Transpose", b.quant(conv(b, start(b)), 0.2, 4), perm=[0, 2, 3, 1])
    network = agree(b.save(tmp_path, finish(b, x, 80)), images(*IMAGE))
    assert network.layers[1].weights.shape == (4, 5, 4, 4)


def test_views_between_accumulator_and_quantizer(tmp_path: Path) -> None:
    b = Build()
    x = b.op("Transpose", conv(b, start(b)), perm=[0, 2, 3, 1])
    x = b.op("Mul", x, b.const(rng().uniform(-1, 1, 5)))
    x = b.op("Transpose", x, perm=[0, 3, 1, 2])
    x = b.op("Unsqueeze", x, b.const([4], np.int64))
    x = b.op("Squeeze", x, b.const([4], np.int64))
    x = b.op("Flatten", x)
    x = b.quant(x, 0.1, 4)
    agree(b.save(tmp_path, b.op("Gemm", x, b.weights(rng().normal(size=(80, 3))))), images(*IMAGE))


def test_squeeze_of_a_full_size_kernel(tmp_path: Path) -> None:
    b = Build()
    x = b.quant(conv(b, start(b), kernel=6), 0.2, 4)
    x = b.op("Squeeze", x, b.const([2, 3], np.int64))
    network = agree(b.save(tmp_path, b.op("Gemm", x, b.weights(rng().normal(size=(5, 3))))), images(*IMAGE))
    assert network.layers[1].weights.shape == (3, 5, 1, 1)


def test_reshaped_input(tmp_path: Path) -> None:
    b = Build()
    x = b.op("Reshape", b.input(108, batch=3), b.const([3, 3, 6, 6], np.int64))
    x = b.quant(conv(b, b.quant(x, 0.05, 6)), 0.2, 4)
    network = agree(b.save(tmp_path, finish(b, x, 80)), images(108))
    assert network.input_shape == (3, 6, 6) and network.qonnx_input_shape == (108,)


def test_dense_on_an_image(tmp_path: Path) -> None:
    b = Build()
    x = b.quant(finish(b, start(b), 108, 6), 0.2, 4)
    network = agree(b.save(tmp_path, b.op("Gemm", x, b.weights(rng().normal(size=(6, 3))))), images(*IMAGE))
    assert network.layers[0].weights.shape == (6, 3, 6, 6)


# --- between accumulator and codes -----------------------------------------------------------------


# A constant over an activation is not monotone; see test_import_unsupported.py.
@pytest.mark.parametrize(
    ("op", "left"),
    [(op, left) for op in ("Add", "Sub", "Mul", "Div") for left in (False, True) if op != "Div" or not left],
)
@pytest.mark.parametrize("shape", [(), (1,), (5, 1, 1), (1, 5, 1, 1)])
def test_constants(tmp_path: Path, op: str, left: bool, shape: tuple[int, ...]) -> None:
    b = Build()
    y, c = conv(b, start(b)), b.const(rng(3).normal(size=shape))
    x = b.quant(b.op(op, *((c, y) if left else (y, c))), 0.2, 4)
    agree(b.save(tmp_path, finish(b, x, 80)), images(*IMAGE))


@pytest.mark.parametrize("opset", [9, 13])
def test_clip_forms(tmp_path: Path, opset: int) -> None:
    b = Build(opset)
    y = conv(b, start(b))
    if opset < 11:
        x = b.op("Clip", y, min=-0.5, max=0.9)
    else:
        x = b.op("Clip", b.op("Clip", y, b.const(-0.5)), "", b.const(0.9))
    agree(b.save(tmp_path, finish(b, b.quant(x, 0.1, 4), 80)), images(*IMAGE))


@pytest.mark.parametrize("bias", ["float", "quantized"])
@pytest.mark.parametrize("layer", ["Conv", "Gemm"])
def test_bias(tmp_path: Path, bias: str, layer: str) -> None:
    b = Build()
    values = rng(4).normal(size=5)
    name = b.const(values) if bias == "float" else b.weights(values, 0.001, 32)
    x = start(b)
    if layer == "Conv":
        y = b.op("Conv", x, b.weights(rng(1).normal(size=(5, 3, 3, 3))), name)
    else:
        y = b.op("Gemm", b.op("Flatten", x), b.weights(rng(1).normal(size=(5, 108))), name, transB=1)
    x = b.quant(y, 0.2, 5)
    network = agree(b.save(tmp_path, finish(b, x, 80 if layer == "Conv" else 5)), images(*IMAGE))
    assert network.layers[0].accumulator_bias is not None


@pytest.mark.parametrize("scale_bias", [(1.0, 0.0), (0.5, -1.5), (2.0, -7.0)])
@pytest.mark.parametrize("per_channel", [True, False])
def test_multithreshold(tmp_path: Path, scale_bias: tuple[float, float], per_channel: bool) -> None:
    b = Build()
    table = np.sort(rng(5).normal(size=(5 if per_channel else 1, 7)), axis=1)
    attributes = {"out_dtype": "UINT3", "out_scale": scale_bias[0], "out_bias": scale_bias[1]}
    x = b.op("MultiThreshold", conv(b, start(b)), b.const(table), domain=b.domain, **attributes)
    network = agree(b.save(tmp_path, finish(b, x, 80)), images(*IMAGE))
    made = {0.0: Format.unsigned(3), -1.5: Format(3, 1, -3), -7.0: Format.odd(3)}[scale_bias[1]]
    assert network.layers[0].output_format == made


def test_two_quantizers_in_a_row(tmp_path: Path) -> None:
    """The first becomes a step of the ladder of the second, unless the second changes nothing."""
    b = Build()
    x = b.quant(conv(b, start(b)), 0.2, 6)
    x = b.op("Mul", b.op("Relu", x), b.const(0.7))
    x = b.quant(x, 0.3, 3, signed=0, rounding="FLOOR")
    x = b.quant(x, 0.3, 4, signed=1)
    path = b.save(tmp_path, finish(b, x, 80))
    network = agree(path, images(*IMAGE))
    assert network.layers[0].output_format == Format.unsigned(3)
    assert [row.becomes for row in check_model(path).nodes if row.op == "Quant"].count(
        "repeats the quantizer before it: no work"
    ) == 1


def test_steps_behind_the_quantizer(tmp_path: Path) -> None:
    """Relu on unsigned codes is nothing; a positive factor goes into the scale."""
    b = Build()
    x = b.op("Div", b.op("Relu", b.quant(conv(b, start(b)), 0.2, 4, signed=0)), b.const(3.0))
    x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    network = agree(b.save(tmp_path, finish(b, x, 20)), images(*IMAGE))
    assert network.layers[0].output_code_scale == pytest.approx(0.2 / 3)
    assert network.layers[1].input_scale == pytest.approx(0.2 / 3)


def test_factor_behind_the_pool_and_on_the_input(tmp_path: Path) -> None:
    b = Build()
    x = conv(b, b.op("Mul", start(b), b.const([2.5])))
    x = b.op("MaxPool", b.quant(x, 0.2, 4), kernel_shape=[3, 3])
    x = b.op("Mul", x, b.const(np.full((1, 5, 1, 1), 1.5)))
    network = agree(b.save(tmp_path, finish(b, x, 20)), images(*IMAGE))
    assert network.layers[0].input_scale == pytest.approx(0.125)
    assert network.layers[1].input_scale == pytest.approx(0.3)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ],
)
@pytest.mark.parametrize("where", ["behind", "before"])
def test_max_pool(tmp_path: Path, attributes: dict[str, Any], where: str) -> None:
    b = Build()
    x = conv(b, start(b), pads=[1, 1, 1, 1])
    if where == "before":
        x = b.op("Mul", x, b.const(rng().normal(size=(5, 1, 1))))  # any slope before the pool is fine
        x = b.batch_norm(b.op("MaxPool", x, **attributes), rng(), 5, negative=False)
        x = b.quant(x, 0.2, 4)
    else:
        x = b.op("MaxPool", b.quant(b.batch_norm(x, rng(), 5), 0.2, 4), **attributes)
    path = b.save(tmp_path, b.op("Conv", x, b.weights(rng(2).normal(size=(4, 5, 1, 1)))))
    network = agree(path, images(*IMAGE))
    assert network.layers[0].pool is not None
    assert ("codes" in network.layers[0].qonnx_tensors) == (where == "behind")


# --- ends ------------------------------------------------------------------------------------------


def test_last_layer_affine(tmp_path: Path) -> None:
    b = Build()
    y = b.op("Gemm", b.quant(b.input(7), 0.05, 6), b.weights(rng().normal(size=(7, 4))), b.const(rng().normal(size=4)))
    y = b.op("Sub", b.const(1.5), b.batch_norm(b.op("Mul", y, b.const(0.25)), rng(), 4))
    network = agree(b.save(tmp_path, y), images(7))
    assert network.layers[0].thresholds is None


def test_quantized_output(tmp_path: Path) -> None:
    b = Build()
    y = b.op("Gemm", b.quant(b.input(7), 0.05, 6), b.weights(rng().normal(size=(7, 4))))
    network = agree(b.save(tmp_path, b.quant(y, 0.1, 8)), images(7))
    assert network.layers[0].output_format == Format.signed(8)


@pytest.mark.parametrize("host", ["Softmax", "ArgMax", "TopK", "Sigmoid"])
def test_left_to_the_host(tmp_path: Path, host: str) -> None:
    b = Build()
    logits = b.op("Gemm", b.quant(b.input(7), 0.05, 6), b.weights(rng().normal(size=(7, 4))))
    if host == "TopK":
        y = b.op("TopK", logits, b.const([1], np.int64), outputs=2)[1]
    else:
        y = b.op(host, logits)
    y = b.op("Cast", y, to=TensorProto.FLOAT)
    path = b.save(tmp_path, y)
    network = agree(path, images(7))
    assert network.layers[-1].qonnx_tensors["output"] == logits
    report = check_model(path)
    assert report.count("host") == 2
    assert "left to the host" in becomes(path)[host]


def test_names(tmp_path: Path) -> None:
    b = Build()
    b.nodes = []
    x = conv(b, start(b))
    b.nodes[-1].name = "c1"
    path = b.save(tmp_path, finish(b, b.quant(b.op("Relu", x), 0.2, 4, signed=0), 80))
    network: Network = import_network(path)
    assert [layer.name for layer in network.layers] == ["c1", "Gemm_0"]
    texts = [row.becomes for row in check_model(path).nodes]
    assert "input quantizer (6 bit two's complement, scale 0.05)" in texts
    assert "weights of layer c1 (4 bit two's complement, scale per tensor)" in texts
    assert "layer c1: 3x6x6 -> 5x4x4, kernel 3x3" in texts
    assert "folded into layer c1" in texts
    assert "ladder of layer c1 (4 bit unsigned, scale 0.2)" in texts
    assert "layer Gemm_0: 5x4x4 -> 4x1x1, dense" in texts
