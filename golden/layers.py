"""Stage 2 of the golden models: integer layers, exact, by floating-point BLAS on integers.

A product of matrices of integers is exact in floating point, in any order of summation, while no partial sum can
exceed the significand: 2^24 in float32, 2^53 in float64. The bound sum|w| * max|a| of the layer at hand decides, never
a trial. Layers and networks are those of compiler/network.py (`Conv`, `Network`), used by their attributes only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .encoding import FormatLike, values
from .errors import DipoleError

__all__ = [
    "LayerError",
    "LayerLike",
    "LayerResult",
    "PoolLike",
    "Reach",
    "apply_thresholds",
    "conv_accumulate",
    "max_pool",
    "output_shape",
    "reach",
    "real_output",
    "run_layer",
    "run_network",
]

_BATCH_BYTES = 1 << 26  # of patches at a time: larger blocks leave the caches and gain nothing


class LayerError(DipoleError):
    """Activations that do not fit a layer; the message names the layer."""


class PoolLike(Protocol):
    """Max pooling: window, stride, padding (top, left, bottom, right)."""

    @property
    def kernel(self) -> tuple[int, int]: ...
    @property
    def stride(self) -> tuple[int, int]: ...
    @property
    def padding(self) -> tuple[int, int, int, int]: ...


class LayerLike(Protocol):
    """One layer of the integer network; compiler/network.py `Conv` documents the attributes."""

    @property
    def name(self) -> str: ...
    @property
    def weights(self) -> np.ndarray: ...
    @property
    def weight_format(self) -> FormatLike: ...
    @property
    def input_format(self) -> FormatLike: ...
    @property
    def stride(self) -> tuple[int, int]: ...
    @property
    def padding(self) -> tuple[int, int, int, int]: ...
    @property
    def thresholds(self) -> np.ndarray | None: ...
    @property
    def sign(self) -> np.ndarray | None: ...
    @property
    def output_format(self) -> Any: ...
    @property
    def pool(self) -> Any: ...
    @property
    def output_scale(self) -> np.ndarray | None: ...
    @property
    def output_bias(self) -> np.ndarray | None: ...


@dataclass(frozen=True, eq=False)
class LayerResult:
    """What a layer makes of its input, step by step; all are [batch, channels, height, width]."""

    accumulator: np.ndarray
    """int64 dot products y."""
    codes: np.ndarray | None
    """uint8 codes before pooling; None in a layer without thresholds."""
    pooled: np.ndarray | None
    """uint8 codes after pooling; the same array as `codes` where there is no pool."""

    @property
    def output(self) -> np.ndarray:
        """What the next layer or the host gets."""
        return self.accumulator if self.pooled is None else self.pooled


@dataclass(frozen=True, eq=False)
class Reach:
    """Values that y can take, per channel: low, low + step, .. high. Inputs may be any codes of the input format.

    Every reachable value is among them; without zero padding low and high are reached. int64 [channels], step > 0.
    """

    low: np.ndarray
    high: np.ndarray
    step: np.ndarray


def _windows(x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """View [batch, channels, H', W', kernel height, kernel width] of all windows."""
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1]]


def output_shape(layer: LayerLike, height: int, width: int) -> tuple[int, int]:
    """Height and width of the accumulators of a layer for an input of that size (before the pool)."""
    top, left, bottom, right = layer.padding
    kernel = layer.weights.shape[2:]
    rows = (height + top + bottom - kernel[0]) // layer.stride[0] + 1
    columns = (width + left + right - kernel[1]) // layer.stride[1] + 1
    if rows < 1 or columns < 1:
        raise LayerError(
            f"layer {layer.name!r}: kernel {kernel[0]}x{kernel[1]} is larger than its padded input "
            f"{height + top + bottom}x{width + left + right}"
        )
    return rows, columns


def _check_codes(codes: np.ndarray, layer: LayerLike) -> None:
    channels = layer.weights.shape[1]
    if codes.ndim != 4 or codes.shape[1] != channels:
        raise LayerError(
            f"layer {layer.name!r}: input has shape {codes.shape}, must be [batch, {channels}, height, width]"
        )
    if codes.dtype != np.uint8:
        raise LayerError(f"layer {layer.name!r}: input codes are {codes.dtype}, must be uint8")
    if codes.size and int(codes.max()) >> layer.input_format.bits:
        raise LayerError(
            f"layer {layer.name!r}: input code {int(codes.max())} does not fit {layer.input_format.bits} bits"
        )


def conv_accumulate(codes: np.ndarray, layer: LayerLike) -> np.ndarray:
    """Dot products y of a layer, int64 [batch, out channels, H', W'], for uint8 codes [batch, channels, H, W].

    Padding adds real zeros, also where the format has no code for zero.
    """
    _check_codes(codes, layer)
    batch, channels, height, width = codes.shape
    rows, columns = output_shape(layer, height, width)
    out, _, kh, kw = layer.weights.shape
    form = layer.input_format
    w = values(layer.weights, layer.weight_format.alpha, layer.weight_format.delta).reshape(out, -1)
    largest = max(abs(form.delta), abs(form.alpha * ((1 << form.bits) - 1) + form.delta))
    bound = largest * int(np.abs(w).sum(axis=1).max())
    if bound > 1 << 53:
        raise LayerError(f"layer {layer.name!r}: dot products may reach {bound}, beyond the exact range 2^53")
    kind = np.float32 if bound <= 1 << 24 else np.float64
    matrix = np.ascontiguousarray(w.T, kind)
    top, left, bottom, right = layer.padding

    y = np.empty((batch, out, rows, columns), np.int64)
    per_image = rows * columns * channels * kh * kw * np.dtype(kind).itemsize
    block = max(1, _BATCH_BYTES // per_image)
    for start in range(0, batch, block):
        part = codes[start : start + block]
        x = np.zeros((len(part), channels, top + height + bottom, left + width + right), kind)
        x[:, :, top : top + height, left : left + width] = part
        x[:, :, top : top + height, left : left + width] *= form.alpha
        x[:, :, top : top + height, left : left + width] += form.delta
        patches = _windows(x, (kh, kw), layer.stride).transpose(0, 2, 3, 1, 4, 5)
        sums = patches.reshape(len(part) * rows * columns, -1) @ matrix
        y[start : start + block] = sums.reshape(len(part), rows, columns, out).transpose(0, 3, 1, 2)
    return y


def apply_thresholds(y: np.ndarray, layer: LayerLike) -> np.ndarray:
    """Codes uint8 of y: the number of k with sign*y >= thresholds[k], channel by channel."""
    if layer.thresholds is None or layer.sign is None:
        raise LayerError(f"layer {layer.name!r} has no thresholds")
    codes = np.empty(y.shape, np.uint8)
    for channel, (steps, sign) in enumerate(zip(layer.thresholds, layer.sign, strict=True)):
        codes[:, channel] = np.searchsorted(steps, int(sign) * y[:, channel], side="right")
    return codes


def max_pool(codes: np.ndarray, pool: PoolLike) -> np.ndarray:
    """Largest code of each window, uint8 [batch, channels, H', W']. Padding never wins: it is code 0, the identity."""
    top, left, bottom, right = pool.padding
    padded = np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))
    if padded.shape[2] < pool.kernel[0] or padded.shape[3] < pool.kernel[1]:
        raise LayerError(
            f"pool window {pool.kernel[0]}x{pool.kernel[1]} is larger than its padded input "
            f"{padded.shape[2]}x{padded.shape[3]}"
        )
    return _windows(padded, pool.kernel, pool.stride).max(axis=(4, 5))


def run_layer(codes: np.ndarray, layer: LayerLike) -> LayerResult:
    """Accumulators, codes and pooled codes of one layer."""
    y = conv_accumulate(codes, layer)
    if layer.thresholds is None:
        return LayerResult(y, None, None)
    out = apply_thresholds(y, layer)
    return LayerResult(y, out, out if layer.pool is None else max_pool(out, layer.pool))


def run_network(network: Any, codes: np.ndarray) -> list[LayerResult]:
    """Results of every layer for input codes uint8 [batch, channels, height, width]; the last has the final y."""
    if tuple(codes.shape[1:]) != tuple(network.input_shape):
        raise LayerError(
            f"network {network.name!r}: input has shape {codes.shape}, must be [batch, "
            f"{', '.join(map(str, network.input_shape))}]"
        )
    layers: Sequence[LayerLike] = network.layers
    results: list[LayerResult] = []
    for layer in layers:
        results.append(run_layer(codes, layer))
        codes = results[-1].output
    return results


def real_output(layer: LayerLike, y: np.ndarray) -> np.ndarray:
    """Real values float32 of y [batch, channels, ...] of the last layer: y * output_scale + output_bias."""
    shape = (1, -1) + (1,) * (y.ndim - 2)
    real = y.astype(np.float32)
    if layer.output_scale is not None:
        real = real * np.asarray(layer.output_scale, np.float32).reshape(shape)
    if layer.output_bias is not None:
        real = real + np.asarray(layer.output_bias, np.float32).reshape(shape)
    return real


def reach(layer: LayerLike) -> Reach:
    """The lattice of values that y of each channel of a layer can take."""
    form = layer.input_format
    w = values(layer.weights, layer.weight_format.alpha, layer.weight_format.delta).reshape(len(layer.weights), -1)
    at_low, at_high = w * form.delta, w * (form.alpha * ((1 << form.bits) - 1) + form.delta)
    low, high = np.minimum(at_low, at_high), np.maximum(at_low, at_high)
    step = np.gcd.reduce(form.alpha * w, axis=1)
    if any(layer.padding):
        # A tap may also add 0: outside the image.
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        step = np.gcd(step, np.gcd.reduce(at_low, axis=1))
    return Reach(low.sum(axis=1), high.sum(axis=1), np.maximum(step, 1))
