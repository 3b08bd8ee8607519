"""Stage 1 of the golden models: codes, bit planes, odd integers, and what one array tile computes from them.

A *code* u is plain unsigned binary of 1..8 bits; plane i is bit i of it. A *format* gives the integer a code stands
for, value = alpha * u + delta; anything with the attributes `bits`, `alpha` and `delta` is a format here. The
identities and their proofs are in docs/mathematics.md; the names there and here agree.
"""

from dataclasses import dataclass
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from .errors import DipoleError

__all__ = [
    "AccumulatorMap",
    "ArrayFormat",
    "EncodingError",
    "FormatLike",
    "accumulator_bits",
    "accumulator_map",
    "array_format",
    "dummy_column",
    "from_planes",
    "from_values",
    "hard_ladder",
    "mbit_encoder",
    "odd",
    "plane_dot",
    "plane_sum",
    "sum_column_code",
    "to_planes",
    "values",
]


class EncodingError(DipoleError):
    """Numbers that a format cannot hold, or a format that the array cannot compute with."""


class FormatLike(Protocol):
    """Integers behind codes: value = alpha * u + delta, u in 0..2^bits-1."""

    @property
    def bits(self) -> int: ...
    @property
    def alpha(self) -> int: ...
    @property
    def delta(self) -> int: ...


# --- codes, planes, odd integers -----------------------------------------------------------------


def hard_ladder(x: ArrayLike, bits: int) -> np.ndarray:
    """Codes of real x by the hard ladder of the paper (eq. 15): floor(A*(x+1)/2 + 1/2) clamped to 0..A, ties upward."""
    levels = (1 << bits) - 1
    return np.clip(np.floor(levels * (np.asarray(x, np.float64) + 1) / 2 + 0.5), 0, levels).astype(np.uint8)


def mbit_encoder(x: ArrayLike, bits: int) -> np.ndarray:
    """The paper's trigonometric encoder for any number of bits: [..., bits] in {-1,+1}, plane 0 first.

    x are quantized reals o/A. Plane i has the period 2^(i+1) codes: sign(-sin(pi*A*x / 2^(i+1))), and the top plane
    sign(sin(pi*A*x / 2^bits)) = sign(x).
    """
    phase = np.pi * ((1 << bits) - 1) * np.asarray(x, np.float64)[..., None] / 2.0 ** np.arange(1, bits + 1)
    sines = np.sin(phase)
    sines[..., :-1] *= -1
    return np.where(sines > 0, 1, -1).astype(np.int8)


def to_planes(codes: ArrayLike, bits: int) -> np.ndarray:
    """Bit planes of codes: uint8 [..., bits], plane 0 (weight 1) first."""
    return ((np.asarray(codes)[..., None].astype(np.int64) >> np.arange(bits)) & 1).astype(np.uint8)


def from_planes(planes: ArrayLike) -> np.ndarray:
    """Codes of bit planes [..., bits]; uint8 up to 8 planes, int64 above."""
    planes = np.asarray(planes).astype(np.int64)
    codes = (planes << np.arange(planes.shape[-1])).sum(axis=-1)
    return codes.astype(np.uint8) if planes.shape[-1] <= 8 else codes


def odd(codes: ArrayLike, bits: int) -> np.ndarray:
    """Odd integers o = 2u - A of codes, int64: the sum of 2^i * x_i with x_i = 2*bit_i - 1 in {-1,+1}."""
    return 2 * np.asarray(codes).astype(np.int64) - ((1 << bits) - 1)


def values(codes: ArrayLike, alpha: int, delta: int) -> np.ndarray:
    """Integers alpha*u + delta of codes, int64."""
    return alpha * np.asarray(codes).astype(np.int64) + delta


def from_values(numbers: ArrayLike, bits: int, alpha: int, delta: int) -> np.ndarray:
    """Codes of integers; the inverse of `values`. Raises EncodingError for an integer that the format does not have."""
    numbers = np.asarray(numbers).astype(np.int64)
    codes, rest = np.divmod(numbers - delta, alpha)
    bad = (rest != 0) | (codes < 0) | (codes >= 1 << bits)
    if bad.any():
        raise EncodingError(
            f"integer {numbers[bad].flat[0]} has no {bits}-bit code in the format {alpha}*u{delta:+d}; "
            f"it holds {delta}..{alpha * ((1 << bits) - 1) + delta} in steps of {alpha}"
        )
    return codes.astype(np.uint8)


# --- dot products by planes ----------------------------------------------------------------------


_POPCOUNT = np.array([byte.bit_count() for byte in range(256)], np.uint8)


def plane_dot(a_codes: ArrayLike, w_codes: ArrayLike, a_bits: int, w_bits: int) -> np.ndarray:
    """S = sum_ij 2^(i+j) * popcount(xnor(a_i, w_j)) over the last axis; leading axes broadcast. int64.

    Works on packed planes, one XNOR and one popcount per byte and plane pair, to check the decomposition. Lanes that
    fill up the last byte have activation bit 0 and weight bit 1, so their XNOR is 0, as in the hardware.
    """
    a_planes = np.moveaxis(to_planes(a_codes, a_bits), -1, 0)
    w_planes = np.moveaxis(to_planes(w_codes, w_bits), -1, 0)
    a_packed = np.packbits(a_planes, axis=-1)
    w_packed = ~np.packbits(1 - w_planes, axis=-1)
    total = np.zeros(np.broadcast_shapes(a_packed.shape[1:-1], w_packed.shape[1:-1]), np.int64)
    for i in range(a_bits):
        for j in range(w_bits):
            xnor = ~(a_packed[i] ^ w_packed[j])
            total += _POPCOUNT[xnor].sum(axis=-1, dtype=np.int64) << (i + j)
    return total


def plane_sum(a_codes: ArrayLike, sum_code: int, a_bits: int, w_bits: int) -> np.ndarray:
    """S of the activation-sum column: `plane_dot` with the same weight code in every lane."""
    lanes = np.asarray(a_codes).shape[-1]
    return plane_dot(a_codes, np.full(lanes, sum_code), a_bits, w_bits)


# --- what the array sees, and what it accumulates ------------------------------------------------


@dataclass(frozen=True)
class ArrayFormat:
    """Activation format as the array sees it: value = alpha * u + delta with `bits` planes.

    It differs from the stored format in one case: zero padding of a format without zero, where the array gets one
    more plane, the validity plane, as plane 0 below the stored planes.
    """

    bits: int
    alpha: int
    delta: int
    validity: bool
    """Plane 0 is the validity plane (1 inside the image), the stored planes are 1.. ."""
    pad: int
    """Code, of `bits` bits, that the array sees outside the image and in dummy channels (where it stands for 0 or for
    whatever the offset of the accumulator then accounts for)."""
    stored_pad: int
    """Code whose bits dummy channels hold in the stored planes."""


def array_format(act: FormatLike, padded: bool) -> ArrayFormat:
    """How the array sees activations of format `act` in a layer with (`padded`) or without zero padding.

    Raises EncodingError where padding is asked for and neither the format nor its extension by the validity plane
    has a zero.
    """
    levels = (1 << act.bits) - 1
    code, rest = divmod(-act.delta, act.alpha)
    if rest == 0 and 0 <= code <= levels:
        return ArrayFormat(act.bits, act.alpha, act.delta, False, code, code)
    halves = act.alpha == 2 and rest == 1 and 0 <= code < levels
    if not padded:
        stored = code + 1 if halves else 0
        return ArrayFormat(act.bits, act.alpha, act.delta, False, stored, stored)
    if halves:
        # u' = 2u + 1 inside: 2u + delta = u' + (delta - 1). Zero is the even u' = 1 - delta: validity bit 0.
        pad = 1 - act.delta
        return ArrayFormat(act.bits + 1, 1, act.delta - 1, True, pad, pad >> 1)
    raise EncodingError(
        f"activation format {act.alpha}*u{act.delta:+d} of {act.bits} bits has no zero to pad with; "
        "use a format that holds 0, or a layer without padding"
    )


def sum_column_code(weight: FormatLike) -> int | None:
    """Weight code v of the activation-sum column, None where it is not needed (odd weight formats).

    Its odd integer must be 2v - B = c_w / alpha_w, so v = B + delta_w / alpha_w.
    """
    levels = (1 << weight.bits) - 1
    if weight.alpha * levels + 2 * weight.delta == 0:
        return None
    quotient, rest = divmod(weight.delta, weight.alpha)
    if rest or not -levels <= quotient <= 0:
        raise EncodingError(
            f"weight format {weight.alpha}*u{weight.delta:+d} of {weight.bits} bits needs a sum column beyond "
            f"{weight.bits} planes; use a zero point among the codes, or an odd format"
        )
    return levels + quotient


@dataclass(frozen=True, eq=False)
class AccumulatorMap:
    """The tile result of each output channel as an exact affine function of its integer dot product:

    T = (scale * y + offset) / divisor, before the machine takes it modulo 2^acc_width.
    """

    scale: int
    divisor: int
    offset: np.ndarray
    """int64 [channels]."""
    sum_code: int
    """Weight code of the activation-sum column in every lane; 0 where it is off."""
    sum_enable: bool
    """T = S + S_sum, else T = S."""

    def _offset(self, ndim: int, axis: int) -> np.ndarray:
        shape = [1] * ndim
        shape[axis] = -1
        return self.offset.reshape(shape)

    def accumulator(self, y: ArrayLike, axis: int = 0) -> np.ndarray:
        """T of y, int64; output channels are along `axis`."""
        y = np.asarray(y).astype(np.int64)
        total, rest = np.divmod(self.scale * y + self._offset(y.ndim, axis), self.divisor)
        if rest.any():
            raise EncodingError("a dot product of the wrong parity: it cannot come from these weights")
        return total

    def value(self, accumulator: ArrayLike, axis: int = 0) -> np.ndarray:
        """y of T, int64, the inverse of `accumulator`."""
        accumulator = np.asarray(accumulator).astype(np.int64)
        y, rest = np.divmod(self.divisor * accumulator - self._offset(accumulator.ndim, axis), self.scale)
        if rest.any():
            raise EncodingError("an accumulator value that no dot product with these weights has")
        return y

    def value_of_raw(self, raw: ArrayLike, acc_width: int, low: ArrayLike, axis: int = 0) -> np.ndarray:
        """y of T modulo 2^acc_width, given the lowest reachable y of each channel (see `layers.reach`).

        Right where the channel's reachable T span less than 2^acc_width, which the compiler proves.
        """
        raw = np.asarray(raw).astype(np.int64)
        lowest = self.accumulator(low)
        shape = [1] * raw.ndim
        shape[axis] = -1
        lowest = lowest.reshape(shape)
        return self.value(lowest + ((raw - lowest) & ((1 << acc_width) - 1)), axis)


def accumulator_map(
    act: FormatLike,
    weight: FormatLike,
    weight_codes: ArrayLike,
    *,
    planes: int | None = None,
    constant_activations: ArrayLike = (),
    constant_weights: ArrayLike = (),
) -> AccumulatorMap:
    """How the tile result T of each channel follows from y = sum over real lanes of activation value * weight value.

    act: format as the array sees it (`array_format`). weight_codes: [channels, ...] codes of the real lanes.
    planes: activation planes the array runs through, `act.bits` rounded up to a multiple of `Config.planes`; those
    above `act.bits` are 0 in every lane. constant_activations: codes, of `planes` bits, that dummy channels and filler
    lanes show the array at every pixel; constant_weights: their weight codes, [lanes] or [channels, lanes]. A filler
    unit is activation 0 with weight 2^bits - 1.
    """
    w = np.asarray(weight_codes).astype(np.int64)
    w = w.reshape(len(w), -1)
    a_levels = (1 << (act.bits if planes is None else planes)) - 1
    w_levels = (1 << weight.bits) - 1
    code = sum_column_code(weight)
    # Per lane, with A of all planes run through: S = AB - B*u - A*w + 2*u*w and S_sum = A*(B - v) + u*(2v - B).
    column = 0 if code is None else a_levels * (w_levels - code)
    slope = 0 if code is None else 2 * code - w_levels
    at_zero = (a_levels * (w_levels - w) + column).sum(axis=1)
    y_at_zero = (act.delta * values(w, weight.alpha, weight.delta)).sum(axis=1)
    u = np.asarray(constant_activations, np.int64)
    v = np.asarray(constant_weights, np.int64)
    if u.size or v.size:
        lanes = a_levels * (w_levels - v) - w_levels * u + 2 * u * v + column + slope * u
        at_zero = at_zero + lanes.sum(axis=-1)
    common = gcd(2, act.alpha * weight.alpha)
    scale, divisor = 2 // common, act.alpha * weight.alpha // common
    offset = divisor * at_zero - scale * y_at_zero
    return AccumulatorMap(scale, divisor, offset, code or 0, code is not None)


def dummy_column(weight: FormatLike, lanes: int, planes: int) -> tuple[int, int, int]:
    """Filler for the columns beyond the last output channel: a weight code for all lanes, and the lowest and highest T.

    With a sum column the code cancels it, and T is one number whatever the activations are; odd formats have no such
    code and get +1, the smallest. lanes: of all words; planes: activation planes the array runs through.
    """
    levels = (1 << planes) - 1
    w_levels = (1 << weight.bits) - 1
    code = sum_column_code(weight)
    if code is None:
        low = lanes * levels * (w_levels >> 1)
        return (w_levels + 1) >> 1, low, low + lanes * levels
    constant = lanes * levels * w_levels
    return w_levels - code, constant, constant


def accumulator_bits(lanes: int, a_bits: int, w_bits: int, sum_enable: bool = False) -> int:
    """Bits of S, or with `sum_enable` of T = S + S_sum, at most. Both bounds are reached: no bit may be dropped."""
    bound = lanes * ((1 << a_bits) - 1) * ((1 << w_bits) - 1)
    return (bound << sum_enable).bit_length()
