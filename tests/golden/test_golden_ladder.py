"""The ladder of the hardware in NumPy against its definition in Python integers."""

import numpy as np
import pytest

from dipole.golden.ladder import ladder_codes


def reference(total, neg, shift, offset, multiplier, fraction, bits, acc_width):
    d = (offset - total if neg else total - offset) % (1 << acc_width)
    if d >> (acc_width - 1):
        return 0
    return min((multiplier * d + fraction) >> shift, (1 << bits) - 1)


@pytest.mark.parametrize("acc_width", (12, 24, 32))
@pytest.mark.parametrize("mul_width", (8, 16, 24))
def test_ladder_codes(acc_width, mul_width):
    rng = np.random.default_rng([20, acc_width, mul_width])
    top = (1 << acc_width) - 1
    for _ in range(300):
        neg, shift, bits = int(rng.integers(2)), int(rng.integers(64)), int(rng.integers(1, 9))
        if rng.random() < 0.7:
            shift = int(rng.integers(0, mul_width + acc_width))
        offset = int(rng.choice([0, top, rng.integers(0, top)]))
        multiplier, fraction = (
            int(rng.choice([0, (1 << mul_width) - 1, rng.integers(0, 1 << mul_width)])) for _ in "mf"
        )
        totals = np.r_[rng.integers(0, top, 20), 0, top, offset, (offset + (1 << (acc_width - 1))) & top]
        got = ladder_codes(totals, neg, shift, offset, multiplier, fraction, bits, acc_width)
        args = (neg, shift, offset, multiplier, fraction, bits, acc_width)
        assert got.tolist() == [reference(int(t), *args) for t in totals], args
        beyond = totals + (int(rng.integers(-3, 4)) << acc_width)
        assert np.array_equal(ladder_codes(beyond, *args), got)


def test_ladder_codes_broadcast_per_channel():
    totals = np.arange(12).reshape(2, 3, 2)
    channel = (slice(None), None)
    got = ladder_codes(
        totals,
        np.array([0, 1, 0])[channel],
        np.array([0, 1, 2])[channel],
        np.array([1, 5, 0])[channel],
        np.array([1, 1, 2])[channel],
        np.array([0, 1, 3])[channel],
        3,
        12,
    )
    assert got.shape == totals.shape and got.dtype == np.uint8
    assert got[0].tolist() == [[0, 0], [2, 1], [2, 3]]
