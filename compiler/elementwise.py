"""Quantizers, constants and activation functions: what each elementwise node becomes (contract: `values`)."""

from typing import Any

import numpy as np

from .graph import evaluate
from .layers import Layer, Stage, Stream
from .quantizers import Quantizer
from .steps import Arithmetic, BatchNorm, Clip, Relu, Step
from .values import (
    Call,
    Constant,
    Quantized,
    Result,
    Unsupported,
    Walk,
    no_extra_outputs,
    parse_multithreshold,
    parse_quantizer,
    stream_of,
)  # fmt: skip

__all__ = ["ELEMENTWISE", "mark_parameter", "view_of_quantized"]


# --- quantizers ------------------------------------------------------------------------------------


def _quant(walk: Walk, call: Call) -> Result:
    first = call.inputs[0]
    quantizer = parse_quantizer(call)
    if isinstance(first, Constant):
        return _quant_constant(call, first, quantizer)
    stream = stream_of(call)
    try:
        text = quantizer.describe()
        scale = quantizer.code_scale
    except ValueError as error:
        raise Unsupported(str(error), stream) from None
    return _quantize(walk, call, stream, quantizer, f"{text}, scale {scale:.6g}")


def _quant_constant(call: Call, constant: Constant, quantizer: Quantizer) -> Result:
    array = constant.array
    if array.dtype != np.float32:
        raise Unsupported(f"quantizes a constant of type {array.dtype}, must be float32")
    integers = quantizer.integers(array)
    if integers.shape != array.shape:
        raise Unsupported(f"its scale of shape {list(quantizer.scale.shape)} does not fit {list(array.shape)}")
    try:
        unit = quantizer.unit
    except ValueError:
        unit = quantizer.scale  # no integer format: fine for a bias, reported where it is used as a weight
    scale = np.broadcast_to(unit, array.shape)
    made = Quantized(quantizer, integers, scale, call.index)
    return Constant(quantizer.real(integers), made), "quantized constant"


def _multithreshold(walk: Walk, call: Call) -> Result:
    stream = stream_of(call)
    quantizer = parse_multithreshold(call, stream)
    try:
        text = quantizer.describe()
    except ValueError as error:
        raise Unsupported(str(error), stream) from None
    return _quantize(walk, call, stream, quantizer, f"{text}, {quantizer.thresholds.shape[1]} thresholds")


def _quantize(walk: Walk, call: Call, stream: Stream, quantizer: Any, text: str) -> Result:
    stage, name = stream.stage, call.node.output[0]
    if stage.quantizer is not None and stage.pending_factor() is not None:
        _, now = stage.values()
        if np.array_equal(quantizer(now), now) and quantizer.format.bits >= stage.quantizer.format.bits:
            _rename(stream, name)
            return stream, "repeats the quantizer before it: no work"
    if not isinstance(stage, Layer):
        if stage.quantizer is not None:
            raise Unsupported("a second, different quantizer on the input is not supported: keep one of them", stream)
        if stage.pending:
            node = stage.pending[0][0]
            walk.blame(node, "changes the graph input before its quantizer: do it on the host, or behind a quantizer")
        if not isinstance(quantizer, Quantizer):
            raise Unsupported("only Quant or BipolarQuant may quantize the graph input", stream)
        if not stream.in_order:
            ordered = Stream.canonical(stage, stream.shape, stream.index.shape[1:])
            raise Unsupported("the graph input is transposed before its quantizer: give it as it is fed", ordered)
        stage.quantizer, stage.pending = quantizer, []
        stage.tensors["codes"] = name
        return stream, f"input quantizer ({text})"
    stage.add_quantizer(call.index, quantizer)
    stage.tensors.pop("codes", None)
    stage.tensors.pop("pool", None)
    _rename(stream, name, fresh=True)
    return stream, f"ladder of layer {stage.name} ({text})"


def _rename(stream: Stream, name: str, fresh: bool = False) -> None:
    """Let the newest tensor that holds the codes of a stage be the one to compare with."""
    stage = stream.stage
    key = "pool" if isinstance(stage, Layer) and stage.pool is not None else "codes"
    if stage.is_input or stage.quantizer is None or not (fresh or key in stage.tensors):
        return
    if not stream.in_order:
        stage.tensors.pop(key, None)
    elif fresh or stage.pending_factor() is not None:
        stage.tensors[key] = name
    if key == "pool" and (fresh or stage.pending_factor() != 1.0):
        stage.tensors.pop("codes", None)


# --- elementwise -----------------------------------------------------------------------------------


def _step(walk: Walk, call: Call, stream: Stream, step: Step) -> Result:
    stage = stream.stage
    if stage.quantizer is None and isinstance(stage, Layer):
        stage.steps.append((call.index, step))
        return stream, f"folded into layer {stage.name}"
    stage.pending.append((call.index, step))
    if stage.quantizer is None:
        return stream, "changes the graph input"
    factor = stage.pending_factor()
    _rename(stream, call.node.output[0])
    if factor == 1.0:
        return stream, "leaves the codes as they are: no work"
    return stream, "folded into the scale of the codes" if factor else "acts on codes"


def _arithmetic(walk: Walk, call: Call) -> Result:
    if len(call.inputs) != 2:
        raise Unsupported(f"has {len(call.inputs)} inputs, must have 2")
    left, right = call.inputs
    if isinstance(left, Stream) and isinstance(right, Stream):
        raise Unsupported("combines two activations (residual or gating): a network must be a chain of layers", left)
    stream = left if isinstance(left, Stream) else right
    constant = right if isinstance(left, Stream) else left
    assert isinstance(stream, Stream) and isinstance(constant, Constant)
    try:
        step = Arithmetic(call.node.op_type, stream.per_channel(constant.array), swapped=stream is right)
    except ValueError as error:
        raise Unsupported(str(error), stream) from None
    mark_parameter(walk, constant, stream.stage)
    return _step(walk, call, stream, step)


def view_of_quantized(walk: Walk, call: Call) -> Result:
    """A view, Identity, Cast to float32, Mul or Div by a positive constant: quantized constants keep their integers."""
    value = call.inputs[0]
    assert isinstance(value, Constant) and value.quantized is not None
    quantized, op = value.quantized, call.node.op_type
    others = [other.array if isinstance(other, Constant) else None for other in call.inputs[1:]]
    array = evaluate(call.node, [value.array, *others], walk.opset)[0]
    if op in ("Mul", "Div"):
        factor = others[0] if others else None
        if (
            factor is None
            or array.shape != value.array.shape
            or not np.all(factor > 0)
            or not np.all(np.isfinite(factor))
        ):
            return Constant(array), "constant"
        integers = quantized.integers
    elif op == "Cast" and array.dtype != np.float32:
        return Constant(array), "constant"
    else:
        integers = evaluate(call.node, [quantized.integers, *others], walk.opset)[0]
    scale = evaluate(call.node, [np.ascontiguousarray(quantized.scale), *others], walk.opset)[0]
    views = (*quantized.views, call.index)
    return Constant(array, Quantized(quantized.quantizer, integers, scale, quantized.node, views)), "quantized constant"


def mark_parameter(walk: Walk, constant: Constant, stage: Stage) -> None:
    if constant.quantized:
        for node in (constant.quantized.node, *constant.quantized.views):
            walk.mark(node, f"bias or factor of layer {stage.name}")


def _batch_norm(walk: Walk, call: Call) -> Result:
    stream = stream_of(call)
    no_extra_outputs(call)
    if call.attributes.get("training_mode", 0):
        raise Unsupported("batch normalization in training mode is not supported: export in eval mode", stream)
    names = ("scale", "bias", "mean", "variance")
    try:
        arrays = [call.constant(k + 1, f"its {name}") for k, name in enumerate(names)]
        for name, array in zip(names, arrays, strict=True):
            if array.ndim != 1 or array.size != stream.index.shape[1]:
                raise ValueError(f"its {name} has shape {list(array.shape)}, must be [{stream.index.shape[1]}]")
        columns = [
            np.broadcast_to(stream.per_channel(array.reshape(1, -1, *[1] * (stream.index.ndim - 2))), stream.shape[:1])
            for array in arrays
        ]
        step = BatchNorm(*columns, epsilon=call.attributes.get("epsilon", 1e-5))
    except ValueError as error:
        raise Unsupported(str(error), stream) from None
    return _step(walk, call, stream, step)


def _relu(walk: Walk, call: Call) -> Result:
    return _step(walk, call, stream_of(call), Relu())


def _clip(walk: Walk, call: Call) -> Result:
    stream = stream_of(call)
    bounds = []
    for position, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        given = position < len(call.inputs) and call.inputs[position] is not None
        try:
            array = call.constant(position, f"its {name}") if given else None
        except ValueError as error:
            raise Unsupported(str(error), stream) from None
        if array is not None and (array.size != 1 or np.isnan(array).any()):
            raise Unsupported(f"its {name} must be one number", stream)
        bounds.append(float(array.ravel()[0]) if array is not None else float(call.attributes.get(name, default)))
    return _step(walk, call, stream, Clip(*bounds))


def _same(walk: Walk, call: Call) -> Result:
    """Identity, Dropout and Cast to float32."""
    value = call.inputs[0]
    assert value is not None
    return value, "no operation in inference"


def _dropout(walk: Walk, call: Call) -> Result:
    stream = stream_of(call)
    no_extra_outputs(call)
    training = call.inputs[2] if len(call.inputs) > 2 else None
    if training is not None and not (isinstance(training, Constant) and not training.array.any()):
        raise Unsupported("dropout in training mode is not supported: export the network in eval mode", stream)
    return _same(walk, call)


def _cast(walk: Walk, call: Call) -> Result:
    stream = stream_of(call)
    if call.attributes.get("to") != 1:
        raise Unsupported("casts activations to another type than float32", stream)
    return _same(walk, call)


ELEMENTWISE = {
    "Quant": _quant, "IntQuant": _quant, "BipolarQuant": _quant, "MultiThreshold": _multithreshold,
    "Add": _arithmetic, "Sub": _arithmetic, "Mul": _arithmetic, "Div": _arithmetic,
    "BatchNormalization": _batch_norm, "Relu": _relu, "Clip": _clip,
    "Identity": _same, "Dropout": _dropout, "Cast": _cast,
}  # fmt: skip
"""Operations of one activation that keep its shape."""
