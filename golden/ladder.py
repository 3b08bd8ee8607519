"""The requantization ladder as the hardware computes it: codes from tile results by one multiply, add and shift.

compiler/ladder.py finds the parameters and proves them exact; rtl/ladder.py is the circuit.
"""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["ladder_codes"]


def ladder_codes(
    accumulator: ArrayLike,
    neg: ArrayLike,
    shift: ArrayLike,
    offset: ArrayLike,
    multiplier: ArrayLike,
    fraction: ArrayLike,
    bits: int,
    acc_width: int,
) -> np.ndarray:
    """Codes uint8 of tile results T; arguments broadcast against each other.

    d = T - offset (neg: offset - T) modulo 2^acc_width, read as two's complement; the code is 0 if d < 0, else
    min((multiplier*d + fraction) >> shift, 2^bits - 1). T may be given modulo 2^acc_width or not.
    The sum stays below 2^(acc_width - 1 + multiplier bits), 2^55 at most, so int64 holds it.
    """
    difference = np.asarray(accumulator).astype(np.int64) - np.asarray(offset).astype(np.int64)
    difference = np.where(np.asarray(neg).astype(bool), -difference, difference)
    half = 1 << (acc_width - 1)
    d = ((difference + half) & ((1 << acc_width) - 1)) - half
    total = np.asarray(multiplier).astype(np.int64) * d + np.asarray(fraction).astype(np.int64)
    codes = np.minimum(total >> np.asarray(shift).astype(np.int64), (1 << bits) - 1)
    return np.where(d < 0, 0, codes).astype(np.uint8)
