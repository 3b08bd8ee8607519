"""The operations that Dipole knows, and the reasons why it refuses others."""

import numpy as np

from .elementwise import ELEMENTWISE
from .graph import evaluate
from .layer_nodes import LAYERS
from .layers import Stream
from .values import Call, Operator, Result, Unsupported, Walk, stream_of

__all__ = ["HOST", "OPERATORS", "QUANTIZING", "REASONS", "VIEWS"]

HOST = {"Softmax", "LogSoftmax", "ArgMax", "TopK", "Sigmoid"}
"""Operations on the output of the network that the host may do."""
_TRAIN = "train and export the network without it"
REASONS: dict[str, str] = {
    "FloatQuant": "minifloat quantization is not supported: use integer Quant or BipolarQuant",
    "Trunc": "truncation (quantized average pooling) is not supported: use max pooling or a strided layer",
    "AveragePool": "average pooling is not supported: use max pooling or a strided layer",
    "GlobalAveragePool": "average pooling is not supported: flatten, or use a layer whose kernel covers the image",
    "QuantAvgPool2d": "average pooling is not supported: use max pooling or a strided layer",
    "ReduceMean": "average pooling is not supported: flatten, or use a layer whose kernel covers the image",
    "GlobalMaxPool": "global max pooling is not supported: use MaxPool with a kernel of the size of the image",
    "Concat": "concatenates activations: a network must be a chain of layers",
    "Split": "splits activations: a network must be a chain of layers",
    "Pad": "padding on its own is not supported: give the padding to the convolution or pool",
    "ConvTranspose": "transposed convolutions are not supported",
    "QuantizeLinear": "QCDQ quantization is not supported: convert with QCDQToQuant of qonnx, or export QONNX",
    "DequantizeLinear": "QCDQ quantization is not supported: convert with QCDQToQuant of qonnx, or export QONNX",
    "Softmax": f"softmax in the middle of the network is not supported: {_TRAIN}",
    "LogSoftmax": f"softmax in the middle of the network is not supported: {_TRAIN}",
    "Sigmoid": "this activation function is not supported: use Relu, Clip (HardTanh) or a quantizer alone",
    "Tanh": "this activation function is not supported: use Relu, Clip (HardTanh) or a quantizer alone",
    "ArgMax": "only as the last operation, where the host does it",
    "TopK": "only as the last operation, where the host does it",
}


def _view(walk: Walk, call: Call) -> Result:
    """Reshape, Flatten, Transpose, Squeeze, Unsqueeze: computed on the positions of two images at once."""
    stream = stream_of(call)
    size = stream.index.size
    arrays: list[np.ndarray | None] = [np.concatenate([stream.index, stream.index + size])]
    try:
        arrays += [
            call.constant(k, "its shape or axes") if call.inputs[k] else None for k in range(1, len(call.inputs))
        ]
    except ValueError as error:
        raise Unsupported(str(error), stream) from None
    shape = arrays[1] if len(arrays) > 1 else None
    if call.node.op_type == "Reshape" and shape is not None and shape.size and shape[0] == (walk.batch or 1):
        arrays[1] = np.concatenate([[2], shape[1:]]).astype(np.int64)
    try:
        index = evaluate(call.node, arrays, walk.opset)[0]
    except Exception as error:
        reason = str(error).splitlines()[0][:120]
        dims = list(stream.index.shape[1:])
        raise Unsupported(f"does not fit the activation of shape {dims} per image ({reason})") from None
    if index.ndim < 2 or index.shape[0] != 2 or not np.array_equal(index[0] + size, index[1]):
        raise Unsupported("mixes the images of a batch: only views inside an image are supported")
    made = Stream(stream.stage, index[:1], stream.shape)
    return made, f"view of shape {list(index.shape[1:])} per image: no work"


VIEWS: dict[str, Operator] = {
    "Reshape": _view, "Flatten": _view, "Transpose": _view, "Squeeze": _view, "Unsqueeze": _view,
}  # fmt: skip
OPERATORS: dict[str, Operator] = {**ELEMENTWISE, **VIEWS, **LAYERS}
QUANTIZING = {
    "Quant", "IntQuant", "BipolarQuant", "MultiThreshold", "FloatQuant", "Trunc", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
"""Operations that would have quantized the activation, had they been supported."""
