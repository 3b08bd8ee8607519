"""The requantization ladder as the hardware computes it: codes from tile results by one multiply, add and shift.

compiler/ladder.py finds the parameters and proves them exact; rtl/ladder.py is the circuit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["LadderWidths", "Ladders", "ladder_codes", "pack_ladder", "unpack_ladder"]


class LadderWidths(Protocol):
    """The fields of rtl/config.py `Config` that size a ladder."""

    @property
    def acc_width(self) -> int: ...
    @property
    def mul_width(self) -> int: ...


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


@dataclass(frozen=True, eq=False)
class Ladders:
    """Ladder parameters of several channels, int64 [channels] each."""

    neg: np.ndarray
    shift: np.ndarray
    offset: np.ndarray
    """0..2^acc_width-1."""
    multiplier: np.ndarray
    fraction: np.ndarray

    def __len__(self) -> int:
        return len(self.neg)

    def codes(self, accumulator: ArrayLike, bits: int, acc_width: int, axis: int = 0) -> np.ndarray:
        """Codes uint8 of tile results with output channels along `axis`."""
        accumulator = np.asarray(accumulator)
        shape = [1] * accumulator.ndim
        shape[axis] = -1
        neg, shift, offset, multiplier, fraction = (getattr(self, f.name).reshape(shape) for f in fields(self))
        return ladder_codes(accumulator, neg, shift, offset, multiplier, fraction, bits, acc_width)

    def take(self, channels: ArrayLike) -> Self:
        """The ladders of some channels."""
        return type(self)(*(getattr(self, f.name)[np.asarray(channels)] for f in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The channels of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


def _layout(config: LadderWidths) -> list[tuple[str, int]]:
    """Fields and widths from bit 0 upwards."""
    return [
        ("fraction", config.mul_width),
        ("multiplier", config.mul_width),
        ("offset", config.acc_width),
        ("shift", 6),
        ("neg", 1),
    ]


def pack_ladder(ladders: Ladders, config: LadderWidths) -> np.ndarray:
    """Parameters as they stand in main memory: uint32 [channels, words], lowest word first."""
    layout = _layout(config)
    words = -(-sum(width for _, width in layout) // 32)
    packed = np.zeros((len(ladders), words), np.uint32)
    for channel in range(len(ladders)):
        number = low = 0
        for name, width in layout:
            value = int(getattr(ladders, name)[channel])
            if not 0 <= value < 1 << width:
                raise ValueError(f"ladder {channel}: {name} is {value}, does not fit {width} bits")
            number |= value << low
            low += width
        packed[channel] = [number >> (32 * word) & 0xFFFFFFFF for word in range(words)]
    return packed


def unpack_ladder(words: ArrayLike, config: LadderWidths) -> Ladders:
    """The inverse of `pack_ladder` for [channels, words]; bits above the last field are ignored."""
    numbers = [sum(int(word) << (32 * i) for i, word in enumerate(row)) for row in np.atleast_2d(np.asarray(words))]
    columns: dict[str, np.ndarray] = {}
    low = 0
    for name, width in _layout(config):
        columns[name] = np.array([number >> low & ((1 << width) - 1) for number in numbers], np.int64)
        low += width
    return Ladders(**columns)
