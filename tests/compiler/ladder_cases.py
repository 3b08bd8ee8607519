"""Configurations, layers with float32 threshold chains, and maps for the ladder tests."""

from dataclasses import dataclass

import numpy as np

from dipole.compiler.network import Conv, Format
from dipole.golden import encoding, layers


@dataclass(frozen=True)
class Widths:
    acc_width: int
    mul_width: int
    corrections: bool = False


def float32_thresholds(
    rng: np.random.Generator, low: np.ndarray, high: np.ndarray, spread: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds and signs of scale, BatchNorm and quantizer chains in float32, by bisection on the chain itself."""
    channels = len(low)
    f = np.float32
    scale = f(rng.uniform(0.001, 0.1))
    mean = (rng.normal(0, 0.5, channels) * spread * scale).astype(f)
    deviation = (spread * scale * rng.uniform(0.5, 2, channels)).astype(f)
    gamma = (rng.uniform(0.3, 1.5, channels) * rng.choice([-1, 1], channels, p=[0.2, 0.8])).astype(f)
    beta = rng.normal(0, 0.5, channels).astype(f)
    step = f(rng.uniform(2, 4) / (1 << bits))
    levels = (1 << bits) - 1

    def codes(y: np.ndarray) -> np.ndarray:
        x = y.astype(f) * scale
        x = (x - mean[:, None]) / deviation[:, None] * gamma[:, None] + beta[:, None]
        return np.rint(np.clip(np.maximum(x, 0) / step, 0, levels)).astype(int)

    sign = np.where(gamma < 0, -1, 1)
    below = np.where(sign > 0, low, -high)[:, None] - 1 + np.zeros((1, levels), np.int64)
    above = np.where(sign > 0, high, -low)[:, None] + 1 + np.zeros((1, levels), np.int64)
    while (above - below > 1).any():
        middle = (above + below) // 2
        reached = codes(sign[:, None] * middle) >= np.arange(1, levels + 1)
        above, below = np.where(reached, middle, above), np.where(reached, below, middle)
    return above, sign.astype(np.int8)


def realistic_layer(rng: np.random.Generator, bits: int, channels: int, inputs: int, padded: bool = False) -> Conv:
    """A 3x3 layer of `bits`-bit weights and activations with the thresholds of a float32 chain."""
    half = 1 << (bits - 1)
    weight_format = Format.odd(bits) if bits == 1 else Format.signed(bits)
    weights = np.clip(np.rint(rng.normal(half, half / 2.5, (channels, inputs, 3, 3))), 0, 2 * half - 1).astype(np.uint8)
    padding = (1, 1, 1, 1) if padded else (0, 0, 0, 0)
    plain = Conv("float32", weights, weight_format, Format.unsigned(bits), padding=padding)
    reach = layers.reach(plain)
    w = encoding.values(weights, weight_format.alpha, weight_format.delta).reshape(channels, -1)
    spread = np.sqrt((w**2).sum(axis=1)) * (1 << bits) * 0.3 + 1
    thresholds, sign = float32_thresholds(rng, reach.low, reach.high, spread, bits)
    return Conv(
        "float32",
        weights,
        weight_format,
        Format.unsigned(bits),
        (1, 1),
        padding,
        thresholds,
        sign,
        Format.unsigned(bits),
    )


def layer_map(layer: Conv, planes: int = 1) -> encoding.AccumulatorMap:
    seen = encoding.array_format(layer.input_format, any(layer.padding))
    planes = -(-seen.bits // planes) * planes
    return encoding.accumulator_map(seen, layer.weight_format, layer.weights, planes=planes)
