"""The digits networks on their test images: accuracy, equality and a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..rtl.config import Config
from .images import digits_test_set
from .verify import Report, verify

__all__ = ["DigitsResult", "draw", "run_digits"]


@dataclass(frozen=True, eq=False)
class DigitsResult:
    """A verified run over the digits test set."""

    report: Report
    images: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    """What the network says."""

    @property
    def errors(self) -> int:
        return int((self.classes != self.labels).sum())

    @property
    def accuracy(self) -> float:
        return 1 - self.errors / len(self.labels)


def run_digits(
    model: Path,
    config: Config,
    *,
    rtl: int,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> DigitsResult:
    """All 540 test images through QONNX and golden layers, the first `rtl` also through golden machine and RTL."""
    digits = digits_test_set()
    assert digits.labels is not None
    report = verify(model, config, digits.images, machine_images=rtl, progress=progress)
    classes = np.array([int(output.argmax()) for output in report.outputs])
    return DigitsResult(report, digits.images, digits.labels, classes)


def draw(result: DigitsResult, path: Path, *, shown: int = 20) -> None:
    """A PNG: the first images with their classes (wrong ones red), and where the cycles go."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.15, 1])  # type: ignore[misc]
    program, timing = result.report.program, result.report.timing
    top.suptitle(
        f"{program.name}: {100 * result.accuracy:.2f} % of {len(result.labels)} test images, "
        f"{timing.cycles} cycles per image on {program.config.name}"
    )
    for k, axes in enumerate(np.ravel(top.subplots(2, shown // 2))):
        right = result.classes[k] == result.labels[k]
        axes.imshow(result.images[k, 0], cmap="gray_r")
        axes.set_title(str(result.classes[k]), color="black" if right else "red", fontsize=11)
        axes.axis("off")
    axes = bottom.subplots()
    layers = result.report.layers
    bars = axes.barh([f"{layer.name}\n{layer.precision} bit" for layer in layers], [layer.cycles for layer in layers])
    axes.bar_label(
        bars, [f"{layer.cycles} cycles, {100 * layer.use:.1f} % of the array" for layer in layers], padding=4
    )
    axes.set_xlim(0, 1.4 * max(layer.cycles for layer in layers))
    axes.invert_yaxis()
    axes.set_xlabel("cycles (activation / weight bits at the layer's name)")
    figure.savefig(path, dpi=130)
