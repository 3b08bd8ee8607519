"""What exporters do differently (opsets, domains, shapes, constants): QONNX's execution against integers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from importing import IMAGE, agree, becomes, conv, finish, images, rng, start
from onnx import TensorProto, helper
from onnx_builder import Build

from dipole.compiler.importer import check_model


@pytest.mark.parametrize("opset", range(9, 22))
def test_opsets(tmp_path: Path, opset: int) -> None:
    b = Build(opset)
    x = b.op("Relu", b.batch_norm(conv(b, start(b)), rng(), 5))
    x = b.quant(x, 0.2, 4, signed=0)
    x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    agree(b.save(tmp_path, finish(b, x, 20)), images(*IMAGE))


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", ""])
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
def test_domains(tmp_path: Path, domain: str, op: str) -> None:
    b = Build(domain=domain)
    x = b.quant(b.input(*IMAGE), 0.05, 6, op=op, rounding=None)
    x = b.quant(conv(b, x), 0.2, 4, op=op)
    agree(b.save(tmp_path, finish(b, x, 80)), images(*IMAGE))


def test_parameters_as_inputs_and_frozen_batch(tmp_path: Path) -> None:
    b = Build()
    x = b.quant(conv(b, start(b, batch=540), pads=[1, 1, 1, 1]), 0.2, 4)
    x = b.op("Reshape", x, b.const([540, 180], np.int64))
    y = b.op("Gemm", x, b.weights(rng().normal(size=(4, 180))), transB=1)
    network = agree(b.save(tmp_path, y, static_inputs=True), images(*IMAGE))
    assert network.layers[1].weights.shape == (4, 5, 6, 6)


@pytest.mark.parametrize("batch", [1, 2, 7, "N", None])
@pytest.mark.parametrize("shape", [[0, -1], [-1, 80], None])
def test_reshape_habits(tmp_path: Path, batch: Any, shape: list[int] | None) -> None:
    b = Build()
    x = b.quant(conv(b, start(b, batch=batch)), 0.2, 4)
    if shape is None:
        shape = [batch, -1] if isinstance(batch, int) else [1, -1]
    x = b.op("Reshape", x, b.const(shape, np.int64))
    agree(b.save(tmp_path, b.op("Gemm", x, b.weights(rng().normal(size=(4, 80))), transB=1)), images(*IMAGE))


@pytest.mark.parametrize("batch", [1, 5, "N"])
def test_shape_gather_concat_preamble(tmp_path: Path, batch: Any) -> None:
    b = Build()
    x = b.quant(conv(b, start(b, batch=batch)), 0.2, 4)
    n = b.op("Gather", b.op("Shape", x), b.const(0, np.int64), axis=0)
    shape = b.op("Concat", b.op("Unsqueeze", n, b.const([0], np.int64)), b.const([-1], np.int64), axis=0)
    y = b.op("Gemm", b.op("Reshape", x, shape), b.weights(rng().normal(size=(4, 80))), transB=1)
    path = b.save(tmp_path, y)
    agree(path, images(*IMAGE))
    assert becomes(path)["Shape"] == "constant shape"


def test_constant_nodes_identity_cast_dropout(tmp_path: Path) -> None:
    b = Build()

    def constant(array: np.ndarray) -> str:
        return b.op("Constant", value=onnx.numpy_helper.from_array(np.asarray(array, np.float32)))

    x = b.op("Cast", b.op("Identity", b.input(*IMAGE)), to=TensorProto.FLOAT)
    attributes = {"signed": 1, "narrow": 0, "domain": b.domain}
    x = b.op("Quant", x, *[constant(np.array(v)) for v in (0.05, 0, 6)], **attributes)
    w = b.op("Identity", constant(rng().normal(size=(5, 3, 3, 3))))
    w = b.op("Quant", w, *[constant(np.array(v)) for v in (0.2, 0, 3)], **attributes)
    x = b.op("Dropout", b.op("Conv", x, b.op("Identity", w)))
    x = b.op("Dropout", b.quant(x, 0.3, 5), b.const(0.5), b.const(False, bool))
    agree(b.save(tmp_path, finish(b, b.op("Identity", x), 80)), images(*IMAGE))


def test_scales_from_constant_subgraphs(tmp_path: Path) -> None:
    b = Build()
    x = start(b)
    w = b.const(rng().normal(size=(5, 3, 3, 3)))
    largest = b.op("ReduceMax", b.op("Abs", w), axes=[1, 2, 3], keepdims=1)
    scale = b.op("Div", largest, b.op("Sub", b.op("Pow", b.const(2), b.const(3)), b.const(1)))
    w = b.op("Quant", w, scale, b.const(0), b.const(4), domain=b.domain, signed=1, narrow=1, rounding_mode="ROUND")
    x = b.quant(b.op("Conv", x, w), 0.3, 4)
    network = agree(b.save(tmp_path, finish(b, x, 80)), images(*IMAGE))
    assert network.layers[0].weight_scale is not None and network.layers[0].weight_scale.shape == (5,)
    assert network.layers[0].weights.max() == 15 and network.layers[0].weights.min() >= 1


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    b = Build()
    x = b.op("block", conv(b, start(b)), domain="local")
    model = b.model(finish(b, b.quant(x, 0.2, 4), 80))
    body = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Identity", ["t"], ["b"])]
    function = helper.make_function("local", "block", ["a"], ["b"], body, [helper.make_opsetid("", 13)])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    onnx.save(model, tmp_path / "f.onnx")
    agree(tmp_path / "f.onnx", images(*IMAGE))


def test_nodes_out_of_order_and_without_names(tmp_path: Path) -> None:
    b = Build()
    model = b.model(finish(b, b.quant(conv(b, start(b)), 0.2, 4), 80))
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for node in model.graph.node:
        node.name = "same" if node.op_type == "Quant" else ""
    onnx.save(model, tmp_path / "o.onnx")
    agree(tmp_path / "o.onnx", images(*IMAGE))
    names = [row.name for row in check_model(tmp_path / "o.onnx").nodes]
    assert len(set(names)) == len(names) and all(names)


def test_unused_nodes_are_reported(tmp_path: Path) -> None:
    b = Build()
    x = b.quant(conv(b, start(b)), 0.2, 4)
    b.op("Sigmoid", x)
    path = b.save(tmp_path, finish(b, x, 80))
    agree(path, images(*IMAGE))
    assert becomes(path)["Sigmoid"] == "no output of the network needs it"
    assert check_model(path).count("unused") == 1
