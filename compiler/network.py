"""The integer network: what the importer makes of a QONNX file and what everything behind it works on.

All tensors are integers. A tensor of *codes* u (plain unsigned binary, 0..2^bits-1) has a `Format` that gives the
integer each code stands for; floating point survives only as metadata for people (`scale`) and in the output.
"""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Conv", "Format", "InputQuantizer", "Network", "Pool"]


@dataclass(frozen=True)
class Format:
    """Integers behind `bits`-bit codes: value = alpha * u + delta. Codes are order preserving (alpha > 0).

    odd (2, -(2^bits-1)), unsigned (1, 0), two's complement (1, -2^(bits-1)), zero point z (1, -z).
    Narrow and ternary are two's complement with a code left unused.
    """

    bits: int
    alpha: int = 1
    delta: int = 0

    @classmethod
    def odd(cls, bits: int) -> "Format":
        return cls(bits, 2, -((1 << bits) - 1))

    @classmethod
    def unsigned(cls, bits: int) -> "Format":
        return cls(bits, 1, 0)

    @classmethod
    def signed(cls, bits: int) -> "Format":
        return cls(bits, 1, -(1 << (bits - 1)))

    @property
    def levels(self) -> int:
        """A = 2^bits - 1, the largest code."""
        return (1 << self.bits) - 1

    @property
    def is_odd(self) -> bool:
        return self.alpha == 2

    @property
    def c(self) -> int:
        """c = alpha * A + 2 * delta (mathematics.md): zero for odd formats, odd for alpha = 1."""
        return self.alpha * self.levels + 2 * self.delta

    @property
    def zero_code(self) -> int | None:
        """The code that stands for 0, or None where the format has none (odd formats)."""
        code, rest = divmod(-self.delta, self.alpha)
        return code if rest == 0 and 0 <= code <= self.levels else None


@dataclass(frozen=True)
class Pool:
    """Max pooling on codes: window, stride and padding (top, left, bottom, right) in pixels."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Conv:
    """One layer: convolution (a dense layer is one whose kernel covers the whole input), then either a monotone
    requantization per channel and an optional max pool, or, in the last layer, the integers themselves.

    With integers a = activation value and w = weight value, y[o] = sum(a * w) over the kernel window; positions
    outside the image contribute exactly 0. Then, for channel o,

        code[o] = number of k with  sign[o] * y[o] >= thresholds[o, k]      (k = 0 .. levels-1)

    where sign is -1 for channels whose function decreases. A layer without thresholds returns y; its real value is
    y * output_scale + output_bias, in float32 as QONNX computes it, for people and for argmax on the host.
    """

    name: str
    """Name for people and messages: the QONNX node."""
    weights: np.ndarray
    """uint8 codes [out channels, in channels, kernel height, kernel width]."""
    weight_format: Format
    input_format: Format
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Rows and columns of real zeros (top, left, bottom, right)."""
    thresholds: np.ndarray | None = None
    """int64 [out channels, levels of output_format], not decreasing along the second axis; a threshold that is never
    reached is above every reachable y, one that is always reached below."""
    sign: np.ndarray | None = None
    """int8 [out channels], +1 or -1; given with thresholds."""
    output_format: Format | None = None
    pool: Pool | None = None
    output_scale: np.ndarray | None = None
    """float32 [out channels] or [1]: only in the last layer."""
    output_bias: np.ndarray | None = None
    """float32 [out channels] or [1]: only in the last layer."""
    qonnx_tensors: dict[str, str] = field(default_factory=dict)
    """QONNX tensor names to compare with: "accumulator" (the Conv or MatMul output), "codes" (the quantizer's output),
    "pool" (the pooled codes), "output" (the real-valued network output). Only those that exist."""
    weight_scale: np.ndarray | None = None
    """float32 [out channels] or [1]: real weight = weight_scale * integer weight; to compare accumulators."""
    input_scale: float = 1.0
    """Real activation = input_scale * integer activation."""
    accumulator_bias: np.ndarray | None = None
    """float32 [out channels] or [1]: bias included in the QONNX tensor "accumulator" (Conv, Gemm); to compare."""
    output_code_scale: float = 1.0
    """Real output activation = output_code_scale * integer of output_format (layers with thresholds)."""

    def __post_init__(self) -> None:
        if self.weights.ndim != 4:
            raise ValueError(f"layer {self.name!r}: weights have {self.weights.ndim} axes, must have 4")
        if (self.thresholds is None) != (self.output_format is None):
            raise ValueError(f"layer {self.name!r}: thresholds and output_format go together")


@dataclass(frozen=True)
class InputQuantizer:
    """How the host makes codes of real inputs: the reference function of the file's first quantizer.

    code = clip(round(x / scale + zero_point)) - lowest, computed in float32 as QONNX does (clamp, then round).
    """

    scale: float
    zero_point: float
    lowest: int
    """Smallest integer of the quantizer (0 unsigned, -2^(b-1) signed, narrow one more)."""
    highest: int
    rounding: str = "ROUND"
    bipolar: bool = False
    """BipolarQuant: x >= 0 gives code 1, else 0."""
    code_offset: int = 0
    """Added to (integer - lowest) to make the code (1 for narrow signed formats)."""


@dataclass(frozen=True, eq=False)
class Network:
    """An integer network: a chain of layers."""

    name: str
    input_shape: tuple[int, int, int]
    """Channels, height, width of one image (dense inputs: features, 1, 1)."""
    input_format: Format
    input_quantizer: InputQuantizer
    layers: list[Conv]
    qonnx_input: str = ""
    """Name of the QONNX graph input."""
    qonnx_input_shape: tuple[int, ...] = ()
    """Shape of the QONNX graph input for one image, without the batch dimension."""
    qonnx_quantized_input: str = ""
    """Name of the tensor after the input quantizer; "" where the graph input is already integer."""
