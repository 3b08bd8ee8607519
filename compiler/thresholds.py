"""Thresholds of a layer, found by bisection on the reference function itself.

The code of channel o is a step function f(y) of the integer accumulator y. `find_thresholds` searches, for every
channel and level at once, the smallest sign*y at which f reaches the level; it only ever evaluates f, so ties, float32
roundings and clamps come out as the reference has them. No constant is folded or rounded.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..golden.errors import DipoleError
from .network import Format
from .steps import Step

__all__ = ["ThresholdError", "code_function", "find_thresholds", "reachable_range"]

CodeFunction = Callable[[np.ndarray], np.ndarray]
"""int64 accumulators [channels, n] -> codes [channels, n]."""


class ThresholdError(DipoleError):
    """A channel whose function has no thresholds; the message names layer and channel."""


def reachable_range(weights: np.ndarray, activations: Format, padded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest y per output channel (int64) for integer weights [out, ...] and any activation codes.

    `padded`: taps may lie outside the image, where they contribute 0.
    """
    flat = weights.reshape(weights.shape[0], -1).astype(np.int64)
    ends = np.stack([flat * activations.delta, flat * (activations.alpha * activations.levels + activations.delta)])
    low, high = ends.min(axis=0), ends.max(axis=0)
    if padded:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    return low.sum(axis=1), high.sum(axis=1)


def code_function(scale: np.ndarray, steps: Sequence[Step], codes: Callable[[np.ndarray], np.ndarray]) -> CodeFunction:
    """f: real accumulator float32(y * scale), then the steps, then the codes; `scale` float64 [channels]."""

    def function(y: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            x = (y * scale[:, None]).astype(np.float32)
            for step in steps:
                x = step(x)
            if np.isnan(x).any():
                channel = int(np.argwhere(np.isnan(x))[0, 0])
                raise ThresholdError(f"channel {channel}: its function is not a number (NaN) for some accumulators")
            return codes(x)

    return function


def find_thresholds(
    function: CodeFunction, low: np.ndarray, high: np.ndarray, levels: int, *, layer: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds int64 [channels, levels] and sign int8 [channels] of `function` on low..high (int64 [channels]).

    Raises ThresholdError where the function is not monotone, as far as `_verify` looks.
    """
    try:
        ends = function(np.stack([low, high], axis=1)).astype(np.int64)
        sign = np.where(ends[:, 1] < ends[:, 0], -1, 1).astype(np.int64)
        first, last = np.where(sign > 0, low, -high), np.where(sign > 0, high, -low)
        wanted = np.arange(1, levels + 1)
        below = np.repeat((first - 1)[:, None], levels, axis=1)
        above = np.repeat((last + 1)[:, None], levels, axis=1)
        # Invariant: f < level at `below` (or it lies before the range), f >= level at `above` (or after it).
        while np.any(above - below > 1):
            middle = (above + below) >> 1
            inside = np.clip(middle, first[:, None], last[:, None])
            reached = function(sign[:, None] * inside) >= wanted
            busy = above - below > 1
            above = np.where(busy & reached, middle, above)
            below = np.where(busy & ~reached, middle, below)
        _verify(function, sign, first, last, above, seed)
    except ThresholdError as error:
        raise ThresholdError(f"layer {layer!r}, {error}") from None
    always = above == first[:, None]
    return np.where(always, above - 1, above), sign.astype(np.int8)


def _verify(
    function: CodeFunction, sign: np.ndarray, first: np.ndarray, last: np.ndarray, thresholds: np.ndarray, seed: int
) -> None:
    """Compare counts of thresholds with the function: on the whole range where it is short, else on random values and
    on both sides of every threshold."""
    channels = thresholds.shape[0]
    span = int((last - first).max()) + 1
    if span <= 4096 and span * channels <= 1 << 20:
        values = first[:, None] + np.arange(span)
    else:
        random = np.random.default_rng(seed).random((channels, 256))
        middle = first[:, None] + np.floor(random * (last - first + 1)[:, None]).astype(np.int64)
        values = np.concatenate([middle, thresholds, thresholds - 1, first[:, None], last[:, None]], axis=1)
    values = np.clip(values, first[:, None], last[:, None])
    codes = function(sign[:, None] * values)
    for channel in range(channels):
        expected = np.searchsorted(thresholds[channel], values[channel], side="right")
        if not np.array_equal(expected, codes[channel]):
            at = int(np.argmax(expected != codes[channel]))
            raise ThresholdError(
                f"channel {channel}: its function is not monotone near accumulator "
                f"{int(sign[channel] * values[channel, at])}"
            )
    if np.any(np.diff(thresholds, axis=1) < 0):
        channel = int(np.argmax(np.any(np.diff(thresholds, axis=1) < 0, axis=1)))
        raise ThresholdError(f"channel {channel}: its function is not monotone")
