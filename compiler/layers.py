"""Stages of the chain while it is being read: the input, and layers that grow step by step and end as `network.Conv`.

A stage collects what happens to its values: for a layer the float32 steps from the accumulator on, the quantizer that
ends them, the max pool; behind the quantizer only what leaves its codes alone (or scales all by one positive number).
"""

from dataclasses import dataclass, field

import numpy as np

from .network import Conv, Format, Pool
from .quantizers import MultiThreshold, Quantizer
from .steps import Arithmetic, BatchNorm, Quantize, Step
from .thresholds import code_function, find_thresholds, reachable_range

__all__ = ["Layer", "Stage", "Stream"]


@dataclass(eq=False)
class Stage:
    """The network input, and what a layer has in common with it."""

    name: str
    quantizer: Quantizer | MultiThreshold | None = None
    pending: list[tuple[int, Step]] = field(default_factory=list)
    """Steps behind the quantizer, with the index of their node."""
    tensors: dict[str, str] = field(default_factory=dict)
    broken: bool = False
    """An unsupported quantizer acted on this stage: that its values are not quantized is not reported again."""
    image: tuple[int, int, int] | None = None
    """Channels, rows, columns as the layer behind it reads them."""

    @property
    def is_input(self) -> bool:
        return not isinstance(self, Layer)

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Real values of the quantizer's codes, ascending, float32 [1, n], and the same behind the pending steps."""
        assert self.quantizer is not None
        if isinstance(self.quantizer, MultiThreshold):
            integers = np.arange(self.quantizer.thresholds.shape[1] + 1)
        else:
            step = 2 if self.quantizer.bipolar or self.quantizer.one_bit_signed else 1
            integers = np.arange(int(self.quantizer.lowest), int(self.quantizer.highest) + 1, step)
        before = after = self.quantizer.real(integers.astype(np.float32)[None])
        for _, step_function in self.pending:
            after = step_function(after)
        return before, after

    def pending_factor(self) -> float | None:
        """The positive number by which the pending steps multiply every value (1.0: nothing), or None."""
        before, after = self.values()
        if after.shape[0] > 1 and np.any(after != after[:1]):
            return None
        after = after[:1]
        if np.array_equal(before, after):
            return 1.0
        largest = int(np.argmax(np.abs(before)))
        if not before[0, largest]:
            return None
        factor = float(after[0, largest]) / float(before[0, largest])
        fits = factor > 0 and np.allclose(after, factor * before.astype(np.float64), rtol=1e-6, atol=0)
        return factor if fits else None

    @property
    def activation(self) -> tuple[Format, float]:
        """Format of the codes and real value of integer 1, pending steps included; ValueError with the reason."""
        if self.quantizer is None:
            raise ValueError("is not quantized")
        factor = self.pending_factor()
        if factor is None:
            raise ValueError("is changed behind its quantizer")
        return self.quantizer.format, self.quantizer.code_scale * factor


@dataclass(frozen=True, eq=False)
class Stream:
    """An activation tensor: the values of `stage`, seen through views.

    `index` int64 [1, ...]: for each element of one image the position in the canonical order (channel, row, column)
    of `shape`, so that any Reshape, Transpose or Flatten is known exactly.
    """

    stage: Stage
    index: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def canonical(cls, stage: Stage, shape: tuple[int, int, int], dims: tuple[int, ...]) -> "Stream":
        return cls(stage, np.arange(int(np.prod(shape)), dtype=np.int64).reshape(1, *dims), shape)

    @property
    def in_order(self) -> bool:
        return bool(np.array_equal(self.index.ravel(), np.arange(self.index.size)))

    def per_channel(self, constant: np.ndarray) -> np.ndarray:
        """A constant that broadcasts onto the tensor, as float32 [channels] or [1]; ValueError where it does not."""
        if constant.dtype != np.float32:
            raise ValueError(f"its constant has type {constant.dtype}, must be float32")
        if constant.size == 1 and constant.ndim <= self.index.ndim:
            return constant.reshape(1)
        try:
            spread = np.broadcast_to(constant, self.index.shape)
        except ValueError:
            raise ValueError(f"its constant of shape {list(constant.shape)} does not fit the activation of shape "
                             f"{list(self.index.shape[1:])} per image") from None  # fmt: skip
        ordered = np.empty(self.index.size, np.float32)
        ordered[self.index.ravel()] = spread.ravel()
        ordered = ordered.reshape(self.shape[0], -1)
        if np.any(ordered != ordered[:, :1]):
            raise ValueError("its constant differs inside a channel: only one per tensor or per channel is supported")
        return ordered[:, 0].copy()


@dataclass(eq=False)
class Layer(Stage):
    """A Conv, Gemm or MatMul and all that follows it up to the next one."""

    node: int = 0
    before: Stage | None = None
    weights: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1, 1)))
    """Integer values [out, in, height, width]."""
    weight_codes: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1, 1), np.uint8))
    weight_format: Format = field(default_factory=lambda: Format(1))
    weight_scale: np.ndarray = field(default_factory=lambda: np.ones(1, np.float32))
    input_format: Format = field(default_factory=lambda: Format(1))
    input_scale: float = 1.0
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    accumulator_bias: np.ndarray | None = None
    steps: list[tuple[int, Step]] = field(default_factory=list)
    pool: Pool | None = None
    pool_node: int = 0
    pool_at: int = 0
    """Number of steps before the pool, the quantizer and the pending steps counted."""

    def add_pool(self, node: int, pool: Pool) -> None:
        self.pool, self.pool_node = pool, node
        self.pool_at = len(self.steps) + (1 + len(self.pending) if self.quantizer else 0)

    def add_quantizer(self, node: int, quantizer: Quantizer | MultiThreshold) -> None:
        """A quantizer ends the steps; an earlier one becomes a step itself."""
        if self.quantizer is not None:
            self.steps += [(node, Quantize(self.quantizer)), *self.pending]
            self.pending = []
        self.quantizer = quantizer

    def pool_problem(self) -> str | None:
        """Why the max pool may not be moved behind the quantizer, or None."""
        if self.pool is None:
            return None
        direction = np.ones(self.weights.shape[0], np.int64)
        for _, step in self.steps[self.pool_at :]:
            direction = direction * step.direction
        if np.any(direction < 0):
            channel = int(np.argmax(direction < 0))
            return (
                f"max pool before a step of negative slope (channel {channel}) does not commute with the quantizer: "
                "pool behind the quantizer"
            )
        return None

    @property
    def accumulator_scale(self) -> np.ndarray:
        """Real value of accumulator 1, float64 [out]."""
        scale = self.weight_scale.astype(np.float64) * self.input_scale
        return np.broadcast_to(scale, self.weights.shape[:1]).copy()

    def affine_problem(self) -> tuple[int, str] | None:
        """Node and reason why the steps of a last layer without quantizer cannot be left to the host, or None."""
        for node, step in self.steps:
            if not isinstance(step, Arithmetic | BatchNorm):
                return node, "comes after the last layer without a quantizer behind it: only scales and biases may"
        if self.pool is not None:
            return self.pool_node, "max pool after the last layer needs a quantizer: pool behind a Quant"
        return None

    def build(self) -> Conv:
        """The finished layer; ThresholdError where a channel has no thresholds."""
        common = {
            "name": self.name,
            "weights": self.weight_codes,
            "weight_format": self.weight_format,
            "input_format": self.input_format,
            "stride": self.stride,
            "padding": self.padding,
            "qonnx_tensors": dict(self.tensors),
            "weight_scale": self.weight_scale,
            "input_scale": self.input_scale,
            "accumulator_bias": self.accumulator_bias,
        }
        scale = self.accumulator_scale
        if self.quantizer is None:
            offset = np.zeros_like(scale)
            for _, step in self.steps:
                assert isinstance(step, Arithmetic | BatchNorm)
                slope, constant = step.affine
                scale, offset = scale * slope, offset * slope + constant
            return Conv(**common, output_scale=scale.astype(np.float32), output_bias=offset.astype(np.float32))
        low, high = reachable_range(self.weights, self.input_format, any(self.padding))
        function = code_function(scale, [step for _, step in self.steps], self.quantizer.codes)
        made = self.quantizer.format
        thresholds, sign = find_thresholds(function, low, high, made.levels, layer=self.name)
        return Conv(
            **common, thresholds=thresholds, sign=sign, output_format=made, pool=self.pool,
            output_code_scale=self.output_code_scale,
        )  # fmt: skip

    @property
    def output_code_scale(self) -> float:
        return self.activation[1]
