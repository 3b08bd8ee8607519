"""QONNX's own execution of a model as the reference, and its real tensors as integers.

`reference_tensors` runs `qonnx.core.onnx_exec` on any number of images, whatever batch size the file was frozen with;
tensor names stay those of the file. `layer_integers` turns the tensors of each layer into codes and accumulators.

Rounding. A code tensor holds float32((q - z) * scale) with |q - z| <= 510: relative errors of 2^-23 move it by less
than 1/10000 of a step, so rounding is safe; a value further than 1/100 from an integer is an error. An accumulator is a
float32 sum of n products in an order of onnxruntime's choice. Its error is at most (n + 6) * 2^-24 * sum|a*w| steps,
the classical bound; `accumulator_bound` takes the largest sum|a*w| there is. Below 1/2, rounding gives the integer
for certain (`accumulator_certain`); above, `accumulator_residual`, the largest distance to an integer seen, has to do.

Exact sums. That noise can move a real accumulator across a threshold; then QONNX's code is not a function of y at all
(two pixels with equal y and different codes), and no integer machine can follow. So `reference_tensors` has a mode in
which QONNX executes all but the sums of Conv, Gemm and MatMul: those are the correctly rounded float32(y * scale).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from .graph import Graph, ModelError, attributes, evaluate, load_model, set_batch
from .network import Conv, Format, Network

__all__ = ["LayerIntegers", "layer_integers", "reference_tensors"]

EXACT = " (exact integer sums)"
"""Suffix of the names of integer accumulators among the tensors."""


@dataclass(frozen=True, eq=False)
class LayerIntegers:
    """Integers of one layer in QONNX's execution; None where the file has no such tensor."""

    name: str
    accumulators: np.ndarray | None
    """int64 [images, channels, height, width], y = sum(a * w)."""
    accumulator_bound: float
    """Largest possible error of the real accumulators, in units of y."""
    accumulator_residual: float
    """Largest distance of a real accumulator to the nearest integer that was seen."""
    codes: np.ndarray | None
    """uint8 [images, channels, height, width] behind the quantizer."""
    pooled: np.ndarray | None
    """uint8 [images, channels, height, width] behind the max pool."""
    output: np.ndarray | None
    """float32 [images, channels, height, width]: the real output, last layer only."""

    @property
    def accumulator_certain(self) -> bool:
        """Whether the rounding of the accumulators is proved."""
        return self.accumulator_bound < 0.5


def reference_tensors(path: str | Path, images: np.ndarray, *, exact: Network | None = None) -> dict[str, np.ndarray]:
    """All tensors of QONNX's execution on float32 images [n, ...], by their names in the file.

    `exact`, the imported network: the sums of every Conv, Gemm and MatMul are replaced by the exact ones, see above.
    """
    import warnings

    graph = Graph(load_model(path))
    if len(graph.inputs) != 1 or graph.problems:
        raise ModelError(f"{path}: {(graph.problems or ['must have one input'])[0]}; see 'dipole check {path}'")
    dims = [dim.dim_value for dim in graph.inputs[0].type.tensor_type.shape.dim][1:]
    images = np.ascontiguousarray(images, dtype=np.float32)
    if images.ndim < 1 or len(images) == 0 or images[0].size != int(np.prod(dims)):
        raise ModelError(f"{path}: images of shape {list(images.shape)} do not fit the input {dims} of one image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # qonnx and onnx warn of deprecations of their own
            return _execute(graph, images.reshape(len(images), *dims), exact)
    except Exception as error:
        raise ModelError(f"{path}: QONNX cannot execute the model: {' '.join(str(error).split())[:200]}") from error


def _execute(graph: Graph, images: np.ndarray, exact: Network | None) -> dict[str, np.ndarray]:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.fold_constants import FoldConstants
    from qonnx.transformation.general import RemoveUnusedTensors
    from qonnx.transformation.infer_shapes import InferShapes

    model = ModelWrapper(_used(set_batch(graph, len(images)), graph))
    # Quantizers stay, so that their tensors keep their names; cleanup_model would rename every tensor.
    keep = ["Quant", "IntQuant", "BipolarQuant"]
    for transform in (InferShapes(), FoldConstants(exclude_op_types=keep), RemoveUnusedTensors(), InferShapes()):
        model = model.transform(transform)
    nodes = list(model.graph.node)
    layers = {layer.qonnx_tensors["accumulator"]: layer for layer in exact.layers} if exact else {}
    ends = [k for k, node in enumerate(nodes) if node.output[0] in layers]
    context = {graph.inputs[0].name: images}
    integers = {}
    for first, last in zip([0, *[k + 1 for k in ends]], [*ends, len(nodes) - 1], strict=True):
        if first <= last:
            context = execute_onnx(model, _arrays(context), True, nodes[first], nodes[last])
        name = nodes[last].output[0]
        if name in layers:
            integers[name + EXACT] = _exact_sums(nodes[last], layers[name], context, graph.opset)
            context[name] = _real(nodes[last], integers[name + EXACT], layers[name])
    return _arrays(context) | integers


def _arrays(context: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in context.items() if isinstance(array, np.ndarray)}


def _exact_sums(node: onnx.NodeProto, layer: Conv, context: dict[str, np.ndarray], opset: int) -> np.ndarray:
    """Integer accumulators of a layer node: the node itself on the integers of its operands.

    float32 holds the sums exactly below 2^24. Operands are cut into 4-bit pieces where the bound asks for it.
    """
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    for attribute in list(plain.attribute):
        if attribute.name in ("alpha", "beta"):
            plain.attribute.remove(attribute)
    assert layer.weight_scale is not None
    transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attributes(node).get("transB", 0))
    weights = context[node.input[1]].astype(np.float64)
    alpha = float(attributes(node).get("alpha", 1.0))
    scale = layer.weight_scale.astype(np.float64) / alpha
    shape = (1, -1) if transposed else (-1, *[1] * (weights.ndim - 1))
    weights = np.round(weights / scale.reshape(shape)).astype(np.int64)
    inputs = np.round(context[node.input[0]].astype(np.float64) / layer.input_scale).astype(np.int64)
    products = layer.weights[0].size
    total = np.zeros(1, np.int64)
    for shift_a, a in _pieces(inputs, products * 256 * 256 >= 1 << 24):
        for shift_w, w in _pieces(weights, products * 16 * 256 >= 1 << 24):
            if products * int(np.abs(a).max(initial=0)) * int(np.abs(w).max(initial=0)) >= 1 << 24:
                raise ValueError(f"layer {layer.name!r} sums {products} products, too many for an exact reference")
            part = evaluate(plain, [a.astype(np.float32), w.astype(np.float32)], max(opset, 13))[0]  # Gemm without bias
            total = total + (part.astype(np.int64) << (shift_a + shift_w))
    return total


def _pieces(values: np.ndarray, cut: bool) -> list[tuple[int, np.ndarray]]:
    """(shift, part) with values = sum of part << shift."""
    return [(0, values & 15), (4, values >> 4)] if cut else [(0, values)]


def _real(node: onnx.NodeProto, sums: np.ndarray, layer: Conv) -> np.ndarray:
    """The real accumulators, as `thresholds.code_function` has them: rounded once, then the bias."""
    assert layer.weight_scale is not None
    shape = (1, -1, *[1] * (sums.ndim - 2)) if node.op_type == "Conv" else (-1,)
    scale = (layer.weight_scale.astype(np.float64) * layer.input_scale).reshape(shape)
    real = (sums * scale).astype(np.float32)
    return real if layer.accumulator_bias is None else real + layer.accumulator_bias.reshape(shape)


def _used(model: onnx.ModelProto, graph: Graph) -> onnx.ModelProto:
    """The model without nodes that no output needs."""
    nodes = [node for node, live in zip(model.graph.node, graph.live, strict=True) if live]
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def layer_integers(network: Network, tensors: dict[str, np.ndarray]) -> list[LayerIntegers]:
    """The integers of every layer in a result of `reference_tensors`; ModelError where a code tensor holds no codes."""
    results, size = [], network.input_shape[1:]
    for layer in network.layers:
        before = _windows(size, layer.weights.shape[2:], layer.stride, layer.padding)
        size = _windows(before, layer.pool.kernel, layer.pool.stride, layer.pool.padding) if layer.pool else before
        results.append(_layer(layer, tensors, before, size))
    return results


def _windows(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Sequence[int]:
    return [(size[k] + padding[k] + padding[k + 2] - kernel[k]) // stride[k] + 1 for k in (0, 1)]


def _layer(layer: Conv, tensors: dict[str, np.ndarray], before: Sequence[int], behind: Sequence[int]) -> LayerIntegers:
    names = layer.qonnx_tensors
    channels = layer.weights.shape[0]

    def shaped(kind: str) -> np.ndarray | None:
        tensor = tensors.get(names.get(kind, ""))
        if tensor is None:
            return None
        return tensor.reshape(len(tensor), channels, *(before if kind in ("accumulator", "codes") else behind))

    def codes(kind: str) -> np.ndarray | None:
        tensor = shaped(kind)
        if tensor is None or layer.output_format is None:
            return None
        return _codes(tensor, layer.output_format, layer.output_code_scale, f"layer {layer.name!r}, {names[kind]!r}")

    real, sums = shaped("accumulator"), tensors.get(names.get("accumulator", "") + EXACT)
    accumulators, residual, bound = None, 0.0, 0.0
    if real is not None:
        assert layer.weight_scale is not None
        scale = np.broadcast_to(layer.weight_scale.astype(np.float64) * layer.input_scale, channels)[:, None, None]
        bias = np.zeros(1) if layer.accumulator_bias is None else layer.accumulator_bias.astype(np.float64)
        bias = np.broadcast_to(bias, channels)[:, None, None]
        steps = (real.astype(np.float64) - bias) / scale
        rounded = np.round(steps)
        accumulators = rounded.astype(np.int64)
        residual = float(np.abs(steps - rounded).max(initial=0.0))
        bound = _bound(layer, (np.abs(bias) / scale).max())
        if sums is not None:
            accumulators, residual, bound = sums.reshape(real.shape), 0.0, 0.0
    return LayerIntegers(layer.name, accumulators, bound, residual, codes("codes"), codes("pool"), shaped("output"))


def _bound(layer: Conv, bias: float) -> float:
    weights = layer.weight_format.alpha * layer.weights.astype(np.int64) + layer.weight_format.delta
    flat = np.abs(weights).reshape(len(weights), -1)
    ends = layer.input_format.delta, layer.input_format.alpha * layer.input_format.levels + layer.input_format.delta
    largest = float(flat.sum(axis=1).max()) * max(map(abs, ends))
    # Per product: two rounded operands (2 each, scale and value), the product; n additions; the bias.
    return (flat.shape[1] + 6) * 2.0**-24 * (largest + float(bias))


def _codes(tensor: np.ndarray, format: Format, scale: float, where: str) -> np.ndarray:
    steps = (tensor.astype(np.float64) / scale - format.delta) / format.alpha
    rounded = np.round(steps)
    if np.abs(steps - rounded).max(initial=0.0) > 0.01 or rounded.min(initial=0) < 0 or rounded.max() > format.levels:
        raise ModelError(f"{where}: QONNX's tensor holds values that are no codes of {format}")
    return rounded.astype(np.uint8)
