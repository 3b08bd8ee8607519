"""Bits of a network to train: weights and activations layer by layer, the kind of activation, the input quantizer.

Texts are what the command line takes: one number for all layers, numbers with commas in between for each layer, or
`float` for full precision (activations are clipped but not quantized).
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from .errors import TrainError

__all__ = ["ActivationKind", "Bits", "KINDS", "Precision", "check_bits", "parse_bits", "parse_cascade"]

Bits = int | None
"""1..8, or None: full precision."""

ActivationKind = Literal["unsigned", "odd", "odd-relu"]
"""unsigned: HReLU on unsigned codes; odd: HTanh on odd codes; odd-relu: HReLU on odd codes, as in the paper."""

KINDS: tuple[ActivationKind, ...] = get_args(ActivationKind)


def check_bits(bits: Bits, what: str) -> None:
    """Raise TrainError for bits outside 1..8."""
    if bits is not None and not 1 <= bits <= 8:
        raise TrainError(f"{what}: {bits} bits, must be 1 to 8 (or 'float' for full precision)")


def parse_bits(text: str, what: str) -> tuple[Bits, ...]:
    """Bits of "2", "8,2,2" or "float"; `what` names the option in errors."""
    result: list[Bits] = []
    for part in text.split(","):
        if part.strip() == "float":
            result.append(None)
            continue
        try:
            bits = int(part)
        except ValueError:
            raise TrainError(f"{what}: {part.strip()!r} is no number of bits; give 1 to 8, or 'float'") from None
        check_bits(bits, what)
        result.append(bits)
    return tuple(result)


def parse_cascade(text: str) -> list[int]:
    """Bits of "8..1", from the highest down: [8, 7, ..., 1]."""
    first, _, last = text.partition("..")
    try:
        high, low = int(first), int(last)
    except ValueError:
        raise TrainError(f"--cascade: {text!r} is no range of bits; give it as 8..1") from None
    check_bits(high, "--cascade")
    check_bits(low, "--cascade")
    if high < low:
        raise TrainError(f"--cascade: {text!r} goes upwards; fine-tuning goes from many bits down, as 8..1")
    return list(range(high, low - 1, -1))


@dataclass(frozen=True)
class Precision:
    """Bits of each layer of a network."""

    weights: tuple[Bits, ...] = (2,)
    """One for all layers, or one per layer."""
    activations: tuple[Bits, ...] = (2,)
    """One for all, or one per hidden layer: the codes it hands on."""
    kind: ActivationKind = "unsigned"
    input_bits: int = 8
    """Unsigned codes of the input, whose values are 0..1."""

    def __post_init__(self) -> None:
        for bits in self.weights:
            check_bits(bits, "weights")
        for bits in self.activations:
            check_bits(bits, "activations")
        check_bits(self.input_bits, "input")
        if self.kind not in KINDS:
            raise TrainError(f"activation kind {self.kind!r} is unknown; there are {', '.join(KINDS)}")
        if self.kind == "odd-relu" and 1 in self.activations:
            raise TrainError(
                "activation kind 'odd-relu' at 1 bit is the constant +1: use 'odd' or 'unsigned', or 2 bits and more"
            )

    def spread(self, layers: int) -> "Precision":
        """The same with one entry per layer; TrainError where the numbers do not fit the network."""
        return replace(
            self,
            weights=_spread(self.weights, layers, "weights", "layers"),
            activations=_spread(self.activations, layers - 1, "activations", "hidden layers"),
        )

    @property
    def quantized(self) -> bool:
        """No layer in full precision: such a network can be exported."""
        return None not in self.weights and None not in self.activations

    @property
    def label(self) -> str:
        """Such as w2a4, or w8-2-2a4 where layers differ."""
        return f"w{_label(self.weights)}a{_label(self.activations)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for checkpoints."""
        return {"weights": list(self.weights), "activations": list(self.activations), "kind": self.kind,
                "input_bits": self.input_bits}  # fmt: skip

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Precision":
        return cls(tuple(fields["weights"]), tuple(fields["activations"]), fields["kind"], fields["input_bits"])


def _spread(bits: tuple[Bits, ...], count: int, what: str, where: str) -> tuple[Bits, ...]:
    if len(bits) == 1:
        return bits * count
    if len(bits) != count:
        raise TrainError(f"{what}: bits for {len(bits)} layers given, but the network has {count} {where}")
    return bits


def _label(bits: tuple[Bits, ...]) -> str:
    names = ["float" if b is None else str(b) for b in bits]
    return names[0] if len(set(names)) == 1 else "-".join(names)
