# pyright: reportMissingImports=false
"""A trained network as a standard QONNX file.

The odd ladder is `Quant` with scale 2/L, zero point L/2, unsigned, HALF_UP, L = 2^b - 1, and `BipolarQuant` at one bit;
unsigned codes are `Quant` with scale 1/L and zero point 0. Weights are written as the quantized reals themselves, in
the middle of a step, so no tool can round them to another code. The last layer's gain is part of its weight scale.
The batch size in the file is 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .checkpoint import write_whole
from .errors import TrainError
from .networks import QuantNetwork
from .precision import ActivationKind

__all__ = ["export_qonnx", "to_qonnx"]

_DOMAIN = "qonnx.custom_op.general"
_OPSET = 13


class _Graph:
    """Nodes and initializers as they come."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: Any) -> str:
        self.initializers[name] = np.asarray(value, np.float32)
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        domain = _DOMAIN if op in ("Quant", "BipolarQuant") else ""
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}_{op}", domain=domain, **attributes))
        return output

    def quant(self, x: str, output: str, bits: int, scale: float, zero_point: float) -> str:
        parameters = [
            self.constant(f"{output}_scale", scale),
            self.constant(f"{output}_zero_point", zero_point),
            self.constant(f"{output}_bits", bits),
        ]
        return self.add("Quant", [x, *parameters], output, signed=0, narrow=0, rounding_mode="HALF_UP")

    def odd(self, x: str, output: str, bits: int, gain: float = 1.0) -> str:
        """Odd ladder with the values gain * o/L."""
        if bits == 1:
            return self.add("BipolarQuant", [x, self.constant(f"{output}_scale", gain)], output)
        levels = (1 << bits) - 1
        return self.quant(x, output, bits, gain * 2 / levels, levels / 2)

    def unsigned(self, x: str, output: str, bits: int) -> str:
        return self.quant(x, output, bits, 1 / ((1 << bits) - 1), 0)

    def activation(self, x: str, output: str, bits: int, kind: ActivationKind) -> str:
        if kind == "unsigned":
            return self.unsigned(x, output, bits)
        if kind == "odd-relu":
            x = self.add("Relu", [x], f"{output}_relu")
        return self.odd(x, output, bits)


def _array(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def to_qonnx(
    network: QuantNetwork, name: str = "network", metadata: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """The model; TrainError where a layer is in full precision."""
    spec = network.spec
    precision = spec.precision.spread(spec.layers)
    if not precision.quantized:
        raise TrainError(
            f"{name}: a network with layers in full precision has no integer form; give bits to every layer"
        )
    graph = _Graph()
    x = graph.unsigned("x", "input", precision.input_bits)
    flat = len(spec.input_shape) == 1
    if spec.architecture == "mlp" and not flat:
        x, flat = graph.add("Flatten", [x], "flat", axis=1), True

    for index, block in enumerate(network.hidden):
        layer, norm = block.layer, block.norm
        bits, act = precision.weights[index], precision.activations[index]
        assert bits is not None and act is not None
        base = f"layer{index + 1}"
        w = graph.constant(f"{base}_weight", _array(layer.quantized_weight()))
        w = graph.odd(w, f"{base}_weight_codes", bits)
        if spec.architecture == "cnn":
            x = graph.add("Conv", [x, w], f"{base}_sums", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1],
                          dilations=[1, 1], group=1)  # fmt: skip
        else:
            x = graph.add("Gemm", [x, w], f"{base}_sums", transB=1)
        parameters = [
            graph.constant(f"{base}_norm_{key}", _array(getattr(norm, key)))
            for key in ("weight", "bias", "running_mean", "running_var")
        ]
        x = graph.add("BatchNormalization", [x, *parameters], f"{base}_norm", epsilon=float(norm.eps))
        x = graph.activation(x, f"{base}_codes", act, precision.kind)
        if spec.pools[index]:
            x = graph.add("MaxPool", [x], f"{base}_pool", kernel_shape=[2, 2], strides=[2, 2])

    if not flat and spec.architecture == "cnn":
        x = graph.add("Flatten", [x], "flat", axis=1)
    last, bits = network.last, precision.weights[-1]
    assert bits is not None and last.log_gain is not None
    gain = float(np.exp(np.float32(last.log_gain.item())))
    w = graph.constant("last_weight", _array(last.quantized_weight()) * np.float32(gain))
    w = graph.odd(w, "last_weight_codes", bits, gain)
    graph.add("Gemm", [x, w, graph.constant("last_bias", _array(last.bias))], "scores", transB=1)

    made = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *spec.input_shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, spec.classes])],
        [numpy_helper.from_array(array, key) for key, array in graph.initializers.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(made, opset_imports=opsets, producer_name="dipole", ir_version=8)
    helper.set_model_props(model, {"license": "Apache-2.0", **(metadata or {})})
    return model


def export_qonnx(network: QuantNetwork, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the file, whole or not at all."""
    write_whole(path, to_qonnx(network, path.stem, metadata).SerializeToString())
