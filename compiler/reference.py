"""QONNX's own execution of a model as the reference, and its real tensors as integers.

`reference_tensors` runs `qonnx.core.onnx_exec` on any number of images, whatever batch size the file was frozen with;
tensor names stay those of the file. `layer_integers` turns the tensors of each layer into codes and accumulators.

Rounding. A code tensor holds float32((q - z) * scale) with |q - z| <= 510: relative errors of 2^-23 move it by less
than 1/10000 of a step, so rounding is safe; a value further than 1/100 from an integer is an error. An accumulator is a
float32 sum of n products in an order of onnxruntime's choice. Its error is at most (n + 6) * 2^-24 * sum|a*w| steps, the
classical bound; `accumulator_bound` is that with the largest sum|a*w| there is. Below 1/2, rounding gives the integer
for certain (`accumulator_certain`); above, `accumulator_residual`, the largest distance to an integer seen, has to do.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from .graph import Graph, ModelError, load_model, set_batch
from .network import Conv, Format, Network

__all__ = ["LayerIntegers", "layer_integers", "reference_tensors"]


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


def reference_tensors(path: str | Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """All tensors of QONNX's execution on float32 images [n, ...], by their names in the file."""
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
            return _execute(graph, images.reshape(len(images), *dims))
    except Exception as error:
        raise ModelError(f"{path}: QONNX cannot execute the model: {' '.join(str(error).split())[:200]}") from error


def _execute(graph: Graph, images: np.ndarray) -> dict[str, np.ndarray]:
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
    context = execute_onnx(model, {graph.inputs[0].name: images}, return_full_exec_context=True)
    return {name: array for name, array in context.items() if isinstance(array, np.ndarray)}


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
    return [_layer(layer, tensors) for layer in network.layers]


def _layer(layer: Conv, tensors: dict[str, np.ndarray]) -> LayerIntegers:
    names = layer.qonnx_tensors
    channels = layer.weights.shape[0]

    def shaped(kind: str) -> np.ndarray | None:
        tensor = tensors.get(names.get(kind, ""))
        if tensor is None:
            return None
        rows = 1 if tensor.ndim < 4 else tensor.shape[2]
        return tensor.reshape(len(tensor), channels, rows, -1)

    def codes(kind: str) -> np.ndarray | None:
        tensor = shaped(kind)
        if tensor is None or layer.output_format is None:
            return None
        return _codes(tensor, layer.output_format, layer.output_code_scale, f"layer {layer.name!r}, {names[kind]!r}")

    real = shaped("accumulator")
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
