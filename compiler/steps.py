"""The float32 steps between an accumulator and its quantizer, exactly as onnxruntime computes each of them.

A step maps real values [channels, n] to real values of the same shape and is monotone in every channel; `direction`
says which way: +1 not decreasing, -1 not increasing, 0 constant. Rounding keeps order, so a chain of steps is monotone
in float32 too, which is what makes bisection on the chain itself sound.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .quantizers import MultiThreshold, Quantizer

__all__ = ["Arithmetic", "BatchNorm", "Clip", "Quantize", "Relu", "Step"]


class Step(Protocol):
    """One elementwise function per channel."""

    def __call__(self, x: np.ndarray) -> np.ndarray: ...

    @property
    def direction(self) -> np.ndarray:
        """int8 [channels] or [1]."""
        ...


def _increasing() -> np.ndarray:
    return np.ones(1, np.int8)


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """Add, Sub, Mul or Div by `constant`, float32 [channels or 1]; `swapped` where that is the left operand."""

    op: str
    constant: np.ndarray
    swapped: bool = False

    def __post_init__(self) -> None:
        if not np.all(np.isfinite(self.constant)):
            raise ValueError("its constant is not finite")
        if self.op == "Div" and self.swapped:
            raise ValueError("divides a constant by the activation, which is not monotone")
        if self.op == "Div" and not np.all(self.constant):
            raise ValueError("divides by zero")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        c = self.constant[:, None]
        match self.op:
            case "Add":
                return x + c
            case "Sub":
                return c - x if self.swapped else x - c
            case "Mul":
                return x * c
            case _:
                return x / c

    @property
    def direction(self) -> np.ndarray:
        if self.op in ("Mul", "Div"):
            return np.sign(self.constant).astype(np.int8)
        return -_increasing() if self.swapped and self.op == "Sub" else _increasing()

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Slope and offset in float64."""
        c = self.constant.astype(np.float64)
        match self.op:
            case "Add":
                return np.ones_like(c), c
            case "Sub":
                return (-np.ones_like(c), c) if self.swapped else (np.ones_like(c), -c)
            case "Mul":
                return c, np.zeros_like(c)
            case _:
                return 1 / c, np.zeros_like(c)


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """BatchNormalization in inference; all parameters float32 [channels].

    onnxruntime's order: a = scale * (1 / sqrt(var + epsilon)), b = bias - mean * a, y = x * a + b.
    """

    scale: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    epsilon: float

    def __post_init__(self) -> None:
        if not all(np.all(np.isfinite(a)) for a in self.folded):
            raise ValueError("its parameters are not finite numbers (negative variance?)")

    @property
    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            slope = self.scale * (np.float32(1) / np.sqrt(self.var + np.float32(self.epsilon)))
            return slope, self.bias - self.mean * slope

    def __call__(self, x: np.ndarray) -> np.ndarray:
        slope, offset = self.folded
        return x * slope[:, None] + offset[:, None]

    @property
    def direction(self) -> np.ndarray:
        return np.sign(self.folded[0]).astype(np.int8)

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        slope, offset = self.folded
        return slope.astype(np.float64), offset.astype(np.float64)


class Relu:
    """max(x, 0)."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, np.float32(0))

    @property
    def direction(self) -> np.ndarray:
        return _increasing()


@dataclass(frozen=True)
class Clip:
    """min(max(x, low), high): Clip in both its forms, and HardTanh."""

    low: float = -np.inf
    high: float = np.inf

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(x, np.float32(self.low)), np.float32(self.high))

    @property
    def direction(self) -> np.ndarray:
        return _increasing()


@dataclass(frozen=True, eq=False)
class Quantize:
    """A quantizer inside the chain (another one follows it)."""

    quantizer: Quantizer | MultiThreshold

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.quantizer(x)

    @property
    def direction(self) -> np.ndarray:
        return _increasing()
