"""Tensors and filters as bits in main memory: pixel units, planes, patches made by the host, lane words.

The layout itself is specified in docs/architecture.md, "Tensors in main memory".
"""

from dataclasses import dataclass

import numpy as np

from ..golden.errors import DipoleError
from ..rtl.config import Config

__all__ = ["CompileError", "PatchSpec", "RawLayout", "TensorLayout", "filter_words", "patches", "unit_of"]


class CompileError(DipoleError):
    """A network that cannot run on a configuration; the message names the layer and says by how much."""


def unit_of(channels: int, config: Config) -> tuple[int, int]:
    """Units per pixel, and log2 of the chunks of a unit in a plane, for a tensor of `channels` channels.

    With several planes per cycle a unit is a chunk, else it is as large as the pixel and the lanes allow. Pixels are
    filled up to whole column tiles, which the store engine writes at once.
    """
    chunks = 1
    while config.planes == 1 and chunks * config.chunk < min(max(channels, config.columns), config.lanes):
        chunks *= 2
    unit = chunks * config.chunk
    per_tile = max(1, config.columns // unit)
    return -(-channels // (unit * per_tile)) * per_tile, chunks.bit_length() - 1


@dataclass(frozen=True, kw_only=True)
class TensorLayout:
    """A tensor of codes in main memory. Sizes of the configuration are repeated so that a host needs nothing else."""

    channels: int
    height: int
    width: int
    bits: int
    """Planes stored."""
    planes: int
    """Planes that stand side by side (`Config.planes`)."""
    shift: int
    """1 where plane 0 of the first of these groups is the validity plane."""
    pad_code: int
    """Code whose bits dummy channels hold."""
    units: int
    unit_log2: int
    chunk: int
    mem_width: int
    address: int = 0
    """Main memory word of plane 0, pixel (0, 0)."""

    @classmethod
    def of(
        cls, config: Config, channels: int, height: int, width: int, bits: int, pad_code: int, validity: bool = False
    ) -> "TensorLayout":
        """`validity`: who reads the tensor has a validity plane besides the `bits` planes that are stored."""
        units, unit_log2 = unit_of(channels, config)
        return cls(
            channels=channels, height=height, width=width, bits=bits, planes=config.planes,
            shift=int(validity and config.planes > 1), pad_code=pad_code, units=units, unit_log2=unit_log2,
            chunk=config.chunk, mem_width=config.mem_width,
        )  # fmt: skip

    @property
    def unit_bits(self) -> int:
        return self.chunk << self.unit_log2

    @property
    def groups(self) -> int:
        """Groups of planes."""
        return -(-(self.bits + self.shift) // self.planes)

    @property
    def pixel_bits(self) -> int:
        """Bits of a pixel in one group of planes, dummy channels included."""
        return self.units * self.planes * self.unit_bits

    @property
    def row_stride(self) -> int:
        """Chunks from one row to the next."""
        return self.width * self.pixel_bits // self.chunk

    @property
    def group_stride(self) -> int:
        """Chunks from one group of planes to the next."""
        return self.height * self.row_stride

    @property
    def chunk_address(self) -> int:
        return self.address * self.mem_width // self.chunk

    @property
    def words(self) -> int:
        """Main memory words of the tensor."""
        return -(-self.groups * self.group_stride * self.chunk // self.mem_width)

    def pack(self, codes: np.ndarray) -> bytes:
        """Bytes of the tensor, whole main memory words, for codes [channels, height, width]."""
        full = np.full((self.units * self.unit_bits, self.height, self.width), self.pad_code, np.int64)
        full[: self.channels] = codes
        full <<= self.shift
        full[: self.channels] += self.shift
        bits = full >> np.arange(self.groups * self.planes)[:, None, None, None] & 1
        bits = bits.reshape(self.groups, self.planes, self.units, self.unit_bits, self.height, self.width)
        packed = np.packbits(bits.astype(np.uint8).transpose(0, 4, 5, 2, 1, 3).ravel(), bitorder="little").tobytes()
        return packed.ljust(self.words * self.mem_width // 8, b"\0")

    def unpack(self, data: bytes) -> np.ndarray:
        """Codes int64 [channels, height, width] from the bytes of the tensor (at least `words` words)."""
        count = self.groups * self.height * self.width * self.pixel_bits
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little").astype(np.int64)
        bits = bits.reshape(self.groups, self.height, self.width, self.units, self.planes, self.unit_bits)
        bits = bits.transpose(0, 4, 3, 5, 1, 2).reshape(self.groups * self.planes, -1, self.height, self.width)
        bits = bits[self.shift : self.shift + self.bits]
        return (bits << np.arange(self.bits)[:, None, None, None]).sum(axis=0)[: self.channels]


@dataclass(frozen=True, kw_only=True)
class RawLayout:
    """Accumulators in main memory, one zero-extended 32-bit word per pixel and channel (RAW = 1)."""

    channels: int
    height: int
    width: int
    stride: int
    """32-bit words from one pixel to the next: the channels, filled up to whole column tiles."""
    mem_width: int
    address: int = 0
    """Main memory word of pixel (0, 0)."""

    @property
    def words(self) -> int:
        return -(-self.height * self.width * self.stride * 32 // self.mem_width)

    def unpack(self, data: bytes) -> np.ndarray:
        """T modulo 2^acc_width, int64 [channels, height, width]."""
        count = self.height * self.width * self.stride
        raw = np.frombuffer(data, "<u4", count).astype(np.int64)
        return raw.reshape(self.height, self.width, self.stride).transpose(2, 0, 1)[: self.channels]


@dataclass(frozen=True, kw_only=True)
class PatchSpec:
    """How the host turns codes into patches (im2col): channel (ky * kernel width + kx) * channels + c of an output
    pixel is the code of tap (ky, kx), channel c; outside the image it is `pad`, inside scale * code + shift."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    scale: int
    """1; 2 where the validity plane is stored with the patches."""
    shift: int
    pad: int


def patches(spec: PatchSpec, codes: np.ndarray) -> np.ndarray:
    """Patch codes int64 [kh * kw * channels, output height, output width] of codes [channels, height, width]."""
    top, left, bottom, right = spec.padding
    padded = np.pad(
        spec.scale * codes.astype(np.int64) + spec.shift,
        ((0, 0), (top, bottom), (left, right)),
        constant_values=spec.pad,
    )
    view = np.lib.stride_tricks.sliding_window_view(padded, spec.kernel, axis=(1, 2))
    view = view[:, :: spec.stride[0], :: spec.stride[1]].transpose(3, 4, 0, 1, 2)
    return view.reshape(-1, *view.shape[3:])


def filter_words(lane_codes: np.ndarray, planes: int) -> bytes:
    """Lane words of filters in the order (..., plane, word, lane) for lane codes [..., word, lane]."""
    bits = lane_codes[..., None, :, :] >> np.arange(planes)[:, None, None] & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()
