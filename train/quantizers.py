# pyright: reportMissingImports=false
"""Quantizers with straight-through gradients: the paper's hard ladder (eq. 15) and its encoders, in PyTorch.

Notation of docs/mathematics.md: b bits, L = 2^b - 1, code u in 0..L, odd integer o = 2u - L, real value o/L in [-1, 1];
unsigned codes have the real value u/L in [0, 1]. Forward passes compute in float32 in the order of QONNX's `Quant`
(divide by the scale, add the zero point, clamp, round half up), so an exported file makes the same codes from the same
numbers. Ties go upward; at one bit x >= 0 gives +1, as `BipolarQuant` does. Gradients are straight-through: 1 inside
the range of the clipping function, ends included, and 0 outside it: the derivative of HTanh or HReLU.
"""

import math
from typing import Any

import torch
from torch import Tensor

from .precision import ActivationKind, Bits, check_bits

__all__ = ["activation", "codes_of", "hard_ladder", "hrelu", "htanh", "mbit_encoder", "planes", "unsigned_ladder"]


def htanh(x: Tensor) -> Tensor:
    """HTanh: clip to [-1, 1]."""
    return x.clamp(-1, 1)


def hrelu(x: Tensor) -> Tensor:
    """HReLU: clip to [0, 1]."""
    return x.clamp(0, 1)


class _StraightThrough(torch.autograd.Function):
    """`quantized` forward, bit for bit; backward the gradient of clipping x to [low, high].

    The usual x + (q - x).detach() rounds in float32 and leaves values beside the codes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, quantized: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward((x >= low) & (x <= high))
        return quantized

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None


def _quant(x: Tensor, scale: float, zero_point: float, levels: int) -> Tensor:
    """QONNX Quant, unsigned, HALF_UP; scale and zero point as float32, as the file holds them."""
    factor = x.new_tensor(scale)
    y = (x / factor + zero_point).clamp(0, levels)
    return (torch.floor(y + 0.5) - zero_point) * factor


def hard_ladder(x: Tensor, bits: int) -> Tensor:
    """o/L in [-1, 1] by eq. 15: u = clamp(floor(L*(x+1)/2 + 1/2), 0, L). Gradient 1 for -1 <= x <= 1, else 0."""
    check_bits(bits, "hard ladder")
    with torch.no_grad():
        if bits == 1:
            quantized = torch.where(x >= 0, 1.0, -1.0).to(x)
        else:
            levels = (1 << bits) - 1
            quantized = _quant(x, 2 / levels, levels / 2, levels)
    return _StraightThrough.apply(x, quantized, -1.0, 1.0)  # type: ignore[return-value]


def unsigned_ladder(x: Tensor, bits: int) -> Tensor:
    """u/L in [0, 1]: u = clamp(floor(L*x + 1/2), 0, L). Gradient 1 for 0 <= x <= 1, else 0."""
    check_bits(bits, "unsigned ladder")
    levels = (1 << bits) - 1
    with torch.no_grad():
        quantized = _quant(x, 1 / levels, 0, levels)
    return _StraightThrough.apply(x, quantized, 0.0, 1.0)  # type: ignore[return-value]


def activation(x: Tensor, bits: Bits, kind: ActivationKind) -> Tensor:
    """The activation of a layer: HReLU on unsigned codes, HTanh on odd codes, or HReLU on odd codes.

    Without bits (full precision) only the clipping. HReLU on odd codes makes the upper half of the codes only: 0 is no
    odd integer, and goes upward to 1/L.
    """
    if bits is None:
        return htanh(x) if kind == "odd" else hrelu(x)
    if kind == "unsigned":
        return unsigned_ladder(x, bits)
    return hard_ladder(x if kind == "odd" else hrelu(x), bits)


def codes_of(values: Tensor, bits: int, kind: ActivationKind = "odd") -> Tensor:
    """Integer codes u (int64) of quantized real values, as `hard_ladder` or `unsigned_ladder` makes them."""
    levels = (1 << bits) - 1
    x = values.double() if kind == "unsigned" else (values.double() + 1) / 2
    return torch.round(x * levels).long()


def planes(codes: Tensor, bits: int) -> Tensor:
    """The bit-plane encoder: [..., bits] in {-1,+1} of codes, plane 0 (weight 1) first: x_i = 2 * bit_i - 1."""
    return 2 * ((codes[..., None] >> torch.arange(bits, device=codes.device)) & 1) - 1


def mbit_encoder(values: Tensor, bits: int) -> Tensor:
    """The paper's trigonometric MBitEncoder for any number of bits: [..., bits] in {-1,+1}, plane 0 first.

    values are quantized reals o/L. Plane i has the period 2^(i+1) codes: sign(-sin(pi*L*x / 2^(i+1))); the top plane
    is sign(sin(pi*L*x / 2^bits)) = sign(x). It equals `planes` of the codes.
    """
    levels = (1 << bits) - 1
    period = 2.0 ** torch.arange(1, bits + 1, device=values.device, dtype=torch.float64)
    sines = torch.sin(math.pi * levels * values.double()[..., None] / period)
    sines[..., :-1] *= -1
    return torch.where(sines > 0, 1, -1)
