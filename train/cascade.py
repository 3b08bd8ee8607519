# pyright: reportMissingImports=false
"""Multi-precision training: a network of b bits starts from the trained one of b+1 bits and is fine-tuned.

The first network has the clipped activation but no quantizer: full precision. Before each step down the weights of each
layer are rescaled, so that fewer levels lose least; what follows (BatchNorm, or the last layer's gain) takes the factor
back, and without quantizers the function of the network stays the same.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .data import Data
from .fit import Options, Outcome, Progress, fit
from .layers import QuantConv2d, QuantLinear
from .networks import QuantNetwork, build
from .precision import Bits
from .quantizers import hard_ladder
from .spec import NetworkSpec

__all__ = ["best_scale", "cascade", "cascade_specs", "lower", "rescale"]


def best_scale(weight: Tensor, bits: Bits) -> float:
    """The c with the least mean square of w - c * ladder(w / c), sought in 100 steps up to the largest |w|."""
    top = float(weight.abs().max())
    if bits is None or top == 0:
        return 1.0
    candidates = [top * k / 100 for k in range(1, 101)]
    with torch.no_grad():
        errors = [float(((weight - c * hard_ladder(weight / c, bits)) ** 2).mean()) for c in candidates]
    return candidates[min(range(100), key=errors.__getitem__)]


def _rescale(layer: QuantConv2d | QuantLinear, norm: nn.Module | None) -> None:
    scale = best_scale(layer.weight, layer.bits)
    layer.weight.div_(scale).clamp_(-1, 1)
    if (
        norm is not None
        and isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        and norm.running_mean is not None
        and norm.running_var is not None
    ):
        norm.running_mean /= scale
        norm.running_var /= scale**2
    elif isinstance(layer, QuantLinear) and layer.log_gain is not None:
        layer.log_gain.add_(math.log(scale))


def rescale(network: QuantNetwork) -> None:
    """Divide the latent weights of each layer by `best_scale` for its bits; the factor goes into what follows."""
    with torch.no_grad():
        for block in network.hidden:
            _rescale(block.layer, block.norm)
        _rescale(network.last, None)


def lower(network: QuantNetwork, spec: NetworkSpec, *, rescaled: bool = True) -> QuantNetwork:
    """A network of `spec`, of the same layers with other bits, that starts with the weights of `network`."""
    made = build(spec)
    made.load_state_dict(network.state_dict())
    if rescaled:
        rescale(made)
    return made


def cascade_specs(spec: NetworkSpec, levels: list[int]) -> list[NetworkSpec]:
    """Full precision, then one spec per level; no layer goes below its bits in `spec`."""
    target = spec.precision

    def at_level(bits: tuple[Bits, ...], level: int) -> tuple[Bits, ...]:
        return tuple(None if b is None else max(b, level) for b in bits)

    floats = replace(target, weights=(None,) * len(target.weights), activations=(None,) * len(target.activations))
    steps = [floats] + [
        replace(target, weights=at_level(target.weights, level), activations=at_level(target.activations, level))
        for level in levels
    ]
    return [replace(spec, precision=precision) for precision in steps]


def cascade(
    spec: NetworkSpec,
    data: Data,
    options: Options,
    levels: list[int],
    *,
    rescaled: bool = True,
    checkpoints: Path | None = None,
    name: str = "network",
    resume: bool = False,
    progress: Progress | None = None,
) -> Iterator[tuple[QuantNetwork, Outcome]]:
    """Train the family; yields each network when it is done, full precision first. `options.epochs` is per network.

    With `checkpoints`, a folder, each network has its file there, and `resume` goes on where the family stopped.
    """
    network: QuantNetwork | None = None
    for member in cascade_specs(spec, levels):
        if network is None:
            network = build(member, options.seed)
        else:
            network = lower(network, member, rescaled=rescaled)
        path = (
            None if checkpoints is None else checkpoints / f"{name}_{member.precision.label}_{spec.precision.kind}.ckpt"
        )
        again = resume and path is not None and path.is_file()
        outcome = fit(network, data, options, progress=progress, checkpoint=path, resume=again)
        yield network, outcome
