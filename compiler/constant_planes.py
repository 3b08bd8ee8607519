"""Takes constant top planes off the activations of an integer network: what HReLU on odd codes leaves behind.

A quantizer behind a ReLU often makes the upper half of its codes only: the paper's HReLU on the odd ladder always, a
signed quantizer too. The top bit of all its codes is 1. With u = v + 2^(b-1) the integers are

    alpha*u + delta = alpha*v + (delta + alpha*2^(b-1)),

so v, of b-1 bits, with another delta is the same tensor: one plane less to store and to multiply, and the ladder behind
the layer begins at code 0, as the hardware's does. The odd ladder (2, -(2^b - 1)) becomes (2, 1): 1, 3, 5, ...
"""

from dataclasses import replace

from ..golden.layers import reach
from .network import Conv, Format

__all__ = ["without_constant_planes"]


def _folded(form: Format) -> Format | None:
    """The format of codes less their top bit; None where there is only one, or zero padding would lose its zero."""
    made = Format(form.bits - 1, form.alpha, form.delta + (form.alpha << (form.bits - 1)))
    return made if form.bits > 1 and (made.zero_code is not None or (made.alpha, made.delta) == (2, 1)) else None


def _top_is_constant(layer: Conv) -> bool:
    """Whether every code of every channel is in the upper half, for all codes of the layer's input."""
    assert layer.thresholds is not None and layer.sign is not None and layer.output_format is not None
    reachable = reach(layer)
    low = [a if sign > 0 else -b for a, b, sign in zip(reachable.low, reachable.high, layer.sign, strict=True)]
    return bool((layer.thresholds[:, layer.output_format.levels >> 1] <= low).all())


def without_constant_planes(layers: list[Conv]) -> list[Conv]:
    """The same layers, with activations between them that have no constant top plane; the last output stays as it is.

    Integers, real values and geometry do not change, only the codes that stand for them.
    """
    made = list(layers)
    for at in range(len(made) - 1):
        while True:
            layer = made[at]
            form = layer.output_format
            if form is None or layer.thresholds is None:
                break
            folded = _folded(form)
            if folded is None or not _top_is_constant(layer):
                break
            kept = layer.thresholds[:, form.levels - folded.levels :]
            made[at] = replace(layer, thresholds=kept, output_format=folded)
            made[at + 1] = replace(made[at + 1], input_format=folded)
    return made
