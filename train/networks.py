# pyright: reportMissingImports=false
"""A `NetworkSpec` as a PyTorch module."""

from math import prod

import torch
from torch import Tensor, nn

from .layers import InputQuantizer, QuantActivation, QuantConv2d, QuantLinear
from .spec import NetworkSpec

__all__ = ["Block", "QuantNetwork", "build"]


class Block(nn.Module):
    """One hidden layer: layer - BatchNorm - activation."""

    def __init__(
        self, layer: QuantConv2d | QuantLinear, norm: nn.BatchNorm1d | nn.BatchNorm2d, act: QuantActivation
    ) -> None:
        super().__init__()
        self.layer, self.norm, self.act = layer, norm, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.layer(x)))


class QuantNetwork(nn.Module):
    """Input quantizer, hidden blocks with a max pool where `spec` says so, and a dense layer with gain and bias."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        precision = spec.precision.spread(spec.layers)
        self.input = InputQuantizer(precision.input_bits)
        self.blocks = nn.ModuleList()
        size: tuple[int, ...] = spec.input_shape
        for index, width in enumerate(spec.hidden):
            bits = precision.weights[index]
            if spec.architecture == "cnn":
                assert len(size) == 3
                layer = QuantConv2d(size[0], width, 3, padding=1, bias=False, bits=bits)
                norm = nn.BatchNorm2d(width)
                shrink = 2 if spec.pools[index] else 1
                size = (width, size[1] // shrink, size[2] // shrink)
            else:
                layer = QuantLinear(prod(size), width, bias=False, bits=bits)
                norm = nn.BatchNorm1d(width)
                size = (width,)
            act = QuantActivation(precision.activations[index], precision.kind)
            self.blocks.append(Block(layer, norm, act))
        self.last = QuantLinear(prod(size), spec.classes, bits=precision.weights[-1], gain=True)
        self.pool = nn.MaxPool2d(2)

    @property
    def hidden(self) -> list[Block]:
        """The hidden layers in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(self, x: Tensor) -> Tensor:
        """Class scores [batch, classes] of inputs [batch, *input_shape] with values 0..1."""
        x = self.input(x)
        if self.spec.architecture == "mlp":
            x = x.flatten(1)
        for block, pooled in zip(self.blocks, self.spec.pools, strict=True):
            x = block(x)
            if pooled:
                x = self.pool(x)
        return self.last(x.flatten(1))


def build(spec: NetworkSpec, seed: int = 0) -> QuantNetwork:
    """A network with fresh random weights from a seed; PyTorch's own random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return QuantNetwork(spec)
