"""The search behind compiler/ladder.py: ladder parameters for step functions on a lattice, or the fact that none exist.

docs/mathematics.md has the argument. In short: relative to the first point with a code of at least 1, a ladder is a
line m*x + phi that passes between integer points. For a given shift the room left for phi is a concave function of m,
so Newton's method from m = 0 finds the smallest multiplier or shows that there is none; all shifts are tried.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from ..golden.encoding import AccumulatorMap
from ..golden.errors import DipoleError
from ..golden.ladder import Ladders, LadderWidths, has_corrections
from ..golden.layers import LayerLike, Reach, reach

__all__ = ["LadderError", "StepFunctions", "clashing_thresholds", "search"]

_HUGE = 1 << 62  # beyond every number of the search, which stay below 2^58


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


def _lines(steps: StepFunctions, config: LadderWidths, below: bool, early: bool = False) -> _Lines:
    """Constraints of either case: points with code 0 have d < 0 (below = False), or the nearest has d >= 0.

    early: the line may reach a code one point before the step function does; a correction bit makes up for it.
    """
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
    high_x = (np.minimum(steps.first, last[column] + 1) - 1 - early - base[column]) * spacing[column]

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
        high_x=np.c_[np.where(upper, high_x, 0), -d_high, -spacing * below * (1 + early)],
        d_low=d_low,
        d_high=d_high,
    )


def _smallest_multiplier(
    lines: _Lines, channels: np.ndarray, shift: int, most: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Smallest m <= most of each channel for which phi exists, or -1; that phi; the last pair of constraints.

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
        open_ = open_[m[open_] <= most[open_]]
    return found, phi, low_at, high_at


def search(steps: StepFunctions, config: LadderWidths) -> tuple[Ladders, np.ndarray]:
    """Ladders of all channels, and which channels have one (bool); parameters of the others are 0.

    Exhaustive within the widths of the configuration; the smallest shift is taken, and with it the smallest multiplier.
    Correction bits, where the configuration has them, are used only by channels that cannot do without; there the
    search is exhaustive over lines that also keep to their constraints one point below the lattice.
    """
    ladders, solved = _search(steps, config)
    if has_corrections(config) and not solved.all():
        left = np.flatnonzero(~solved)
        corrected, more = _search_corrected(steps.take(left), config)
        for f in fields(Ladders):
            getattr(ladders, f.name)[left[more]] = getattr(corrected, f.name)[more]
        solved[left[more]] = True
    return ladders, solved


def _search(steps: StepFunctions, config: LadderWidths, early: bool = False) -> tuple[Ladders, np.ndarray]:
    """`search` without correction bits, or (early) for lines that correction bits make right."""
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
    cases = [_lines(steps, config, below, early) for below in (False, True)]
    left = np.flatnonzero(~flat & (span < 2 * half))
    for r in range(64):
        left = left[(top_code[left] << r) <= limit]
        for lines in cases:
            if not left.size:
                break
            most = np.full(len(left), (1 << config.mul_width) - 1)
            if early:
                # At most one code per point: a correction bit takes back one.
                most = np.minimum(most, (1 << r) // steps.spacing[left])
            m, phi, _, _ = _smallest_multiplier(lines, left, r, most)
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
    ladders = Ladders.zeros(count)
    for name, found in zip(
        ("neg", "shift", "offset", "multiplier", "fraction"),
        (steps.direction < 0, shift, offset, multiplier, fraction),
        strict=True,
    ):
        getattr(ladders, name)[solved] = found[solved]
    if early:
        ladders.double[:] = steps.spacing == 2
        _mark_late(steps, ladders, base, distance)
    return ladders, solved


def _search_corrected(steps: StepFunctions, config: LadderWidths) -> tuple[Ladders, np.ndarray]:
    """Ladders with correction bits. The hardware knows neighbours 1 or 2 apart; wider lattices are refined to that."""
    spacing = np.where(steps.spacing % 2 == 0, 2, 1)
    factor = steps.spacing // spacing
    last = steps.last * factor
    first = np.where(steps.first > steps.last[:, None], last[:, None] + 1, steps.first * factor[:, None])
    return _search(replace(steps, spacing=spacing, last=last, first=first), config, early=True)


def _mark_late(steps: StepFunctions, ladders: Ladders, base: np.ndarray, distance: np.ndarray) -> None:
    """Sets the correction bit of each code that the line reaches one point before the step function."""
    levels = steps.first.shape[1]
    column = (slice(None), None)
    k = np.arange(1, levels + 1)
    at_base = ladders.fraction + ladders.multiplier * distance
    gain = np.maximum(ladders.multiplier * steps.spacing, 1)
    # The lattice ends before higher codes, and their product with 2^shift may not fit int64.
    below_top = k <= (steps.first <= steps.last[column]).sum(axis=1)[column] + 1
    reached = base[column] - ((at_base[column] - (np.where(below_top, k, 0) << ladders.shift[column])) // gain[column])
    before = steps.first - 1
    d_before = distance[column] + (before - base[column]) * steps.spacing[column]
    late = (reached == before) & (before >= 0) & (d_before >= 0) & (ladders.multiplier > 0)[column] & below_top
    ladders.late[:, 1 : levels + 1] = late


def clashing_thresholds(steps: StepFunctions, config: LadderWidths) -> list[tuple[int, int]]:
    """For channels without a ladder: a pair (threshold index, tile result) that no multiplier satisfies together.

    Empty where a width of the configuration is in the way before any two thresholds are.
    """
    levels = steps.first.shape[1]
    lines = _lines(steps, config, False)
    pair: list[int] = []
    for r in range(31):
        m, _, low, high = _smallest_multiplier(lines, np.zeros(1, np.int64), r, np.array([(1 << config.mul_width) - 1]))
        if m[0] < 0 and low[0] < levels and high[0] < levels:
            pair = sorted((int(low[0]), int(high[0])))
    results = steps.points(np.minimum(steps.first[:, pair], steps.last[:, None]))[0]
    return list(zip(pair, results.tolist(), strict=True))
