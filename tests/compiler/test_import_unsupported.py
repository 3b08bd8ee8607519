"""Every reason to refuse a model: reported at its node, with the others, and in one line on import."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_builder import Build

from dipole.compiler.graph import ModelError
from dipole.compiler.importer import check_model, import_network
from dipole.compiler.report import Report


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def w(*shape: int) -> np.ndarray:
    return rng().normal(size=shape)


def start(b: Build) -> str:
    return b.quant(b.input(3, 6, 6), 0.05, 6)


def conv(b: Build, x: str, **kwargs: Any) -> str:
    return b.op("Conv", x, b.weights(w(5, 3, 3, 3)), **kwargs)


def act(b: Build, x: str) -> str:
    return b.quant(x, 0.2, 4)


def last(b: Build, x: str, features: int = 80) -> str:
    return b.op("Gemm", b.op("Flatten", x), b.weights(w(4, features)), transB=1)


# Each case: build -> output; the operation that is blamed; the reason.
Case = tuple[str, Callable[[Build], str], str, str]


def chain(middle: Callable[[Build, str], str], features: int = 80) -> Callable[[Build], str]:
    """Conv, then `middle` on the accumulators, then a quantizer and the last layer."""
    return lambda b: last(b, act(b, middle(b, conv(b, start(b)))), features)


def codes(middle: Callable[[Build, str], str], features: int = 80) -> Callable[[Build], str]:
    """The same with `middle` on the codes."""
    return lambda b: last(b, middle(b, act(b, conv(b, start(b)))), features)


def custom_weights(**kwargs: Any) -> Callable[[Build], str]:
    scale = kwargs.pop("scale", 0.1)
    return lambda b: last(b, act(b, b.op("Conv", start(b), b.weights(w(5, 3, 3, 3), scale, **kwargs))))


def custom_act(**kwargs: Any) -> Callable[[Build], str]:
    scale, bits = kwargs.pop("scale", 0.2), kwargs.pop("bits", 4)
    return lambda b: last(b, b.quant(conv(b, start(b)), scale, bits, **kwargs))


def float_quant(b: Build, x: str) -> str:
    inputs = [x, *(b.const(v) for v in (1.0, 4, 3, 7, 240.0))]
    return b.op("FloatQuant", *inputs, domain=b.domain, has_inf=0, has_nan=0, has_subnormal=1, saturation=1)


def residual(b: Build) -> str:
    x = act(b, conv(b, start(b)))
    y = act(b, b.op("Conv", x, b.weights(w(5, 5, 1, 1))))
    return last(b, act(b, b.op("Add", x, y)))


def two_readers(b: Build) -> str:
    x = act(b, conv(b, start(b)))
    y = b.op("Conv", x, b.weights(w(5, 5, 1, 1)))
    z = b.op("Conv", x, b.weights(w(5, 5, 1, 1)))
    return b.op("Add", y, z)


def concat(b: Build) -> str:
    x = act(b, conv(b, start(b)))
    return last(b, b.op("Concat", x, b.op("Identity", x), axis=1), 160)


def dynamic_scale(b: Build) -> str:
    y = conv(b, start(b))
    return last(b, b.op("Quant", y, b.op("Relu", y), b.const(0), b.const(4), domain=b.domain, signed=1, narrow=0))


def left_weights(b: Build) -> str:
    return b.op("MatMul", b.weights(w(4, 7)), b.op("Transpose", b.quant(b.input(7), 0.05, 6), perm=[1, 0]))


def two_activations(b: Build) -> str:
    x = b.quant(b.input(7), 0.05, 6)
    y = b.quant(b.op("MatMul", x, b.weights(w(7, 7))), 0.1, 4)
    return b.op("MatMul", y, b.op("Transpose", b.op("Identity", x), perm=[1, 0]))


def channel_scale_per_input(b: Build) -> str:
    scale = np.array([0.1, 0.2, 0.1]).reshape(1, 3, 1, 1)
    return last(b, act(b, b.op("Conv", start(b), b.weights(w(5, 3, 3, 3), scale))))


def batch_mixing(b: Build) -> str:
    x = act(b, conv(b, start(b)))
    return b.op("Gemm", b.op("Reshape", x, b.const([-1, 40], np.int64)), b.weights(w(40, 3)))


def second_quant_on_input(b: Build) -> str:
    return last(b, act(b, conv(b, b.quant(start(b), 0.3, 3))))


def norm(b: Build, x: str, **kwargs: Any) -> str:
    return b.batch_norm(x, rng(), 5, **kwargs)


def mul(value: Any) -> Callable[[Build, str], str]:
    return lambda b, x: b.op("Mul", x, b.const(value))


def op(op_type: str, **kwargs: Any) -> Callable[[Build, str], str]:
    return lambda b, x: b.op(op_type, x, **kwargs)


CASES: list[Case] = [
    ("depthwise", lambda b: last(b, act(b, b.op("Conv", start(b), b.weights(w(3, 1, 3, 3)), group=3)), 48), "Conv",
     r"depthwise convolution \(group = 3\) is not supported"),
    ("grouped", lambda b: last(b, act(b, b.op("Conv", act(b, b.op("Conv", start(b), b.weights(w(4, 3, 3, 3)))),
     b.weights(w(4, 2, 1, 1)), group=2)), 64), "Conv", r"grouped convolution \(group = 2\)"),
    ("dilated", lambda b: last(b, act(b, conv(b, start(b), dilations=[2, 2])), 20), "Conv", "dilated convolution"),
    ("conv 3d", lambda b: b.op("Conv", b.quant(b.input(3, 4, 4), 0.1, 4), b.weights(w(5, 3, 3, 3, 3))), "Conv",
     "5 axes"),
    ("wrong channels", lambda b: last(b, act(b, b.op("Conv", start(b), b.weights(w(5, 4, 3, 3))))), "Conv",
     "4 input channels, its input has 3"),
    ("kernel too large", lambda b: last(b, act(b, b.op("Conv", start(b), b.weights(w(5, 3, 7, 7)))), 5), "Conv",
     r"kernel \[7, 7\] does not fit"),
    ("contradicting kernel", lambda b: last(b, act(b, conv(b, start(b), kernel_shape=[5, 5]))), "Conv", "contradicts"),
    ("float weights", lambda b: last(b, act(b, b.op("Conv", start(b), b.const(w(5, 3, 3, 3))))), "Conv",
     "weights are not quantized"),
    ("float activations", lambda b: last(b, b.op("Relu", conv(b, start(b)))), "Gemm",
     "its input, the output of layer Conv_0, is not quantized"),
    ("float input", lambda b: last(b, act(b, conv(b, b.input(3, 6, 6)))), "Conv", "the graph input is not quantized"),
    ("weight bits", custom_weights(bits=9), "Quant", "weights of layer Conv_0: bit width 9"),
    ("weight bits fraction", custom_weights(bits=3.5), "Quant", r"bit width 3\.5"),
    ("weight zero point", custom_weights(zero=0.3), "Quant", r"zero point 0\.3"),
    ("weight scale per input channel", channel_scale_per_input, "Conv", "varies along the input channels"),
    ("negative scale", custom_weights(scale=-0.1), "Quant", "scale must be positive and finite"),
    ("activation bits", custom_act(bits=10), "Quant", "bit width 10"),
    ("activation zero point", custom_act(zero=2.5), "Quant", r"zero point 2\.5"),
    ("activation scale per channel", custom_act(scale=np.linspace(0.1, 0.2, 5).reshape(1, 5, 1, 1)), "Quant",
     "scale differs from channel to channel"),
    ("unknown rounding", custom_act(rounding="STOCHASTIC"), "Quant", "rounding mode 'STOCHASTIC' is not supported"),
    ("no signed attribute", lambda b: last(b, b.op("Quant", conv(b, start(b)), *map(b.const, (0.1, 0, 4)),
     domain=b.domain)), "Quant", "attribute 'signed' is missing"),
    ("unknown domain", lambda b: last(b, b.op("Quant", conv(b, start(b)), *map(b.const, (0.1, 0, 4)), domain="acme",
     signed=1, narrow=0)), "Quant", "operation of domain 'acme' is not supported"),
    ("dynamic scale", dynamic_scale, "Quant", r"scale is computed from activations \(dynamic\)"),
    ("float quant", chain(float_quant), "FloatQuant", "minifloat quantization"),
    ("trunc", codes(lambda b, x: b.op("Trunc", x, *map(b.const, (0.2, 0, 4, 2)), domain=b.domain)), "Trunc",
     "truncation"),
    ("qdq", lambda b: last(b, b.op("QuantizeLinear", conv(b, start(b)), b.const(0.1), b.const(0, np.int8))),
     "QuantizeLinear", "QCDQ quantization is not supported: convert with QCDQToQuant"),
    ("residual", residual, "Add", r"combines two activations \(residual or gating\)"),
    ("two readers", two_readers, "Conv", "is already used by node 'Conv_1': branches"),
    ("concat", concat, "Concat", "concatenates activations"),
    ("average pool", codes(op("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), 20), "AveragePool",
     "average pooling"),
    ("global average pool", codes(op("GlobalAveragePool"), 5), "GlobalAveragePool", "average pooling"),
    ("reduce mean", codes(op("ReduceMean", axes=[2, 3], keepdims=0), 5), "ReduceMean", "average pooling"),
    ("sigmoid", chain(op("Sigmoid")), "Sigmoid", "this activation function is not supported"),
    ("tanh", chain(op("Tanh")), "Tanh", "this activation function is not supported"),
    ("softmax", chain(op("Softmax", axis=1)), "Softmax", "in the middle of the network"),
    ("argmax", lambda b: b.op("Cast", b.op("Relu", b.op("Cast", b.op("ArgMax", last(b, act(b, conv(b, start(b))))),
     to=1)), to=1), "ArgMax", "only as the last operation"),
    ("unknown op", chain(op("Erf")), "Erf", "operation is not supported"),
    ("pad", codes(lambda b, x: b.op("Pad", x, b.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64)), 180), "Pad",
     "padding on its own"),
    ("constant over activation", chain(lambda b, x: b.op("Div", b.const(1.0), x)), "Div", "not monotone"),
    ("divide by zero", chain(lambda b, x: b.op("Div", x, b.const(0.0))), "Div", "divides by zero"),
    ("constant inside a channel", chain(lambda b, x: b.op("Add", x, b.const(w(1, 5, 4, 4)))), "Add",
     "differs inside a channel"),
    ("constant too large", chain(lambda b, x: b.op("Add", x, b.const(w(2, 5, 4, 4)))), "Add",
     "does not fit the activation"),
    ("double constant", chain(lambda b, x: b.op("Add", x, b.const(1.0, np.float64))), "Add", "has type float64"),
    ("training batch norm", chain(lambda b, x: norm(b, x, training_mode=1)), "BatchNormalization", "training mode"),
    ("negative variance", chain(lambda b, x: b.op("BatchNormalization", x, *map(b.const, (np.ones(5),) * 3),
     b.const(-np.ones(5)))), "BatchNormalization", "not finite numbers"),
    ("batch norm size", chain(lambda b, x: b.op("BatchNormalization", x, *map(b.const, (np.ones(4),) * 4))),
     "BatchNormalization", r"scale has shape \[4\], must be \[5\]"),
    ("pool before negative slope", chain(lambda b, x: norm(b, b.op("MaxPool", x, kernel_shape=[2, 2])), 45),
     "MaxPool", "max pool before a step of negative slope"),
    ("two pools", codes(lambda b, x: b.op("MaxPool", b.op("MaxPool", x, kernel_shape=[2, 2]), kernel_shape=[2, 2]), 20),
     "MaxPool", "a second max pool behind layer Conv_0"),
    ("pool of the input", lambda b: last(b, act(b, conv(b, b.op("MaxPool", start(b), kernel_shape=[2, 2]))), 45),
     "MaxPool", "max pooling of the graph input"),
    ("dilated pool", codes(op("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), 20), "MaxPool", "dilated max pooling"),
    ("pool of channels last", codes(lambda b, x: b.op("MaxPool", b.op("Transpose", x, perm=[0, 2, 3, 1]),
     kernel_shape=[1, 1])), "MaxPool", "not in the layout"),
    ("pool indices", lambda b: b.op("Add", *b.op("MaxPool", act(b, conv(b, start(b))), kernel_shape=[2, 2], outputs=2)),
     "MaxPool", "only the first is"),
    ("transposed conv input", lambda b: b.op("Conv", b.op("Transpose", act(b, conv(b, start(b))), perm=[0, 1, 3, 2]),
     b.weights(w(2, 5, 1, 1))), "Conv", "transposed or reshaped"),
    ("reshaped conv input", lambda b: b.op("Conv", b.op("Reshape", act(b, conv(b, start(b))), b.const([1, 5, 2, 8],
     np.int64)), b.weights(w(2, 5, 1, 1))), "Conv", "transposed or reshaped"),
    ("mixed batch", batch_mixing, "Reshape", "mixes the images of a batch"),
    ("impossible view", lambda b: b.op("Gemm", b.op("Reshape", start(b), b.const([1, 7], np.int64)),
     b.weights(w(7, 3))), "Reshape", r"does not fit the activation of shape \[3, 6, 6\]"),
    ("dynamic view", lambda b: b.op("Reshape", start(b), b.op("Cast", b.op("Identity", "x1"), to=TensorProto.INT64)),
     "Cast", "another type than float32"),
    ("left weights", left_weights, "Transpose", "mixes the images"),
    ("two activations", two_activations, "Transpose", "mixes the images"),
    ("dense per position", lambda b: b.op("MatMul", start(b), b.weights(w(6, 2))), "MatMul",
     "multiplies at 18 positions"),
    ("dense size", lambda b: b.op("MatMul", b.quant(b.input(7), 0.1, 4), b.weights(w(6, 2))), "MatMul",
     "6 inputs, its input has 7"),
    ("transposed activations", lambda b: b.op("Gemm", b.quant(b.input(7), 0.1, 4), b.weights(w(7, 2)), transA=1),
     "Gemm", "transA = 1"),
    ("negative alpha", lambda b: b.op("Gemm", b.quant(b.input(7), 0.1, 4), b.weights(w(7, 2)), alpha=-1.0),
     "Gemm", "alpha = -1"),
    ("changed codes", codes(lambda b, x: b.op("Add", x, b.const(0.3))), "Add",
     "changes the values behind their quantizer"),
    ("clipped codes", codes(lambda b, x: b.op("Clip", x, b.const(-0.3), b.const(0.3))), "Clip",
     "put a Quant behind it"),
    ("changed input", lambda b: last(b, act(b, conv(b, b.quant(mul(2.0)(b, b.input(3, 6, 6)), 0.1, 4)))), "Mul",
     "changes the graph input before its quantizer"),
    ("transposed input", lambda b: b.op("Flatten", b.op("Conv", b.quant(b.op("Transpose", b.input(6, 6, 3),
     perm=[0, 3, 1, 2]), 0.1, 4), b.weights(w(5, 3, 3, 3)))), "Quant", "the graph input is transposed"),
    ("second input quantizer", second_quant_on_input, "Quant", "a second, different quantizer on the input"),
    ("relu at the end", lambda b: b.op("Relu", last(b, act(b, conv(b, start(b))))), "Relu",
     "comes after the last layer without a quantizer"),
    ("pool at the end", lambda b: b.op("MaxPool", conv(b, start(b)), kernel_shape=[2, 2]), "MaxPool",
     "after the last layer needs a quantizer"),
    ("multithreshold scale", chain(lambda b, x: b.op("MultiThreshold", x, b.const([[0.0]]), domain=b.domain,
     out_dtype="INT2", out_scale=-1.0)), "MultiThreshold", "out_scale -1"),
    ("multithreshold layout", chain(lambda b, x: b.op("MultiThreshold", x, b.const([[0.0]]), domain=b.domain,
     out_dtype="INT2", data_layout="NHWC")), "MultiThreshold", "data layout 'NHWC'"),
    ("dropout in training", codes(lambda b, x: b.op("Dropout", x, b.const(0.5), b.const(True, bool))), "Dropout",
     "training mode"),
    ("random constants", chain(lambda b, x: b.op("Add", x, b.op("RandomNormal", shape=[1]))), "RandomNormal",
     "not even on constants"),
]  # fmt: skip


def blamed(report: Report) -> list[tuple[str, str]]:
    return [(row.op, row.becomes) for row in report.nodes if row.problem]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_refused(tmp_path: Path, case: Case) -> None:
    _, build, op_type, reason = case
    b = Build()
    path = b.save(tmp_path, build(b))
    report = check_model(path)
    assert not report.ok and report.network is None
    assert any(op == op_type and re.search(reason, text) for op, text in blamed(report)), report.all_problems
    assert len(report.nodes) == len(b.nodes) and all(row.becomes for row in report.nodes)
    with pytest.raises(ModelError) as error:
        import_network(path)
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(path)) and f"dipole check {path}" in message
    assert report.all_problems[0] in message


# Where one node is wrong, no other node is blamed for it.
@pytest.mark.parametrize("case", [case for case in CASES if case[0] not in {
    "conv 3d", "argmax", "two readers", "left weights", "two activations", "concat", "pool indices", "dynamic scale",
    "dynamic view"}], ids=lambda case: case[0])  # fmt: skip
def test_one_fault_is_one_problem(tmp_path: Path, case: Case) -> None:
    b = Build()
    report = check_model(b.save(tmp_path, case[1](b)))
    assert len(report.all_problems) == 1, report.all_problems


def test_float_network_lists_every_layer(tmp_path: Path) -> None:
    b = Build()
    x = b.op("Relu", b.op("Conv", b.input(3, 6, 6), b.const(w(5, 3, 3, 3))))
    x = b.op("Conv", x, b.const(w(5, 5, 3, 3)))
    path = b.save(tmp_path, b.op("Gemm", b.op("Flatten", b.op("Sigmoid", x)), b.const(w(20, 4))))
    report = check_model(path)
    assert report.problems == ["no Quant node: a floating-point network; train it quantized and export QONNX"]
    assert [op for op, _ in blamed(report)] == ["Conv", "Conv", "Sigmoid", "Gemm"]
    assert all("weights are not quantized" in text for op, text in blamed(report) if op in ("Conv", "Gemm"))
    with pytest.raises(ModelError, match=r"no Quant node.*\(first of 5 problems\); 'dipole check "):
        import_network(path)


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Faults of different kinds in one graph, several in one node."""
    b = Build()
    x = b.op("Conv", start(b), b.const(w(3, 1, 3, 3)), group=3, dilations=[2, 2])
    x = b.op("GlobalAveragePool", act(b, b.op("Tanh", x)))
    x = b.quant(b.op("Conv", x, b.weights(w(6, 3, 1, 1), bits=12)), 0.1, 9)
    path = b.save(tmp_path, b.op("Gemm", b.op("Flatten", x), b.const(w(6, 4))))
    problems = "\n".join(check_model(path).all_problems)
    for reason in ("depthwise", "dilated", "Conv_0.*weights are not quantized", "Tanh", "GlobalAveragePool",
                   "Conv_1: bit width 12", "bit width 9", "Gemm_0.*weights are not quantized"):  # fmt: skip
        assert re.search(reason, problems), problems
    assert len(problems.splitlines()) == 6


def test_nodes_behind_an_unknown_one_are_blocked(tmp_path: Path) -> None:
    b = Build()
    x = b.op("Frobnicate", start(b), domain="acme")
    report = check_model(b.save(tmp_path, last(b, act(b, conv(b, x)))))
    assert [op for op, _ in blamed(report)] == ["Frobnicate"]
    assert report.count("blocked") == 4
    texts = [row.becomes for row in report.nodes if row.status == "blocked"]
    assert all("not judged: node or tensor 'Frobnicate_0' before it" in text for text in texts)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda b: conv(b, b.quant(b.input(3, 6, 6, kind=TensorProto.UINT8), 0.1, 4)),
         "has type uint8: only float inputs that go through a Quant"),
        (lambda b: conv(b, b.quant(b.input(3, "H", 6), 0.1, 4)), r"shape \[1, 3, 'H', 6\]: must be batch, channels"),
        (lambda b: conv(b, b.quant(b.input(3, 6, 6, 6), 0.1, 4)), "must be batch, channels"),
        (lambda b: b.quant(b.input(3), 0.1, 4), "no Conv, Gemm or MatMul"),
        (lambda b: b.op("Add", start(b), b.input(3, 6, 6)), r"2 inputs \('x1', 'x6'\), must have 1"),
        (lambda b: b.op("Identity", b.const([1.0])), "does not depend on the input"),
        (lambda b: b.op("Conv", start(b), "ghost"), "'ghost' is used but defined nowhere"),
    ],
)  # fmt: skip
def test_problems_of_the_graph(tmp_path: Path, build: Callable[[Build], str], reason: str) -> None:
    b = Build()
    report = check_model(b.save(tmp_path, build(b)))
    assert any(re.search(reason, problem) for problem in report.problems), report.problems


@pytest.mark.parametrize("opset", [7, 8, 22])
def test_opset_out_of_range(tmp_path: Path, opset: int) -> None:
    b = Build(opset)
    path = b.save(tmp_path, last(b, act(b, conv(b, start(b)))))
    assert f"opset {opset} is not supported: export with an opset in 9..21" in check_model(path).problems


def test_two_outputs(tmp_path: Path) -> None:
    b = Build()
    x = act(b, conv(b, start(b)))
    report = check_model(b.save(tmp_path, last(b, x), x))
    assert any("is an output of the network and read again" in problem for problem in report.all_problems)


def test_cycle_and_double_definition(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["x"], ["c"]), helper.make_node("Relu", ["x"], ["c"]),
    ]  # fmt: skip
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "a", "c")]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save(model, tmp_path / "c.onnx")
    problems = "\n".join(check_model(tmp_path / "c.onnx").all_problems)
    assert "the graph has a cycle through node" in problems and "tensor 'c' is defined twice" in problems
