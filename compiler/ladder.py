"""Finds the parameters of the requantization ladder of every channel and proves them exact.

A channel of the integer network is a step function of its dot product y, a list of thresholds. The ladder
(golden/ladder.py) is a line, a shift and two clamps. The search below decides exactly: it returns parameters that give
the code of the step function on every reachable tile result, or shows that the widths of the configuration allow none.
docs/mathematics.md has the argument.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ..golden.encoding import AccumulatorMap
from ..golden.errors import DipoleError
from ..golden.ladder import Ladders, LadderWidths, pack_ladder
from ..golden.layers import LayerLike, Reach, reach

__all__ = [
    "LadderError",
    "Ladders",
    "check_accumulators",
    "constant_ladders",
    "find_ladders",
    "pack_ladder",
    "search",
    "StepFunctions",
]

_HUGE = 1 << 62  # beyond every number of the search, which stay below 2^58
_MAX_MUL_WIDTH = 24  # of rtl/config.py, for the advice in messages


class LadderError(DipoleError):
    """A channel that the ladder of the configuration cannot requantize exactly."""


@dataclass(frozen=True, eq=False)
class StepFunctions:
    """Step functions of tile results, one per channel, on the lattice of reachable values; arrays are int64 [channels].

    Points j = 0..last are in ascending order of code; the tile result of point j is start + direction*spacing*j.
    """

    start: np.ndarray
    direction: np.ndarray
    """+1, or -1 where the code falls with T."""
    spacing: np.ndarray
    last: np.ndarray
    first: np.ndarray
    """[channels, levels]: the first point whose code is at least k + 1; last + 1 where there is none."""

    @classmethod
    def of_layer(cls, layer: LayerLike, amap: AccumulatorMap, reachable: Reach | None = None) -> Self:
        """The step functions of a layer with thresholds."""
        if layer.thresholds is None or layer.sign is None:
            raise LadderError(f"layer {layer.name!r} has no thresholds to make a ladder of")
        lattice = reachable or reach(layer)
        sign = layer.sign.astype(np.int64)
        v_low = np.where(sign > 0, lattice.low, -lattice.high)
        v_high = np.where(sign > 0, lattice.high, -lattice.low)
        last = (v_high - v_low) // lattice.step
        thresholds = np.clip(layer.thresholds.astype(np.int64), v_low[:, None], v_high[:, None] + 1)
        first = -((v_low[:, None] - thresholds) // lattice.step[:, None])
        spacing, rest = np.divmod(amap.scale * lattice.step, amap.divisor)
        # A single reachable value has no spacing; any will do.
        if rest[last > 0].any():
            raise LadderError(f"layer {layer.name!r}: reachable dot products do not match its accumulator map")
        start = amap.accumulator(sign * v_low)
        return cls(start, sign, np.maximum(spacing, 1), last, np.minimum(first, last[:, None] + 1))

    def points(self, index: np.ndarray) -> np.ndarray:
        """Tile results of points [channels, n]."""
        return self.start[:, None] + (self.direction * self.spacing)[:, None] * index

    def take(self, channels: np.ndarray) -> Self:
        """The functions of some channels."""
        return replace(
            self,
            start=self.start[channels],
            direction=self.direction[channels],
            spacing=self.spacing[channels],
            last=self.last[channels],
            first=self.first[channels],
        )


@dataclass(frozen=True, eq=False)
class _Lines:
    """Constraints on lines m*x + phi over x = distance in T from the first point with a code of at least 1:

    phi >= (low_k << r) + low_c - m*low_x  and  phi <= (high_k << r) + high_c - m*high_x, [channels, n] each.
    Unused entries have a constant of -_HUGE or +_HUGE and zeros elsewhere.
    """

    low_k: np.ndarray
    low_c: np.ndarray
    low_x: np.ndarray
    high_k: np.ndarray
    high_c: np.ndarray
    high_x: np.ndarray
    d_low: np.ndarray
    """Bounds of D = d at the first point with a code of at least 1, per channel."""
    d_high: np.ndarray


def _lines(steps: StepFunctions, config: LadderWidths, below: bool) -> _Lines:
    """Constraints of either case: points with code 0 have d < 0 (below = False), or the nearest has d >= 0."""
    half = 1 << (config.acc_width - 1)
    column = (slice(None), None)
    levels = steps.first.shape[1]
    k = np.broadcast_to(np.arange(1, levels + 1), steps.first.shape)
    base = steps.first[:, 0]
    spacing, last = steps.spacing, steps.last

    reached = steps.first <= last[column]
    low_x = (steps.first - base[column]) * spacing[column]
    # The last point below k, where the line must stay below k: not for k that the base itself has, and of those never
    # reached only the smallest.
    top = reached.sum(axis=1)
    upper = (steps.first > base[column]) & (k <= top[column] + 1)
    high_x = (np.minimum(steps.first, last[column] + 1) - 1 - base[column]) * spacing[column]

    # d fits acc_width bits at both ends of the lattice.
    d_low = np.maximum(base * spacing - half, 0)
    d_high = half - 1 - (last - base) * spacing
    zeros_below = base > 0
    if below:
        d_low = np.where(zeros_below, np.maximum(d_low, spacing), half)
    else:
        d_high = np.where(zeros_below, np.minimum(d_high, spacing - 1), d_high)

    zero, one = np.zeros_like(base), np.ones_like(base)
    nothing = np.full_like(base, _HUGE)
    return _Lines(
        low_k=np.c_[np.where(reached, k, 0), zero],
        low_c=np.c_[np.where(reached, 0, -_HUGE), zero],
        low_x=np.c_[np.where(reached, low_x, 0), -d_low],
        high_k=np.c_[np.where(upper, k, 0), zero, one * below],
        high_c=np.c_[np.where(upper, -1, _HUGE), zero + (1 << config.mul_width) - 1, -one if below else nothing],
        high_x=np.c_[np.where(upper, high_x, 0), -d_high, -spacing * below],
        d_low=d_low,
        d_high=d_high,
    )


def _smallest_multiplier(
    lines: _Lines, channels: np.ndarray, shift: int, mul_width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Smallest m of each channel for which phi exists, or -1; that phi; the last pair of constraints (low, high).

    The room between the highest lower and the lowest upper bound of phi is a concave function of m, so Newton's
    method from m = 0 never steps over a feasible m: a pair of constraints that clashes at m demands a larger m, or
    clashes for all larger ones too.
    """
    count = len(channels)
    found, phi = np.full(count, -1), np.zeros(count, np.int64)
    low_at, high_at = np.zeros(count, np.int64), np.zeros(count, np.int64)
    low, low_x = (lines.low_k[channels] << shift) + lines.low_c[channels], lines.low_x[channels]
    high, high_x = (lines.high_k[channels] << shift) + lines.high_c[channels], lines.high_x[channels]
    m = np.zeros(count, np.int64)
    open_ = np.flatnonzero(lines.d_low[channels] <= lines.d_high[channels])
    while open_.size:
        row = np.arange(open_.size)
        lowest = low[open_] - m[open_, None] * low_x[open_]
        highest = high[open_] - m[open_, None] * high_x[open_]
        i, j = lowest.argmax(axis=1), highest.argmin(axis=1)
        room = highest[row, j] - lowest[row, i]
        low_at[open_], high_at[open_] = i, j
        fits = room >= 0
        found[open_[fits]] = m[open_[fits]]
        phi[open_[fits]] = lowest[row, i][fits]
        gain = low_x[open_, i] - high_x[open_, j]
        more = ~fits & (gain > 0)
        step = -(room[more] // gain[more])
        open_ = open_[more]
        m[open_] += step
        open_ = open_[m[open_] < 1 << mul_width]
    return found, phi, low_at, high_at


def search(steps: StepFunctions, config: LadderWidths) -> tuple[Ladders, np.ndarray]:
    """Ladders of all channels, and which channels have one (bool); parameters of the others are 0.

    Exhaustive within the widths of the configuration; the smallest shift is taken, and with it the smallest multiplier.
    """
    count = len(steps.start)
    half = 1 << (config.acc_width - 1)
    shift, multiplier, fraction, distance = (np.zeros(count, np.int64) for _ in range(4))
    base = np.minimum(steps.first[:, 0], steps.last)
    lowest_code = (steps.first == 0).sum(axis=1)
    top_code = (steps.first <= steps.last[:, None]).sum(axis=1)
    solved = np.zeros(count, bool)

    # One code only: a flat line. Code 0 leaves d free but for its wrap; another code needs d >= 0 at all points.
    flat = lowest_code == top_code
    span = steps.last * steps.spacing
    base = np.where(flat, 0, base)
    fraction[flat] = lowest_code[flat]
    solved[flat & (span < np.where(lowest_code == 0, 2 * half, half))] = True

    # Beyond this the largest sum shifted right is below the highest code.
    limit = ((1 << config.mul_width) - 1) * half
    cases = [_lines(steps, config, below) for below in (False, True)]
    left = np.flatnonzero(~flat & (span < 2 * half))
    for r in range(64):
        left = left[(top_code[left] << r) <= limit]
        for lines in cases:
            if not left.size:
                break
            m, phi, _, _ = _smallest_multiplier(lines, left, r, config.mul_width)
            ok = m >= 0
            done, m, phi = left[ok], m[ok], phi[ok]
            # phi = fraction + m*D: take the smallest D that leaves a fraction within its width.
            excess = phi - (1 << config.mul_width) + 1
            d = np.maximum(lines.d_low[done], -(-excess // np.maximum(m, 1)))
            shift[done], multiplier[done], fraction[done], distance[done] = r, m, phi - m * d, d
            solved[done] = True
            left = left[~ok]
        if not left.size:
            break

    t_base = steps.points(base[:, None])[:, 0]
    offset = (t_base - steps.direction * distance) & (2 * half - 1)
    parameters = (steps.direction < 0, shift, offset, multiplier, fraction)
    return Ladders(*(np.where(solved, p, 0).astype(np.int64) for p in parameters)), solved


def _prove(steps: StepFunctions, ladders: Ladders, config: LadderWidths, bits: int) -> np.ndarray:
    """Which channels give the right code at every reachable tile result (bool).

    Enough are the ends of the lattice, the first point of every code and the point before it: d does not wrap between
    the ends, so the ladder is monotone there, and so is the step function.
    """
    last = steps.last[:, None]
    at = np.c_[np.zeros_like(last), last, np.clip(steps.first, 0, last), np.clip(steps.first - 1, 0, last)]
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


def _obstacle(steps: StepFunctions, config: LadderWidths) -> str:
    """Why one channel has no ladder, and what to do about it."""
    span = int(steps.last[0] * steps.spacing[0])
    for width in range(config.acc_width + 1, 33):
        if span >> config.acc_width or search(steps, _Widths(width, config.mul_width))[1][0]:
            need = max(width, span.bit_length())
            return f"its tile results span {span}, too much for acc_width {config.acc_width}; raise acc_width to {need}"
    for width in range(config.mul_width + 1, _MAX_MUL_WIDTH + 1):
        if search(steps, _Widths(config.acc_width, width))[1][0]:
            return f"no multiplier of {config.mul_width} bits is exact; raise mul_width to {width}"
    # No width helps: the pair of thresholds that clashes at the finest resolution that is not bound by the widths.
    levels = steps.first.shape[1]
    lines = _lines(steps, config, False)
    pair = None
    for r in range(31):
        m, _, low, high = _smallest_multiplier(lines, np.zeros(1, np.int64), r, _MAX_MUL_WIDTH)
        if m[0] < 0 and low[0] < levels and high[0] < levels:
            pair = sorted((int(low[0]), int(high[0])))
    if pair is None:
        return "no multiplier is exact; use fewer output bits"
    first = np.minimum(steps.first[:, pair], steps.last[:, None])
    results = steps.points(first)[0]
    return (
        f"its thresholds are not evenly spaced: {pair[0]} and {pair[1]} (tile results {results[0]} and {results[1]}) "
        f"fit no line with the others at any mul_width; use a uniform quantizer with fewer output bits"
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
            f"layer {layer.name!r}, channel {bad[0]}{others}: no exact ladder: {_obstacle(steps.take(bad[:1]), config)}"
        )
    wrong = np.flatnonzero(~_prove(steps, ladders, config, layer.output_format.bits))
    if wrong.size:
        raise LadderError(
            f"layer {layer.name!r}, channel {wrong[0]}: the ladder found is not exact; its thresholds are not in order "
            f"or not 2^{layer.output_format.bits} - 1 in number; check the importer"
        )
    return ladders


def constant_ladders(code: int, count: int, low: int, high: int, config: LadderWidths) -> Ladders:
    """Ladders of `count` channels that give `code` for every tile result in low..high (before the modulus).

    For columns beyond the last channel: `golden.encoding.dummy_column` gives a weight code and low, high.
    """
    if code and (high - low) >> (config.acc_width - 1):
        raise LadderError(
            f"unused columns with tile results {low}..{high} cannot give code {code}: they span too much for acc_width "
            f"{config.acc_width}; raise acc_width to {(high - low).bit_length() + 1}"
        )
    zero = np.zeros(count, np.int64)
    return Ladders(zero, zero, zero + (low & ((1 << config.acc_width) - 1)), zero, zero + code)
