"""The requantization ladder as the hardware computes it: codes from tile results by one multiply, add and shift.

compiler/ladder.py finds the parameters and proves them exact; rtl/ladder.py is the circuit.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["LadderWidths", "Ladders", "has_corrections", "has_validity", "ladder_codes", "pack_ladder", "unpack_ladder"]


class LadderWidths(Protocol):
    """The fields of rtl/config.py `Config` that size a ladder."""

    @property
    def acc_width(self) -> int: ...
    @property
    def mul_width(self) -> int: ...


def has_corrections(config: LadderWidths) -> bool:
    """Whether the ladders of a configuration have correction bits: its field `corrections`, if it has one."""
    return bool(getattr(config, "corrections", False))


def has_validity(config: LadderWidths) -> bool:
    """Whether ladders say what the validity plane of their channel is: with several planes per cycle."""
    return getattr(config, "planes", 1) > 1


def ladder_codes(
    accumulator: ArrayLike,
    neg: ArrayLike,
    shift: ArrayLike,
    offset: ArrayLike,
    multiplier: ArrayLike,
    fraction: ArrayLike,
    bits: int,
    acc_width: int,
    double: ArrayLike = 0,
    late: ArrayLike | None = None,
) -> np.ndarray:
    """Codes uint8 of tile results T; arguments broadcast against each other.

    d = T - offset (neg: offset - T) modulo 2^acc_width, read as two's complement; the code is 0 if d < 0, else
    min((multiplier*d + fraction) >> shift, 2^bits - 1). T may be given modulo 2^acc_width or not.
    The sum stays below 2^(acc_width - 1 + multiplier bits), 2^55 at most, so int64 holds it.

    With correction bits `late` [..., 256], code k starts one reachable T later than the line says where late[k] is set:
    if the line gives exactly k here and less than k at the T before (1, or with `double` 2, nearer to the offset), the
    code is k - 1.
    """
    difference = np.asarray(accumulator).astype(np.int64) - np.asarray(offset).astype(np.int64)
    difference = np.where(np.asarray(neg).astype(bool), -difference, difference)
    half = 1 << (acc_width - 1)
    d = ((difference + half) & ((1 << acc_width) - 1)) - half
    total = np.asarray(multiplier).astype(np.int64) * d + np.asarray(fraction).astype(np.int64)
    shift = np.asarray(shift).astype(np.int64)
    line = total >> shift
    codes = np.minimum(line, (1 << bits) - 1)
    if late is not None:
        before = (total - (np.asarray(multiplier).astype(np.int64) << np.asarray(double).astype(np.int64))) >> shift
        table = np.broadcast_to(late, (*codes.shape, 256))
        marked = np.take_along_axis(table, np.maximum(codes, 0)[..., None], axis=-1)[..., 0]
        codes = codes - ((line == codes) & (before < codes) & marked.astype(bool))
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
    double: np.ndarray
    """1 where neighbouring reachable T are 2 apart; only correction bits need it."""
    valid: np.ndarray
    """Bit of the validity plane: 1, but 0 for dummy channels."""
    late: np.ndarray
    """bool [channels, 256]: correction bits, all False in most ladders."""

    def __len__(self) -> int:
        return len(self.neg)

    def codes(self, accumulator: ArrayLike, bits: int, acc_width: int, axis: int = 0) -> np.ndarray:
        """Codes uint8 of tile results with output channels along `axis`."""
        accumulator = np.asarray(accumulator)
        shape = [1] * accumulator.ndim
        shape[axis] = -1
        p = {f.name: getattr(self, f.name).reshape(shape) for f in fields(self) if f.name not in ("valid", "late")}
        late = self.late.reshape(*shape, 256) if self.late.any() else None
        return ladder_codes(accumulator, **p, late=late, bits=bits, acc_width=acc_width)

    @property
    def corrected(self) -> np.ndarray:
        """bool [channels]: which ladders need their correction bits."""
        return np.any(self.late, axis=1)

    @classmethod
    def zeros(cls, count: int) -> Self:
        """Ladders that always give code 0."""
        neg, shift, offset, multiplier, fraction, double = np.zeros((6, count), np.int64)
        valid, late = np.ones(count, np.int64), np.zeros((count, 256), bool)
        return cls(neg, shift, offset, multiplier, fraction, double, valid, late)

    def take(self, channels: ArrayLike) -> Self:
        """The ladders of some channels."""
        return type(self)(*(getattr(self, f.name)[np.asarray(channels)] for f in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The channels of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


def _layout(config: LadderWidths) -> list[tuple[str, int]]:
    """Fields and widths from bit 0 upwards."""
    fields_ = [
        ("fraction", config.mul_width),
        ("multiplier", config.mul_width),
        ("offset", config.acc_width),
        ("shift", 6),
        ("neg", 1),
    ]
    return fields_ + [("double", 1)] * has_corrections(config) + [("valid", 1)] * has_validity(config)


def _turned(ladders: Ladders, config: LadderWidths) -> np.ndarray:
    """Offsets between the two forms, there and back."""
    return (-ladders.offset - ladders.neg) & ((1 << config.acc_width) - 1)


def pack_ladder(ladders: Ladders, config: LadderWidths) -> np.ndarray:
    """Parameters as they stand in main memory: uint32 [channels, words], lowest word first.

    The offset t0 stands there as the hardware adds it: -t0, or with `neg`, where it complements the sum, -t0 - 1.
    Where the configuration has correction bits, 8 words of them follow, bit k % 32 of word k // 32 for code k.
    """
    layout = _layout(config)
    words = -(-sum(width for _, width in layout) // 32)
    packed = np.zeros((len(ladders), words), np.uint32)
    stored = dataclasses.replace(ladders, offset=_turned(ladders, config))
    for channel in range(len(ladders)):
        number = low = 0
        for name, width in layout:
            value = int(getattr(stored, name)[channel])
            if not 0 <= value < 1 << width:
                raise ValueError(f"ladder {channel}: {name} is {value}, does not fit {width} bits")
            number |= value << low
            low += width
        packed[channel] = [number >> (32 * word) & 0xFFFFFFFF for word in range(words)]
    if not has_corrections(config):
        if ladders.late.any():
            raise ValueError("these ladders need correction bits, the configuration has none")
        return packed
    bits = np.packbits(ladders.late, axis=1, bitorder="little")
    return np.concatenate([packed, bits.view("<u4").astype(np.uint32)], axis=1)


def unpack_ladder(words: ArrayLike, config: LadderWidths) -> Ladders:
    """The inverse of `pack_ladder` for [channels, words]; bits above the last field are ignored."""
    table = np.atleast_2d(np.asarray(words)).astype(np.uint32)
    ladders = Ladders.zeros(len(table))
    numbers = [sum(int(word) << (32 * i) for i, word in enumerate(row)) for row in table]
    low = 0
    for name, width in _layout(config):
        getattr(ladders, name)[:] = [number >> low & ((1 << width) - 1) for number in numbers]
        low += width
    ladders.offset[:] = _turned(ladders, config)
    if has_corrections(config):
        first = -(-low // 32)
        bits = np.ascontiguousarray(table[:, first : first + 8]).astype("<u4").view(np.uint8)
        ladders.late[:] = np.unpackbits(bits, axis=1, bitorder="little").astype(bool)
    return ladders
