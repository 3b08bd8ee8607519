"""Named networks of random weights, whose cycles `dipole bench network` counts: cycles do not depend on the weights."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..compiler.network import Conv, Format, InputQuantizer, Network
from ..compiler.random_networks import random_thresholds
from ..golden.encoding import values

__all__ = ["WORKLOADS", "Workload"]

_SEED = 3
"""Of all random weights."""


@dataclass(frozen=True)
class Workload:
    """A network by name."""

    title: str
    build: Callable[[], Network]


class _Chain:
    """A network under construction: unsigned activations of `bits`, odd weights of `weight_bits`."""

    def __init__(self, name: str, shape: tuple[int, int, int], bits: int, weight_bits: int):
        self.rng = np.random.default_rng(_SEED)
        self.name, self.shape = name, shape
        self.form = self.input_form = Format.unsigned(bits)
        self.weight_form = Format.odd(weight_bits)
        self.channels = shape[0]
        self.layers: list[Conv] = []

    def conv(self, out: int, kernel: int, *, stride: int = 1, padding: int = 0, bits: int | None = None) -> "_Chain":
        """Add a layer of square kernels; bits of its codes, None for integers."""
        codes = self.rng.integers(1 << self.weight_form.bits, size=(out, self.channels, kernel, kernel))
        w = values(codes, self.weight_form.alpha, self.weight_form.delta).reshape(out, -1)
        thresholds = sign = None
        if bits is not None:
            low, high = (self.form.levels * np.where(w * side > 0, w, 0).sum(axis=1) for side in (-1, 1))
            thresholds, sign = random_thresholds(self.rng, low, high, bits)
        form = None if bits is None else Format.unsigned(bits)
        self.layers.append(
            Conv(
                f"{len(self.layers) + 1}: {kernel}x{kernel} {self.channels}->{out}", codes.astype(np.uint8),
                self.weight_form, self.form, (stride, stride), (padding, padding, padding, padding), thresholds, sign,
                form,
            )
        )  # fmt: skip
        self.channels, self.form = out, form or self.form
        return self

    def network(self) -> Network:
        quantizer = InputQuantizer(1.0, 0.0, 0, self.input_form.levels)
        return Network(self.name, self.shape, self.input_form, quantizer, self.layers)


def _resnet8() -> Network:
    chain = _Chain("resnet8", (3, 32, 32), 4, 4)
    chain.conv(16, 3, padding=1, bits=4)
    for out, stride in ((16, 1), (32, 2), (64, 2)):
        chain.conv(out, 3, stride=stride, padding=1, bits=4).conv(out, 3, padding=1, bits=4)
    # The average over 8x8 pixels is a sum, which the weights of the dense layer take in.
    return chain.conv(10, 8).network()


WORKLOADS: dict[str, Workload] = {
    "conv64": Workload(
        "conv 3x3 64->64 at 16x16, activations/weights 2/2",
        lambda: _Chain("conv64", (64, 16, 16), 2, 2).conv(64, 3, padding=1, bits=2).network(),
    ),
    "conv3": Workload(
        "conv 3x3 3->16 at 32x32, 8/2, to 2-bit codes",
        lambda: _Chain("conv3", (3, 32, 32), 8, 2).conv(16, 3, padding=1, bits=2).network(),
    ),
    "dense": Workload(
        "dense 1024->64, 2/2, to integers",
        lambda: _Chain("dense", (1024, 1, 1), 2, 2).conv(64, 1).network(),
    ),
    "resnet8": Workload(
        "MLPerf-Tiny ResNet-8 shape, 4/4, 32x32x3, without residual adds and their 1x1 convolutions", _resnet8
    ),
}
"""By name."""
