# pyright: reportMissingImports=false
"""Drop-in layers with {-1,+1} weights: `nn.Conv2d` and `nn.Linear` whose weights go through the hard ladder.

The stored weights are latent reals in [-1, 1]; `clip_weights` after each optimizer step keeps them there, where the
ladder's gradient is not zero. A scale of the weights has no effect before a BatchNorm, so these layers have none;
`QuantLinear(gain=True)`, the last layer, learns one positive factor for all its weights and a bias.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .precision import ActivationKind, Bits, check_bits
from .quantizers import activation, hard_ladder, unsigned_ladder

__all__ = ["InputQuantizer", "QuantActivation", "QuantConv2d", "QuantLinear", "clip_weights"]


class QuantConv2d(nn.Conv2d):
    """Convolution with weights o/L of `bits` bits (None: clipped latent weights, full precision)."""

    def __init__(self, *args, bits: Bits = 2, **kwargs) -> None:
        check_bits(bits, "QuantConv2d")
        super().__init__(*args, **kwargs)
        self.bits = bits
        nn.init.uniform_(self.weight, -1, 1)

    def quantized_weight(self) -> Tensor:
        return self.weight if self.bits is None else hard_ladder(self.weight, self.bits)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.quantized_weight(), self.bias)


class QuantLinear(nn.Linear):
    """Dense layer with weights o/L of `bits` bits (None: full precision); with `gain` times exp(log_gain)."""

    def __init__(self, *args, bits: Bits = 2, gain: bool = False, **kwargs) -> None:
        check_bits(bits, "QuantLinear")
        super().__init__(*args, **kwargs)
        self.bits = bits
        nn.init.uniform_(self.weight, -1, 1)
        # Outputs start with a spread of about 1.
        self.log_gain = nn.Parameter(torch.tensor(math.log(4 / self.in_features) / 2)) if gain else None

    def quantized_weight(self) -> Tensor:
        return self.weight if self.bits is None else hard_ladder(self.weight, self.bits)

    def forward(self, input: Tensor) -> Tensor:
        if self.log_gain is None:
            return functional.linear(input, self.quantized_weight(), self.bias)
        y = functional.linear(input, self.quantized_weight()) * torch.exp(self.log_gain)
        return y if self.bias is None else y + self.bias


class QuantActivation(nn.Module):
    """Activation codes of `bits` bits (None: clipping only) of one of the three kinds; see `quantizers.activation`."""

    def __init__(self, bits: Bits, kind: ActivationKind) -> None:
        check_bits(bits, "QuantActivation")
        super().__init__()
        self.bits = bits
        self.kind: ActivationKind = kind

    def forward(self, x: Tensor) -> Tensor:
        return activation(x, self.bits, self.kind)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, kind={self.kind}"


class InputQuantizer(nn.Module):
    """Unsigned codes of the network's input, whose values are 0..1."""

    def __init__(self, bits: int) -> None:
        check_bits(bits, "input")
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        return unsigned_ladder(x, self.bits)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


def clip_weights(network: nn.Module) -> None:
    """Bring the latent weights of all quantized layers back to [-1, 1]; call it after each optimizer step."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, QuantConv2d | QuantLinear):
                module.weight.clamp_(-1, 1)
