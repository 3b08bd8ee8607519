"""Finds the parameters of the requantization ladder of every channel of a layer and proves them exact.

A channel of the integer network is a step function of its dot product y, a list of thresholds. The ladder
(golden/ladder.py) is a line, a shift and two clamps. `find_ladders` returns parameters that give the code of the step
function on every reachable tile result, or says which channel has none in this configuration, and why.
"""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from ..golden.encoding import AccumulatorMap
from ..golden.ladder import Ladders, LadderWidths, has_corrections, pack_ladder
from ..golden.layers import LayerLike, Reach, reach
from .ladder_search import LadderError, StepFunctions, clashing_thresholds, search

__all__ = [
    "LadderError",
    "Ladders",
    "check_accumulators",
    "constant_ladders",
    "find_ladders",
    "pack_ladder",
]

# Of rtl/config.py, for the advice in messages.
_MAX_MUL_WIDTH = 24
_MAX_ACC_WIDTH = 32


def _prove(steps: StepFunctions, ladders: Ladders, config: LadderWidths, bits: int) -> np.ndarray:
    """Which channels give the right code at every reachable tile result (bool).

    Enough are the ends of the lattice, the first point of every code and the two points before it: d does not wrap
    between the ends, so the line is monotone there, and so is the step function; a correction takes back one code at
    one point, which these points show.
    """
    last = steps.last[:, None]
    near = [np.clip(steps.first - i, 0, last) for i in range(3)]
    at = np.concatenate([np.zeros_like(last), last, *near], axis=1)
    expected = np.zeros_like(at)
    for k in range(steps.first.shape[1]):
        expected += steps.first[:, k, None] <= at
    got = ladders.codes(steps.points(at), bits, config.acc_width)
    half = 1 << (config.acc_width - 1)
    d = ((steps.points(at[:, :1])[:, 0] - ladders.offset) * steps.direction + half) % (2 * half) - half
    monotone = (d + steps.last * steps.spacing < half) | ((ladders.multiplier == 0) & (ladders.fraction == 0))
    return (got == expected).all(axis=1) & monotone & (steps.first.shape[1] == (1 << bits) - 1)


@dataclass(frozen=True)
class _Widths:
    acc_width: int
    mul_width: int
    corrections: bool


def _obstacle(steps: StepFunctions, config: LadderWidths) -> str:
    """Why channels have no ladder, and what to do about all of them; details are of the first."""
    corrections = has_corrections(config)

    def solved(mul_width: int, corrected: bool = corrections, acc_width: int = config.acc_width) -> bool:
        return bool(search(steps, _Widths(acc_width, mul_width, corrected))[1].all())

    # A wider multiplier or accumulator never loses a ladder, so the least width is found by bisection.
    span = int((steps.last * steps.spacing).max())
    acc_widths = range(max(config.acc_width + 1, span.bit_length()), _MAX_ACC_WIDTH + 1)
    at = len(acc_widths)
    if not solved(_MAX_MUL_WIDTH, True):
        at = bisect_left(acc_widths, True, key=lambda width: solved(_MAX_MUL_WIDTH, True, width))
    if at < len(acc_widths) or span >> config.acc_width:
        need = acc_widths[at] if at < len(acc_widths) else max(config.acc_width + 1, span.bit_length())
        return f"its tile results span {span}, too much for acc_width {config.acc_width}; raise acc_width to {need}"
    mul_widths = range(config.mul_width, _MAX_MUL_WIDTH + 1)
    at = bisect_left(mul_widths, True, key=solved)
    if at < len(mul_widths):
        return f"no multiplier of {config.mul_width} bits is exact; raise mul_width to {mul_widths[at]}"
    at = bisect_left(mul_widths, True, key=lambda width: solved(width, True))
    if not corrections and at < len(mul_widths):
        also = f" and raise mul_width to {mul_widths[at]}" if at else ""
        return f"rounding in its function bends the thresholds off every line; turn corrections on{also}"
    clash = clashing_thresholds(steps, _Widths(config.acc_width, _MAX_MUL_WIDTH, False))
    if not clash:
        return "no multiplier is exact; use fewer output bits"
    (k0, t0), (k1, t1) = clash
    return (
        f"its thresholds are not evenly spaced: {k0} and {k1} (tile results {t0} and {t1}) fit no line with the others "
        "at any mul_width; use a uniform quantizer with fewer output bits"
    )


def check_accumulators(
    layer: LayerLike, amap: AccumulatorMap, config: LadderWidths, reachable: Reach | None = None
) -> None:
    """Raises LadderError where the reachable tile results of a channel exceed 2^acc_width different values."""
    lattice = reachable or reach(layer)
    span = amap.accumulator(lattice.high) - amap.accumulator(lattice.low)
    channel = int(span.argmax())
    if int(span[channel]) >> config.acc_width:
        raise LadderError(
            f"layer {layer.name!r}, channel {channel}: its tile results span {span[channel]}, too much for acc_width "
            f"{config.acc_width}; raise acc_width to {int(span[channel]).bit_length()}"
        )


def find_ladders(
    layer: LayerLike, amap: AccumulatorMap, config: LadderWidths, reachable: Reach | None = None
) -> Ladders:
    """Ladders of all channels of a layer with thresholds, each proved exact on every reachable tile result.

    Raises LadderError naming layer and channel where the widths of the configuration allow no exact ladder.
    reachable: the values y can take if more is known than `reach(layer)` finds.
    """
    steps = StepFunctions.of_layer(layer, amap, reachable)
    ladders, solved = search(steps, config)
    bad = np.flatnonzero(~solved)
    if bad.size:
        others = f" (and {bad.size - 1} more channels)" if bad.size > 1 else ""
        raise LadderError(
            f"layer {layer.name!r}, channel {bad[0]}{others}: no exact ladder: {_obstacle(steps.take(bad), config)}"
        )
    wrong = np.flatnonzero(~_prove(steps, ladders, config, layer.output_format.bits))
    if wrong.size:
        raise LadderError(
            f"layer {layer.name!r}, channel {wrong[0]}: the ladder found is not exact; its thresholds are not in order "
            f"or not 2^{layer.output_format.bits} - 1 in number; check the importer"
        )
    return ladders


def constant_ladders(code: int, count: int, low: int, high: int, config: LadderWidths) -> Ladders:
    """Ladders of `count` dummy channels that give `code` for every tile result in low..high (before the modulus).

    For columns beyond the last channel: `golden.encoding.dummy_column` gives a weight code and low, high.
    """
    if code and (high - low) >> (config.acc_width - 1):
        raise LadderError(
            f"unused columns with tile results {low}..{high} cannot give code {code}: they span too much for acc_width "
            f"{config.acc_width}; raise acc_width to {(high - low).bit_length() + 1}"
        )
    ladders = Ladders.zeros(count)
    ladders.offset[:] = low & ((1 << config.acc_width) - 1)
    ladders.fraction[:] = code
    ladders.valid[:] = 0
    return ladders
