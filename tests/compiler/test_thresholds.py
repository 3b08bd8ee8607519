"""Bisection of step functions: thresholds equal brute force; what is not monotone is refused by name."""

import numpy as np
import pytest

from dipole.compiler.network import Format
from dipole.compiler.quantizers import Quantizer
from dipole.compiler.steps import Arithmetic, BatchNorm, Relu
from dipole.compiler.thresholds import ThresholdError, code_function, find_thresholds, reachable_range


def by_brute_force(function, low, high, levels, sign):
    """Smallest sign*y that reaches each level, one above the range where none does, one below where all do."""
    result = np.zeros((len(low), levels), np.int64)
    for c in range(len(low)):
        y = np.arange(low[c], high[c] + 1)
        codes = function(np.broadcast_to(y, (len(low), y.size)))[c]
        v = np.sort(sign[c] * y)
        codes = codes if sign[c] > 0 else codes[::-1]
        for k in range(levels):
            reached = v[codes >= k + 1]
            if reached.size == 0:
                result[c, k] = v[-1] + 1
            else:
                result[c, k] = reached[0] if reached.size < v.size else v[0] - 1
    return result


@pytest.mark.parametrize("seed", range(30))
def test_equal_to_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, bits = 6, int(rng.integers(1, 9))
    rounding = str(rng.choice(["ROUND", "HALF_UP", "FLOOR", "CEIL", "UP", "DOWN", "HALF_DOWN"]))
    zero = (2**bits - 1) / 2 if rng.random() < 0.3 else 0
    quantizer = Quantizer(np.float32(2.0 ** rng.integers(-3, 2)), np.float32(zero), bits, False, False, rounding)  # type: ignore[arg-type]
    slope = rng.normal(size=channels).astype(np.float32) * rng.choice([0.01, 0.1, 1])
    slope[0] = 0
    bias, mean = (rng.normal(size=channels).astype(np.float32) for _ in range(2))
    norm = BatchNorm(slope, bias, mean, rng.uniform(0.1, 2, channels).astype(np.float32), 1e-5)
    steps = [Arithmetic("Add", np.array([0.5], np.float32)), norm] + [Relu()] * int(rng.integers(2))
    low, high = -rng.integers(0, 500, channels), rng.integers(0, 500, channels)
    function = code_function(rng.choice([0.5, 0.01, 0.123], channels), steps, quantizer.codes)
    thresholds, sign = find_thresholds(function, low, high, 2**bits - 1, layer="x")
    ends = function(np.stack([low, high], axis=1)).astype(int)
    moving = ends[:, 0] != ends[:, 1]
    assert np.array_equal(sign[moving], np.sign(slope)[moving])
    assert np.all(sign[~moving] == 1)  # constant channels count as rising
    np.testing.assert_array_equal(thresholds, by_brute_force(function, low, high, 2**bits - 1, sign))


def test_ties_go_as_the_quantizer_rounds() -> None:
    """scale 1/2: every odd y is a tie between two codes."""
    for rounding, expected in (("ROUND", [2, 3, 6]), ("HALF_UP", [1, 3, 5]), ("HALF_DOWN", [2, 4, 6])):
        quantizer = Quantizer(np.float32(1), np.float32(0), 2, False, False, rounding)  # type: ignore[arg-type]
        function = code_function(np.array([0.5]), [], quantizer.codes)
        thresholds, _ = find_thresholds(function, np.array([-9]), np.array([9]), 3, layer="x")
        # Clamping comes before rounding: 2.5 is 2 to even, 3 half up, 2 half down; 3.5 clamps to 3.
        assert thresholds[0].tolist() == expected, rounding


def test_large_ranges_are_exact_at_both_ends() -> None:
    function = code_function(np.array([1.0]), [], lambda x: (x >= 8_000_000).astype(np.uint8))
    thresholds, sign = find_thresholds(function, np.array([-(10**7)]), np.array([10**7]), 1, layer="x")
    assert thresholds.tolist() == [[8_000_000]] and sign.tolist() == [1]


def test_not_monotone_is_named() -> None:
    with pytest.raises(ThresholdError, match=r"layer 'c3', channel 1: its function is not monotone"):
        find_thresholds(lambda y: np.where([[False], [True]], abs(y) > 5, y > 0).astype(np.uint8),
                        np.array([-9, -9]), np.array([9, 9]), 1, layer="c3")  # fmt: skip


def test_not_a_number_is_named() -> None:
    huge = [Arithmetic("Mul", np.array([3e38], np.float32))] * 2 + [Arithmetic("Mul", np.array([0], np.float32))]
    with pytest.raises(ThresholdError, match=r"layer 'c4', channel 0: .*not a number"):
        find_thresholds(code_function(np.ones(1), huge, lambda x: (x > 0).astype(np.uint8)), np.array([-9]),
                        np.array([9]), 1, layer="c4")  # fmt: skip


@pytest.mark.parametrize("padded", [False, True])
def test_reachable_range(padded: bool) -> None:
    rng = np.random.default_rng(7)
    w = rng.integers(-3, 4, (2, 2, 1, 1))
    form = Format(2, 1, 0)
    low, high = reachable_range(w, form, padded)
    grid = np.stack(np.meshgrid(*[range(4)] * 2), -1).reshape(-1, 2)
    y = grid @ w.reshape(2, 2).T
    assert np.array_equal(low, y.min(axis=0)) and np.array_equal(high, y.max(axis=0))
    odd_low, odd_high = reachable_range(np.full((1, 1, 1, 1), 3), Format.odd(2), padded)
    assert (odd_low[0], odd_high[0]) == (-9, 9)
    shifted = reachable_range(np.full((1, 1, 1, 1), 2), Format(2, 1, 1), padded)
    assert (shifted[0][0], shifted[1][0]) == ((0 if padded else 2), 8)
