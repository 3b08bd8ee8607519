"""Conv, Gemm, MatMul and MaxPool: what each becomes (see `values` for the contract).

All reasons of one node are gathered; the walk goes on behind it with a layer of the same output shape.
"""

import numpy as np

from .elementwise import mark_parameter
from .layers import Layer, Stream
from .network import Pool
from .steps import Arithmetic
from .values import Call, Constant, Operator, Quantized, Result, Unsupported, Walk, no_extra_outputs, stream_of
from .windows import conv_geometry, pool_geometry

__all__ = ["LAYERS"]

Shape3 = tuple[int, int, int]


def _weights(walk: Walk, value: Constant, name: str, reasons: list[str]) -> Quantized | None:
    """Quantized weights; problems of their quantizer are reported at its node."""
    quantized = value.quantized
    if quantized is None:
        reasons.append("its weights are not quantized: a Quant or BipolarQuant must be between them and the layer")
        return None
    try:
        text = quantized.quantizer.describe()
    except ValueError as error:
        walk.blame(quantized.node, f"weights of layer {name}: {error}")
        return None
    spread = "per channel" if np.any(quantized.scale != quantized.scale.ravel()[:1]) else "per tensor"
    walk.mark(quantized.node, f"weights of layer {name} ({text}, scale {spread})")
    for node in quantized.views:
        walk.mark(node, f"folded into the weights of layer {name}")
    return quantized


def _weight_constant(call: Call) -> Constant:
    value = call.inputs[1] if len(call.inputs) > 1 else None
    if not isinstance(value, Constant):
        raise Unsupported("its weights are computed from activations: only constant, quantized weights are supported")
    return value


def _fill_weights(
    layer: Layer, quantized: Quantized, integers: np.ndarray, scale: np.ndarray, reasons: list[str]
) -> None:
    """Integers and scales [out, in, height, width] into the layer."""
    flat = scale.reshape(scale.shape[0], -1)
    if np.any(flat != flat[:, :1]):
        reasons.append("its weight scale varies along the input channels: one per tensor or output channel is needed")
    layer.weight_format = quantized.quantizer.format
    layer.weight_codes = quantized.quantizer.codes_of(integers)
    layer.weights = layer.weight_format.alpha * layer.weight_codes.astype(np.int64) + layer.weight_format.delta
    layer.weight_scale = flat[:1, 0].copy() if np.all(flat == flat[0, 0]) else flat[:, 0].copy()


def _connect(walk: Walk, layer: Layer, stream: Stream, image: Shape3, reasons: list[str]) -> None:
    """The stage before becomes the layer's input."""
    stage = stream.stage
    stage.image, layer.before = image, stage
    if isinstance(stage, Layer) and (problem := stage.pool_problem()):
        walk.blame(stage.pool_node, problem)
    if stage.broken:
        return
    if stage.quantizer is None:
        what = "the graph input" if stage.is_input else f"its input, the output of layer {stage.name},"
        reasons.append(f"{what} is not quantized: put a Quant before it")
        return
    if stage.pending_factor() is None:
        walk.blame(stage.pending[0][0], "changes the values behind their quantizer: put a Quant behind it")
        return
    layer.input_format, layer.input_scale = stage.activation
    if any(layer.padding) and not layer.input_format.is_odd and layer.input_format.zero_code is None:
        reasons.append("pads with zero, which the number format of its input does not have")


def _bias(walk: Walk, call: Call, layer: Layer, out: Stream, reasons: list[str], factor: float = 1.0) -> None:
    value = call.inputs[2] if len(call.inputs) > 2 else None
    if value is None:
        return
    if not isinstance(value, Constant):
        reasons.append("its bias is computed from activations, must be constant")
        return
    array = value.array
    if call.node.op_type == "Conv":
        array = array.reshape(1, -1, *[1] * (out.index.ndim - 2))
    try:
        bias = out.per_channel(array) * np.float32(factor)
        layer.steps.append((call.index, Arithmetic("Add", bias)))
    except ValueError as error:
        reasons.append(f"bias: {error}")
        return
    layer.accumulator_bias = bias
    mark_parameter(walk, value, layer)


def _conv(walk: Walk, call: Call) -> Result:
    stream = stream_of(call)
    value = _weight_constant(call)
    kernel = value.array.shape
    if len(kernel) not in (3, 4):
        raise Unsupported(f"its weights have {len(kernel)} axes: 2-D and 1-D convolutions are supported")
    if stream.index.ndim != len(kernel):
        raise Unsupported(f"its input has shape {list(stream.index.shape[1:])} per image, its weights {list(kernel)}")
    one_d = len(kernel) == 3
    channels = stream.index.shape[1]
    image: Shape3 = (channels, 1 if one_d else stream.index.shape[2], stream.index.shape[-1])
    window = (1, kernel[2]) if one_d else kernel[2:]
    geometry = conv_geometry(call.attributes, window, image[1:], one_d)
    if min(geometry.output) < 1:
        raise Unsupported(f"its kernel {list(window)} does not fit the padded image {list(image[1:])}")
    shape: Shape3 = (kernel[0], *geometry.output)
    layer = Layer(name=call.node.name, node=call.index, tensors={"accumulator": call.node.output[0]},
                  stride=geometry.stride, padding=geometry.padding, weights=np.zeros((kernel[0], 1, 1, 1)))  # fmt: skip
    out = Stream.canonical(layer, shape, (shape[0], shape[2]) if one_d else shape)

    reasons: list[str] = []
    group = call.attributes.get("group", 1)
    if group != 1:
        kind = "depthwise" if group == channels else "grouped"
        reasons.append(f"{kind} convolution (group = {group}) is not supported: group must be 1")
    elif kernel[1] != channels:
        reasons.append(f"its weights have {kernel[1]} input channels, its input has {channels}")
    if geometry.dilated:
        reasons.append("dilated convolution is not supported: dilations must be 1")
    if not stream.in_order or (image != stream.shape and not stream.stage.is_input):
        reasons.append("its input was transposed or reshaped: only flattening before a dense layer is supported")
    quantized = _weights(walk, value, layer.name, reasons)
    if quantized:
        axes = (kernel[0], kernel[1], *window)
        _fill_weights(layer, quantized, quantized.integers.reshape(axes), quantized.scale.reshape(axes), reasons)
    _connect(walk, layer, stream, image, reasons)
    _bias(walk, call, layer, out, reasons)
    if reasons:
        raise Unsupported("; ".join(reasons), out)
    return out, _text(layer, image, shape)


def _text(layer: Layer, image: Shape3, out: Shape3) -> str:
    kernel = layer.weights.shape[2:]
    dense = tuple(kernel) == image[1:] and not any(layer.padding)
    text = f"layer {layer.name}: {'x'.join(map(str, image))} -> {'x'.join(map(str, out))}"
    text += ", dense" if dense else f", kernel {kernel[0]}x{kernel[1]}"
    if layer.stride != (1, 1):
        text += f", stride {layer.stride[0]}x{layer.stride[1]}"
    if any(layer.padding):
        text += f", padding {'/'.join(map(str, layer.padding))}"
    return text + (", bias" if layer.accumulator_bias is not None else "")


def _placed(array: np.ndarray, stream: Stream) -> np.ndarray:
    """Columns of [out, features] at the places where the features come from: [out, channels, height, width]."""
    placed = np.empty((array.shape[0], stream.index.size), array.dtype)
    placed[:, stream.index.ravel()] = array
    return placed.reshape(array.shape[0], *stream.shape)


def _dense(walk: Walk, call: Call) -> Result:
    gemm = call.node.op_type == "Gemm"
    if len(call.inputs) > 1 and isinstance(call.inputs[1], Stream):
        both = isinstance(call.inputs[0], Stream)
        raise Unsupported("multiplies two activations: a network must be a chain of layers" if both else
                          "its weights are the left operand: they must be the right one")  # fmt: skip
    stream = stream_of(call)
    value = _weight_constant(call)
    if value.array.ndim != 2:
        raise Unsupported(f"its weights have {value.array.ndim} axes, must have 2")
    turned = not (gemm and call.attributes.get("transB", 0))
    outputs, inputs = value.array.shape[::-1] if turned else value.array.shape
    features = stream.index.shape[-1]
    reasons: list[str] = []
    alpha, beta = (float(call.attributes.get(name, 1.0)) if gemm else 1.0 for name in ("alpha", "beta"))
    if gemm and call.attributes.get("transA", 0):
        reasons.append("transA = 1 is not supported: activations must not be transposed")
    if not alpha > 0:
        reasons.append(f"alpha = {alpha:g} is not supported: it must be positive")
    if stream.index.size != features:
        reasons.append(f"multiplies at {stream.index.size // features} positions of an image: flatten it first")
    elif inputs != features:
        reasons.append(f"its weights have {inputs} inputs, its input has {features}")
    layer = Layer(name=call.node.name, node=call.index, tensors={"accumulator": call.node.output[0]},
                  weights=np.zeros((outputs, 1, 1, 1)))  # fmt: skip
    out = Stream.canonical(layer, (outputs, 1, 1), (*[1] * (stream.index.ndim - 2), outputs))
    quantized = _weights(walk, value, layer.name, reasons)
    if quantized and stream.index.size == inputs:
        integers, scale = (array.T if turned else array for array in (quantized.integers, quantized.scale))
        scale = scale * np.float32(alpha) if alpha != 1 else scale
        _fill_weights(layer, quantized, _placed(integers, stream), _placed(scale, stream), reasons)
    _connect(walk, layer, stream, stream.shape, reasons)
    if gemm:
        _bias(walk, call, layer, out, reasons, beta)
    if reasons:
        raise Unsupported("; ".join(reasons), out)
    return out, _text(layer, stream.shape, out.shape)


def _max_pool(walk: Walk, call: Call) -> Result:
    stream = stream_of(call)
    no_extra_outputs(call)
    stage = stream.stage
    one_d = stream.index.ndim == 3
    dims = (stream.shape[0], *(stream.shape[2:] if one_d else stream.shape[1:]))
    if stream.index.shape[1:] != dims or not stream.in_order:
        raise Unsupported("pools a tensor that is not in the layout channels, rows, columns", stream)
    geometry = pool_geometry(call.attributes, stream.shape[1:], one_d)
    if min(geometry.output) < 1:
        raise Unsupported(f"its kernel {list(geometry.kernel)} does not fit the padded image {list(stream.shape[1:])}")
    shape: Shape3 = (stream.shape[0], *geometry.output)
    out = Stream.canonical(stage, shape, (shape[0], shape[2]) if one_d else shape)
    if geometry.dilated:
        raise Unsupported("dilated max pooling is not supported: dilations must be 1", out)
    if not isinstance(stage, Layer):
        raise Unsupported("max pooling of the graph input is not supported: a layer must come first", out)
    if stage.pool is not None:
        raise Unsupported(f"a second max pool behind layer {stage.name} is not supported: merge both into one", out)
    stage.add_pool(call.index, Pool(geometry.kernel, geometry.stride, geometry.padding))
    if stage.quantizer is not None:
        stage.tensors["pool"] = call.node.output[0]
    return out, f"max pool {geometry.kernel[0]}x{geometry.kernel[1]} on the codes of layer {stage.name}"


LAYERS: dict[str, Operator] = {"Conv": _conv, "Gemm": _dense, "MatMul": _dense, "MaxPool": _max_pool}
