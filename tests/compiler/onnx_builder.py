"""Small ONNX and QONNX graphs for tests, and an integer inference of its own to compare with."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dipole.compiler.network import Network

QONNX = "qonnx.custom_op.general"


class Build:
    """A graph under construction: every method adds a node and returns the name of its output."""

    def __init__(self, opset: int = 13, domain: str = QONNX) -> None:
        self.opset, self.domain = opset, domain
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.count = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = self.name("k")
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def input(self, *dims: int | str | None, batch: int | str | None = 1, kind: int = TensorProto.FLOAT) -> str:
        name = self.name("x")
        self.inputs.append(helper.make_tensor_value_info(name, kind, [batch, *dims]))
        return name

    def op(self, op_type: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        names = [self.name(op_type.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def quant(
        self, x: str, scale: Any, bits: float, *, zero: Any = 0.0, signed: int = 1, narrow: int = 0,
        rounding: str | None = "ROUND", op: str = "Quant",
    ) -> str:  # fmt: skip
        attributes: dict[str, Any] = {"signed": signed, "narrow": narrow}
        if rounding is not None:
            attributes["rounding_mode"] = rounding
        inputs = (x, self.const(scale), self.const(zero), self.const(bits))
        return self.op(op, *inputs, domain=self.domain, **attributes)

    def weights(self, array: np.ndarray, scale: Any = 0.1, bits: float = 4, **kwargs: Any) -> str:
        return self.quant(self.const(array), scale, bits, **kwargs)

    def bipolar(self, x: str, scale: Any = 1.0) -> str:
        return self.op("BipolarQuant", x, self.const(scale), domain=self.domain)

    def batch_norm(self, x: str, rng: np.random.Generator, channels: int, negative: bool = True, **kwargs: Any) -> str:
        slope = rng.uniform(0.3, 2, channels) * (1 - 2 * (np.arange(channels) % 2) if negative else 1)
        parameters = (slope, rng.normal(size=channels), rng.normal(size=channels), rng.uniform(0.2, 3, channels))
        return self.op("BatchNormalization", x, *map(self.const, parameters), **kwargs)

    def model(self, *outputs: str, static_inputs: bool = False) -> onnx.ModelProto:
        inputs = list(self.inputs)
        if static_inputs:
            inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.initializers]
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", inputs, values, self.initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, folder: Path, *outputs: str, **kwargs: Any) -> Path:
        path = folder / "model.onnx"
        onnx.save(self.model(*outputs, **kwargs), path)
        return path


def integers(codes: np.ndarray, format: Any) -> np.ndarray:
    return format.alpha * codes.astype(np.float64) + format.delta


def convolve(x: np.ndarray, w: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int]) -> np.ndarray:
    """Float64 convolution with zero padding: exact on integers."""
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1]]
    return np.einsum("nchwij,ocij->nohw", windows, w, optimize=True)


def infer(network: Network, codes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None, np.ndarray | None]]:
    """Accumulators, codes and pooled codes of every layer, from nothing but the integer network."""
    results = []
    for layer in network.layers:
        weights = integers(layer.weights, layer.weight_format)
        y = convolve(integers(codes, layer.input_format), weights, layer.stride, layer.padding).astype(np.int64)
        if layer.thresholds is None or layer.sign is None:
            results.append((y, None, None))
            break
        made = np.empty(y.shape, np.uint8)
        for channel, (sign, thresholds) in enumerate(zip(layer.sign, layer.thresholds, strict=True)):
            made[:, channel] = np.searchsorted(thresholds, int(sign) * y[:, channel], side="right")
        codes = made
        if layer.pool is not None:
            top, left, bottom, right = layer.pool.padding
            padded = np.pad(made, ((0, 0), (0, 0), (top, bottom), (left, right)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, layer.pool.kernel, axis=(2, 3))
            codes = windows[:, :, :: layer.pool.stride[0], :: layer.pool.stride[1]].max(axis=(4, 5))
        results.append((y, made, codes))
    return results
