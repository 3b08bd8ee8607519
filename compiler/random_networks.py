"""Random integer networks, on which all stages must agree: for tests of compiler, golden machine and RTL."""

from dataclasses import dataclass

import numpy as np

from ..golden.encoding import values
from ..golden.layers import output_shape
from .network import Conv, Format, InputQuantizer, Network, Pool

__all__ = ["Limits", "random_codes", "random_format", "random_network", "random_thresholds"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How large a random network may be."""

    layers: int = 3
    size: int = 9
    """Height and width of the input."""
    channels: int = 70
    kernel: int = 5
    stride: int = 3
    padding: int = 2
    bits: int = 8
    work: int = 1 << 22
    """Binary multiply-accumulates of a layer: larger ones get fewer channels."""


def random_format(rng: np.random.Generator, bits: int, *, zero: bool) -> Format:
    """Odd, unsigned, two's complement or a zero point; `zero` asks for one that can be padded."""
    kind = rng.integers(4)
    if kind == 0:
        return Format.odd(bits)
    if kind == 1:
        return Format.unsigned(bits)
    if kind == 2:
        return Format.signed(bits)
    return Format(bits, 1, -int(rng.integers(1 << bits))) if zero or rng.integers(4) else Format(bits, 1, 3)


def random_thresholds(
    rng: np.random.Generator, y_low: np.ndarray, y_high: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds int64 [channels, 2^bits - 1] and signs int8 [channels] of uniform steps over part of low..high."""
    channels = len(y_low)
    sign = rng.choice(np.array([1, 1, -1], np.int8), channels)
    low, high = np.where(sign > 0, y_low, -y_high), np.where(sign > 0, y_high, -y_low)
    span = np.maximum(high - low, 1)
    # A line with a multiplier of 8 bits, so that every mul_width can do it.
    step = np.maximum(span * rng.uniform(0.1, 0.9, channels) / (1 << bits), 1 / 64)
    shift = np.floor(np.log2(255 * step)).astype(np.int64)
    multiplier = np.maximum(np.round(2.0**shift / step), 1).astype(np.int64)
    multiplier, shift = np.where(shift < 0, multiplier << np.maximum(-shift, 0), multiplier), np.maximum(shift, 0)
    multiplier = np.minimum(multiplier, 255)
    start = low + np.round(span * rng.uniform(0, 0.6, channels)).astype(np.int64)
    k = np.arange(1, 1 << bits)
    return start[:, None] + -(-(k << shift[:, None]) // multiplier[:, None]), sign


def random_codes(rng: np.random.Generator, network: Network) -> np.ndarray:
    """Input codes uint8 of one image."""
    return rng.integers(1 << network.input_format.bits, size=network.input_shape).astype(np.uint8)


def _random_pool(rng: np.random.Generator, height: int, width: int) -> Pool | None:
    if rng.integers(3):
        return None
    kernel = int(rng.integers(2, 4))
    padding = tuple(int(p) for p in rng.integers(0, 2, 4)) if rng.integers(2) else (0, 0, 0, 0)
    pool = Pool((kernel, kernel), (int(rng.integers(1, 3)), int(rng.integers(1, 3))), padding)  # type: ignore[arg-type]
    return pool if height + padding[0] + padding[2] >= kernel and width + padding[1] + padding[3] >= kernel else None


def random_network(rng: np.random.Generator, limits: Limits | None = None) -> Network:
    """A chain of random layers; the last gives integers, or, in one network of four, codes."""
    limits = limits or Limits()
    bits = int(rng.integers(1, limits.bits + 1))
    height, width = (int(n) for n in rng.integers(1, limits.size + 1, 2))
    channels = int(rng.integers(1, limits.channels + 1))
    input_shape = (channels, height, width)
    form = input_form = random_format(rng, bits, zero=False)
    count = int(rng.integers(1, limits.layers + 1))
    codes_out = rng.integers(4) == 0
    layers: list[Conv] = []
    for number in range(count):
        last = number == count - 1
        padded = bool(rng.integers(2)) and (form.zero_code is not None or form.is_odd)
        padding = tuple(int(p) for p in rng.integers(0, limits.padding + 1, 4)) if padded else (0, 0, 0, 0)
        dense = last and bool(rng.integers(2))
        tall, wide = height + padding[0] + padding[2], width + padding[1] + padding[3]
        if dense:
            padding, kernel = (0, 0, 0, 0), (height, width)
        else:
            tallest, widest = min(limits.kernel, tall), min(limits.kernel, wide)
            kernel = (int(rng.integers(1, tallest + 1)), int(rng.integers(1, widest + 1)))
        weight = random_format(rng, int(rng.integers(1, limits.bits + 1)), zero=True)
        per_channel = tall * wide * channels * kernel[0] * kernel[1] * form.bits * weight.bits
        out = int(rng.integers(1, max(2, min(limits.channels, limits.work // per_channel) + 1)))
        w_codes = rng.integers(1 << weight.bits, size=(out, channels, *kernel)).astype(np.uint8)
        stride = (int(rng.integers(1, limits.stride + 1)), int(rng.integers(1, limits.stride + 1)))
        layer = Conv(f"layer{number}", w_codes, weight, form, stride, padding)  # type: ignore[arg-type]
        rows, columns = output_shape(layer, height, width)
        if last and not codes_out:
            layers.append(layer)
            break
        out_form = random_format(rng, int(rng.integers(1, limits.bits + 1)), zero=False)
        w = values(w_codes, weight.alpha, weight.delta).reshape(out, -1)
        ends = np.stack([w * form.delta, w * (form.alpha * form.levels + form.delta)])
        y_low, y_high = ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)
        thresholds, sign = random_thresholds(rng, y_low, y_high, out_form.bits)
        pool = _random_pool(rng, rows, columns)
        layers.append(
            Conv(f"layer{number}", w_codes, weight, form, stride, padding, thresholds, sign, out_form, pool)  # type: ignore[arg-type]
        )
        if pool is not None:
            top, left, bottom, right = pool.padding
            rows = (rows + top + bottom - pool.kernel[0]) // pool.stride[0] + 1
            columns = (columns + left + right - pool.kernel[1]) // pool.stride[1] + 1
        form, channels, height, width = out_form, out, rows, columns
    quantizer = InputQuantizer(1.0, 0.0, 0, (1 << bits) - 1)
    return Network("random", input_shape, input_form, quantizer, layers)
