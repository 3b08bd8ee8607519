"""QONNX quantizers: their float32 semantics, bit for bit, and the integer formats they make.

`Quant` / `IntQuant`: y = x / scale + zero_point, clamp, then round; real value (q - zero_point) * scale.
`BipolarQuant`: x >= 0 gives +1, else -1, times scale. `MultiThreshold`: number of thresholds that x reaches.
All arithmetic is NumPy float32 in the order in which QONNX does it, so ties and roundings come out the same; tests
compare bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..golden.errors import DipoleError
from .network import Format, InputQuantizer

__all__ = ["MultiThreshold", "ROUNDINGS", "Quantizer", "describe_format", "input_quantizer", "quantize_input"]


def _away(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.ceil(np.abs(x))


def _half_away(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def _half_towards(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.ceil(np.abs(x) - 0.5)


ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": _away,
    "DOWN": np.trunc,
    "HALF_UP": _half_away,
    "HALF_DOWN": _half_towards,
}
"""QONNX's rounding modes; UP and HALF_UP go away from zero, DOWN and HALF_DOWN towards it."""


@dataclass(frozen=True, eq=False)
class Quantizer:
    """One Quant, IntQuant or BipolarQuant node; `scale` and `zero_point` keep the shapes and types of the file."""

    scale: np.ndarray
    zero_point: np.ndarray
    bits: float
    signed: bool
    narrow: bool
    rounding: str = "ROUND"
    bipolar: bool = False

    @property
    def one_bit_signed(self) -> bool:
        """QONNX makes -1 and +1 of signed 1-bit quantizers, by comparison with zero."""
        return not self.bipolar and self.signed and self.bits == 1

    @property
    def lowest(self) -> float:
        """Smallest integer q."""
        if self.bipolar or self.one_bit_signed:
            return -1
        return -(2 ** (self.bits - 1)) + int(self.narrow) if self.signed else 0

    @property
    def highest(self) -> float:
        if self.bipolar or self.one_bit_signed:
            return 1
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1 - int(self.narrow)

    def integers(self, x: np.ndarray) -> np.ndarray:
        """The integers q (as floats) for real x, before the zero point is taken off again."""
        if self.bipolar:
            return np.where(x >= 0, x.dtype.type(1), x.dtype.type(-1))
        with np.errstate(over="ignore"):  # beyond float32 is beyond the clamp
            y = x / self.scale + self.zero_point
        if self.one_bit_signed:
            return np.where(y >= 0, y.dtype.type(1), y.dtype.type(-1))
        y = np.where(y > self.highest, y.dtype.type(self.highest), y)
        y = np.where(y < self.lowest, y.dtype.type(self.lowest), y)
        return ROUNDINGS[self.rounding](y)

    def real(self, integers: np.ndarray) -> np.ndarray:
        """The real values of integers q, float32."""
        values = integers * self.scale if self.bipolar else (integers - self.zero_point) * self.scale
        return np.asarray(values, dtype=np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.real(self.integers(x))

    def codes(self, x: np.ndarray) -> np.ndarray:
        """uint8 codes of real x; only for quantizers that have a `format`."""
        return self.codes_of(self.integers(x))

    def codes_of(self, integers: np.ndarray) -> np.ndarray:
        """uint8 codes of integers q: q less the smallest integer of the full (not narrow) range."""
        if self.bipolar or self.one_bit_signed:
            return ((integers + 1) / 2).astype(np.uint8)
        return (integers + (2 ** (self.bits - 1) if self.signed else 0)).astype(np.uint8)

    @property
    def format(self) -> Format:
        """The integers behind the codes; raises ValueError with the reason where there is no such format."""
        if self.bits != int(self.bits) or not 1 <= self.bits <= 8:
            raise ValueError(f"bit width {self.bits:g} is not supported: it must be an integer in 1..8")
        bits = int(self.bits)
        if self.bipolar:
            return Format.odd(1)
        zero = self._uniform(self.zero_point, "zero point")
        if self.one_bit_signed:
            if zero:
                raise ValueError(f"zero point {zero:g} of a signed 1-bit quantizer is not supported: it must be 0")
            return Format.odd(1)
        base = -(1 << (bits - 1)) if self.signed else 0
        if 2 * (base - zero) == 1 - (1 << bits):
            return Format.odd(bits)
        if zero != int(zero):
            middle = base + ((1 << bits) - 1) / 2
            raise ValueError(f"zero point {zero:g} is not supported: it must be an integer, or {middle:g} (odd ladder)")
        made = Format(bits, 1, base - int(zero))
        if made.zero_code is None:
            raise ValueError(f"zero point {zero:g} is not supported: it lies outside the {bits}-bit range")
        return made

    @property
    def unit(self) -> np.ndarray:
        """float32: real value of integer 1 of `format`, in the shape of `scale` (half the scale for odd ladders)."""
        half = self.format.is_odd and not (self.bipolar or self.one_bit_signed)
        return np.asarray(self.scale * np.float32(0.5) if half else self.scale, dtype=np.float32)

    @property
    def code_scale(self) -> float:
        """`unit` of an activation; raises ValueError where it differs from channel to channel."""
        return self._uniform(self.unit, "scale")

    @staticmethod
    def _uniform(values: np.ndarray, what: str) -> float:
        flat = values.ravel()
        if flat.size == 0 or not np.all(flat == flat[0]):
            raise ValueError(f"{what} differs from channel to channel: it must be one value for the whole tensor here")
        return float(flat[0])

    def describe(self) -> str:
        """Text for reports, such as "4 bit two's complement, narrow"."""
        return describe_format(self.format) + (", narrow" if self.narrow and self.bits > 1 and not self.bipolar else "")


@dataclass(frozen=True, eq=False)
class MultiThreshold:
    """A MultiThreshold node: `thresholds` float32 [channels or 1, T]; real value = out_scale * count + out_bias."""

    thresholds: np.ndarray
    out_scale: float
    out_bias: float

    def codes(self, x: np.ndarray) -> np.ndarray:
        """uint8 counts of x [channels, n]."""
        return np.count_nonzero(x[..., None] >= self.thresholds[:, None, :], axis=-1).astype(np.uint8)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.real(self.codes(x))

    def real(self, integers: np.ndarray) -> np.ndarray:
        return np.asarray(self.out_scale * integers.astype(np.float32) + self.out_bias, dtype=np.float32)

    @property
    def bits(self) -> int:
        return max(1, self.thresholds.shape[1].bit_length())

    @property
    def format(self) -> Format:
        """The integers behind the counts; raises ValueError with the reason where there is no such format."""
        if self.bits > 8 or self.thresholds.shape[1] == 0:
            raise ValueError(f"{self.thresholds.shape[1]} thresholds are not supported: 1..255 are (8 bit codes)")
        if not self.out_scale > 0:
            raise ValueError(f"out_scale {self.out_scale:g} is not supported: it must be positive")
        bias = self.out_bias / self.out_scale
        levels = (1 << self.bits) - 1
        if abs(bias - round(bias)) < 1e-5 and -levels <= round(bias) <= 0:
            return Format(self.bits, 1, round(bias))
        if abs(2 * bias + levels) < 1e-5:
            return Format.odd(self.bits)
        raise ValueError(
            f"out_bias {self.out_bias:g} with out_scale {self.out_scale:g} is not supported: "
            f"bias / scale must be an integer in -{levels}..0, or -{levels}/2"
        )

    @property
    def code_scale(self) -> float:
        return float(np.float32(self.out_scale)) / (2 if self.format.is_odd else 1)

    def describe(self) -> str:
        return describe_format(self.format)


def describe_format(format: Format) -> str:
    """Text for reports: the bits and the kind of a format."""
    if format.is_odd:
        kind = "bipolar" if format.bits == 1 else "odd ladder"
    elif format.delta == 0:
        kind = "unsigned"
    elif format.delta == -(1 << (format.bits - 1)):
        kind = "two's complement"
    else:
        kind = f"zero point {-format.delta}"
    return f"{format.bits} bit {kind}"


def input_quantizer(quantizer: Quantizer) -> InputQuantizer:
    """What the host needs of the first quantizer; ValueError where it has no format or no single scale."""
    format, scale = quantizer.format, quantizer.code_scale
    plain = not (quantizer.bipolar or quantizer.one_bit_signed)
    return InputQuantizer(
        scale=scale * (2 if plain and format.is_odd else 1),
        zero_point=0.0 if quantizer.bipolar else quantizer._uniform(quantizer.zero_point, "zero point"),
        lowest=int(quantizer.lowest),
        highest=int(quantizer.highest),
        rounding=quantizer.rounding,
        bipolar=quantizer.bipolar,
        code_offset=int(plain and quantizer.signed and quantizer.narrow),
    )


def quantize_input(quantizer: InputQuantizer, format: Format, x: np.ndarray) -> np.ndarray:
    """uint8 codes of real inputs x, computed in float32 as QONNX does: what the host sends to the device.

    Raises DipoleError where x holds a value that is not a number; infinite values clamp.
    """
    x = np.asarray(x, dtype=np.float32)
    if np.isnan(x).any():
        raise DipoleError("the input holds values that are not numbers (NaN): check the images")
    made = Quantizer(
        scale=np.float32(quantizer.scale),  # type: ignore[arg-type]
        zero_point=np.float32(quantizer.zero_point),  # type: ignore[arg-type]
        bits=format.bits,
        signed=quantizer.lowest < 0,
        narrow=quantizer.highest - quantizer.lowest < format.levels,
        rounding=quantizer.rounding,
        bipolar=quantizer.bipolar,
    )
    return made.codes(x)
