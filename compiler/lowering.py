"""A layer of the integer network as the array sees it: planes, padding, geometry, lanes.

Lowering decides how zero padding is done (pad code or validity plane) and, for the first layer, may replace the
convolution by a 1x1 convolution over patches that the host makes (im2col).
"""

from dataclasses import dataclass, replace

import numpy as np

from ..golden.encoding import AccumulatorMap, ArrayFormat, EncodingError, accumulator_map, array_format
from ..golden.layers import LayerError, output_shape
from ..rtl.config import Config
from .layout import CompileError, PatchSpec, unit_of
from .network import Conv, Format

__all__ = ["Lowered", "Segment", "lower", "lower_patches"]


@dataclass(frozen=True)
class Segment:
    """A rectangular part of a patch that one LOADA brings: kernel rows, kernel columns, units of each pixel."""

    ky: int
    kh: int
    kx: int
    kw: int
    u: int
    units: int

    def taps(self, kernel_width: int) -> list[tuple[int, int]]:
        """(tap, unit) of every unit in the order in which the loader packs them."""
        return [
            (ky * kernel_width + kx, u)
            for ky in range(self.ky, self.ky + self.kh)
            for kx in range(self.kx, self.kx + self.kw)
            for u in range(self.u, self.u + self.units)
        ]


@dataclass(frozen=True, eq=False, kw_only=True)
class Lowered:
    """One layer on one configuration, before tiling."""

    layer: Conv
    config: Config
    weights: np.ndarray
    """Codes [out channels, in channels, kernel height, kernel width] as the array sees them."""
    act: ArrayFormat
    patch: PatchSpec | None
    """Set where the host makes patches; the input tensor then has the patches as channels."""
    height: int
    width: int
    """Input pixels of the tensor in memory."""
    out_height: int
    out_width: int
    """Accumulator pixels, before the pool."""
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def weight_format(self) -> Format:
        return self.layer.weight_format

    @property
    def channels(self) -> int:
        return self.weights.shape[1]

    @property
    def out_channels(self) -> int:
        return self.weights.shape[0]

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weights.shape[2], self.weights.shape[3]

    @property
    def units(self) -> int:
        return unit_of(self.channels, self.config)[0]

    @property
    def unit_bits(self) -> int:
        return self.config.chunk << unit_of(self.channels, self.config)[1]

    @property
    def stored_bits(self) -> int:
        """Activation planes in main memory."""
        return self.act.bits - self.act.validity

    @property
    def groups(self) -> int:
        """Groups of `Config.planes` activation planes."""
        return -(-self.act.bits // self.config.planes)

    @property
    def pooled_shape(self) -> tuple[int, int]:
        """Height and width of the output."""
        pool = self.layer.pool
        if pool is None:
            return self.out_height, self.out_width
        top, left, bottom, right = pool.padding
        return (
            (self.out_height + top + bottom - pool.kernel[0]) // pool.stride[0] + 1,
            (self.out_width + left + right - pool.kernel[1]) // pool.stride[1] + 1,
        )

    @property
    def zero_padding(self) -> str:
        """How zero padding is exact, for reports."""
        if not any(self.layer.padding):
            return "none"
        return "pad code" if _array_format(self.layer.input_format, True).validity is False else "validity plane"

    def words(self, segment: Segment) -> int:
        """Lane words of one plane of a segment."""
        return -(-segment.kh * segment.kw * segment.units * self.unit_bits // self.config.lanes)

    def lanes(self, segments: list[Segment]) -> np.ndarray:
        """Weight index (into [in channels, kernel height, kernel width], flat) of every lane of the words of the
        segments, -1 in dummy channels, -2 in filler units. int64 [words, lanes]."""
        taps = self.kernel[0] * self.kernel[1]
        index: list[np.ndarray] = []
        for segment in segments:
            tap, unit = np.array(segment.taps(self.kernel[1])).T
            channel = unit[:, None] * self.unit_bits + np.arange(self.unit_bits)
            lanes = np.where(channel < self.channels, channel * taps + tap[:, None], -1).ravel()
            index.append(np.pad(lanes, (0, -len(lanes) % self.config.lanes), constant_values=-2))
        return np.concatenate(index).reshape(-1, self.config.lanes)

    def accumulator_map(self, lanes: np.ndarray) -> AccumulatorMap:
        """T of every channel as a function of y, with all constants of dummies, fillers and missing planes."""
        dummies, fillers = int((lanes == -1).sum()), int((lanes == -2).sum())
        return accumulator_map(
            self.act,
            self.weight_format,
            self.weights,
            planes=self.groups * self.config.planes,
            constant_activations=np.repeat([self.act.pad, 0], [dummies, fillers]),
            constant_weights=np.full(dummies + fillers, self.weight_format.levels),
        )


def _array_format(form: Format, padded: bool) -> ArrayFormat:
    """`golden.encoding.array_format`; and zero padding of 1, 3, 5, .., odd codes without a constant top plane.

    There too the validity plane is plane 0: u' = 2u + 1 inside the image, which is the value, and 0 outside.
    """
    if padded and (form.alpha, form.delta) == (2, 1):
        return ArrayFormat(form.bits + 1, 1, 0, True, 0, 0)
    return array_format(form, padded)


def _geometry(layer: Conv, height: int, width: int) -> tuple[int, int]:
    try:
        return output_shape(layer, height, width)
    except LayerError as error:
        raise CompileError(str(error)) from None


def lower(layer: Conv, config: Config, height: int, width: int) -> Lowered:
    """The layer on an input tensor of height x width codes in main memory."""
    rows, columns = _geometry(layer, height, width)
    try:
        act = _array_format(layer.input_format, any(layer.padding))
    except EncodingError as error:
        raise CompileError(f"layer {layer.name!r}: {error}") from None
    return Lowered(
        layer=layer, config=config, weights=layer.weights, act=act, patch=None, height=height, width=width,
        out_height=rows, out_width=columns, stride=layer.stride, padding=layer.padding,
    )  # fmt: skip


def lower_patches(layer: Conv, config: Config, height: int, width: int) -> Lowered:
    """The layer as a 1x1 convolution over patches made by the host; a validity plane is stored with the patches."""
    plain = lower(layer, config, height, width)
    act = plain.act
    spec = PatchSpec(
        kernel=plain.kernel, stride=layer.stride, padding=layer.padding,
        scale=2 if act.validity else 1, shift=int(act.validity), pad=act.pad,
    )  # fmt: skip
    weights = layer.weights.transpose(0, 2, 3, 1).reshape(len(layer.weights), -1, 1, 1)
    return replace(
        plain, weights=weights, act=replace(act, validity=False, stored_pad=act.pad), patch=spec,
        height=plain.out_height, width=plain.out_width, stride=(1, 1), padding=(0, 0, 0, 0),
    )  # fmt: skip
