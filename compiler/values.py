"""Values that tensors of a graph have while the importer walks it, and what one node gets to see of the walk.

An operation is a function (`Walk`, `Call`) -> (value of its output, text for the report); it raises `Unsupported` with
the reason where it cannot be used. With `carry` the walk goes on behind the node, so that later problems are found too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx

from .layers import Stream
from .quantizers import ROUNDINGS, MultiThreshold, Quantizer

__all__ = [
    "Blocked", "Call", "Constant", "Host", "Operator", "Quantized", "Result", "Unsupported", "Value", "Walk",
    "no_extra_outputs", "parse_multithreshold", "parse_quantizer", "stream_of",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Quantized:
    """Integers behind a constant: what `quantizer` made of it, and the scale of every element."""

    quantizer: Quantizer
    integers: np.ndarray
    scale: np.ndarray
    """float32, real value of one step of the integers, in the shape of `integers`."""
    node: int
    """The quantizer's node."""
    views: tuple[int, ...] = ()
    """Nodes that have reshaped, transposed or scaled it since."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that does not depend on the input."""

    array: np.ndarray
    quantized: Quantized | None = None


@dataclass(frozen=True)
class Blocked:
    """Not known, because of an unsupported node before it."""

    node: str


@dataclass(frozen=True)
class Host:
    """Computed by the host from the output of the network."""


Value = Constant | Stream | Blocked | Host


@dataclass
class Call:
    """One node with its inputs resolved."""

    index: int
    node: onnx.NodeProto
    attributes: dict[str, Any]
    inputs: list[Value | None] = field(default_factory=list)

    def constant(self, position: int, what: str) -> np.ndarray:
        """Array of a constant input; ValueError where it is missing or depends on the input."""
        value = self.inputs[position] if position < len(self.inputs) else None
        if value is None:
            raise ValueError(f"{what} is missing")
        if not isinstance(value, Constant):
            raise ValueError(f"{what} is computed from activations (dynamic), must be constant")
        return value.array


class Unsupported(Exception):
    """A node that cannot be used, with the reason; `carry`: the activation to go on with."""

    def __init__(self, reason: str, carry: Stream | None = None) -> None:
        super().__init__(reason)
        self.carry = carry


class Walk(Protocol):
    """What operations need of the walk over the graph."""

    opset: int
    batch: int | None
    """Batch size frozen in the file."""

    def mark(self, node: int, text: str) -> None:
        """Set the text of a node that came earlier."""
        ...

    def blame(self, node: int, reason: str) -> None:
        """Report an earlier node as unsupported."""
        ...


Result = tuple[Value, str]
Operator = Callable[[Walk, Call], Result]


def stream_of(call: Call) -> Stream:
    """The activation that is a node's first input."""
    value = call.inputs[0] if call.inputs else None
    if not isinstance(value, Stream):
        raise Unsupported("its first input must be an activation")
    return value


def no_extra_outputs(call: Call) -> None:
    """Second outputs (masks, indices) have no meaning here; the walk has emptied those that nobody reads."""
    if any(call.node.output[1:]):
        name = next(filter(None, call.node.output[1:]))
        raise Unsupported(f"its output {name!r} is not supported: only the first is")


def parse_quantizer(call: Call) -> Quantizer:
    """The quantizer of a Quant, IntQuant or BipolarQuant node; ValueError with the reason."""
    scale = call.constant(1, "its scale")
    if scale.dtype != np.float32:
        raise ValueError(f"its scale has type {scale.dtype}, must be float32")
    if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
        raise ValueError("its scale must be positive and finite")
    if call.node.op_type == "BipolarQuant":
        return Quantizer(scale, np.float32(0), 1, True, False, bipolar=True)  # type: ignore[arg-type]
    zero = call.constant(2, "its zero point")
    if not np.all(np.isfinite(zero)):
        raise ValueError("its zero point is not finite")
    if zero.dtype != np.float32:
        if np.any(zero):
            raise ValueError(f"its zero point has type {zero.dtype}, must be float32")
        zero = zero.astype(np.float32)
    bits = call.constant(3, "its bit width")
    if bits.size != 1 or not np.isfinite(bits.ravel()[0]) or not bits.ravel()[0] > 0:
        raise ValueError(f"its bit width {bits.ravel().tolist()} must be one positive number")
    for name in ("signed", "narrow"):
        if call.attributes.get(name) not in (0, 1):
            raise ValueError(f"its attribute {name!r} is missing or not 0 or 1: export it again with a newer exporter")
    rounding = str(call.attributes.get("rounding_mode", "ROUND")).upper()
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding mode {rounding!r} is not supported: one of {', '.join(ROUNDINGS)} is")
    return Quantizer(
        scale, zero, float(bits.ravel()[0]), bool(call.attributes["signed"]), bool(call.attributes["narrow"]), rounding
    )


def parse_multithreshold(call: Call, stream: Stream) -> MultiThreshold:
    """The quantizer of a MultiThreshold node on an activation; ValueError with the reason."""
    thresholds = call.constant(1, "its thresholds")
    if thresholds.dtype != np.float32 or thresholds.ndim != 2:
        raise ValueError(f"its thresholds have type {thresholds.dtype} and {thresholds.ndim} axes: must be float32, 2")
    if np.isnan(thresholds).any():
        raise ValueError("its thresholds hold values that are not numbers (NaN)")
    layout = call.attributes.get("data_layout", "")
    if layout not in ("", "NC", "NCHW", "NCW", "N"):
        if not (layout == "NWC" and stream.index.shape[2:] == (1,)):
            raise ValueError(f"data layout {layout!r} is not supported: NCHW or NC is")
    if stream.index.ndim == 3 and not layout:
        raise ValueError("its data layout must be given for a tensor of 3 axes")
    columns = [stream.per_channel(_along_channels(column, stream.index.ndim)) for column in thresholds.T]
    channels = max((column.size for column in columns), default=1)
    table = np.stack([np.broadcast_to(column, channels) for column in columns], axis=1) if columns else thresholds
    return MultiThreshold(
        table, float(call.attributes.get("out_scale", 1.0)), float(call.attributes.get("out_bias", 0.0))
    )


def _along_channels(column: np.ndarray, axes: int) -> np.ndarray:
    return column.reshape(1, -1, *[1] * (axes - 2))
