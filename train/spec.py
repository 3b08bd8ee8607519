"""What is trained: the architecture as data, independent of PyTorch; it names checkpoints and exported files."""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from .errors import TrainError
from .precision import Precision

__all__ = ["ARCHITECTURES", "Architecture", "NAMED", "NetworkSpec", "make_spec"]

Architecture = Literal["cnn", "mlp"]
ARCHITECTURES: tuple[Architecture, ...] = ("cnn", "mlp")

NAMED: dict[str, tuple[Architecture, str]] = {
    "digits-cnn": ("cnn", "digits"),
    "digits-mlp": ("mlp", "digits"),
    "breast-cancer-mlp": ("mlp", "breast_cancer"),
}
"""Networks by name: architecture and data set."""


@dataclass(frozen=True)
class NetworkSpec:
    """Layers of a network. cnn: 3x3 convolutions with zero padding 1, then one dense layer; mlp: dense layers.

    Each hidden layer is layer - BatchNorm - activation, and in a cnn where `pools` says so max pooling 2x2.
    """

    architecture: Architecture
    input_shape: tuple[int, ...]
    """Channels, height, width of an image, or (features,)."""
    classes: int
    hidden: tuple[int, ...]
    """Channels or features of each hidden layer."""
    pools: tuple[bool, ...]
    """cnn: a 2x2 max pool after the layer."""
    precision: Precision

    @property
    def layers(self) -> int:
        """Layers with weights."""
        return len(self.hidden) + 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for checkpoints."""
        shape = {"input_shape": list(self.input_shape), "classes": self.classes}
        layers = {"hidden": list(self.hidden), "pools": list(self.pools), "precision": self.precision.to_dict()}
        return {"architecture": self.architecture, **shape, **layers}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "NetworkSpec":
        return cls(fields["architecture"], tuple(fields["input_shape"]), fields["classes"], tuple(fields["hidden"]),
                   tuple(fields["pools"]), Precision.from_dict(fields["precision"]))  # fmt: skip

    def describe(self) -> str:
        """One line for people."""
        shape = "x".join(map(str, self.input_shape))
        parts = [f"{n}{' pool' if pool else ''}" for n, pool in zip(self.hidden, self.pools, strict=True)]
        return f"{self.architecture} {shape} -> {' -> '.join(parts)} -> {self.classes}, {self.precision.label}"


def make_spec(
    architecture: Architecture,
    input_shape: tuple[int, ...],
    classes: int,
    precision: Precision,
    hidden: tuple[int, ...] | None = None,
) -> NetworkSpec:
    """The network for data of that shape.

    Default layers: convolutions of 16 and 32 channels (32 and 64 for images of 24 pixels and more), dense layers of
    256 and 256 features (32 and 16 for up to 40 inputs). Images up to 12 pixels are pooled once, larger ones after
    each convolution while 8 pixels or more are left.
    """
    if hidden is not None and (not hidden or min(hidden) < 1):
        raise TrainError(f"hidden layers {hidden}: give at least one size, each 1 or more")
    if architecture == "mlp":
        features = prod(input_shape)
        hidden = hidden or ((32, 16) if features <= 40 else (256, 256))
        return NetworkSpec(
            "mlp", input_shape, classes, hidden, (False,) * len(hidden), precision.spread(len(hidden) + 1)
        )
    if len(input_shape) != 3:
        raise TrainError(
            f"a cnn needs images (channels, height, width), but the data has the shape {input_shape}: use an mlp"
        )
    side = min(input_shape[1:])
    hidden = hidden or ((32, 64) if side >= 24 else (16, 32))
    if side <= 12:
        pools = (False,) * (len(hidden) - 1) + (side >= 2,)
    else:
        pools = tuple(side >> k >= 8 for k in range(len(hidden)))
    return NetworkSpec("cnn", input_shape, classes, hidden, pools, precision.spread(len(hidden) + 1))
