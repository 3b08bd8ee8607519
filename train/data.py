"""Data sets as arrays: inputs float32 in 0..1, labels int64, a fixed split into training and test samples.

By name: `digits` and `breast_cancer` (scikit-learn). By path: a `.npz` file, a folder with one folder of images per
class, or the files of MNIST, CIFAR-10 and Speech Commands as their sites hand them out; see `open_data`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import TrainError

__all__ = ["Data", "NAMES", "open_data", "split", "to_unit_range"]

NAMES = ("digits", "breast_cancer")
TEST_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class Data:
    """One data set, split."""

    name: str
    x: np.ndarray
    """Training inputs float32 [n, *shape], values 0..1."""
    y: np.ndarray
    """Training labels int64 [n]."""
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for what, x, y in (("training", self.x, self.y), ("test", self.x_test, self.y_test)):
            if len(x) == 0:
                raise TrainError(f"data {self.name!r}: no {what} samples")
            if y.ndim != 1 or len(x) != len(y):
                raise TrainError(f"data {self.name!r}: {len(x)} {what} inputs but labels of shape {y.shape}")
            if x.ndim not in (2, 4):
                raise TrainError(
                    f"data {self.name!r}: {what} inputs have the shape {x.shape}, must be [n, features] or "
                    "[n, channels, height, width]"
                )
            if not np.isfinite(x).all() or x.min() < 0 or x.max() > 1:
                raise TrainError(f"data {self.name!r}: {what} inputs must be numbers in 0..1")
            if y.min() < 0 or y.max() >= len(self.classes):
                raise TrainError(
                    f"data {self.name!r}: {what} labels {y.min()}..{y.max()}, must be 0..{len(self.classes) - 1}"
                )
        if self.x.shape[1:] != self.x_test.shape[1:]:
            raise TrainError(
                f"data {self.name!r}: training inputs have the shape {self.x.shape[1:]}, "
                f"test inputs {self.x_test.shape[1:]}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.x.shape[1:])


def split(name: str, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...], *, scale: bool = False) -> Data:
    """Data of one pile of samples: 30 % to test, the same share of every class, always the same samples.

    With `scale` the inputs are brought to 0..1 (`to_unit_range`).
    """
    from sklearn.model_selection import train_test_split

    try:
        parts = train_test_split(x, y, test_size=TEST_SHARE, random_state=0, stratify=y)
    except ValueError as error:
        raise TrainError(f"data {name!r}: cannot be split into training and test samples ({error})") from None
    x0, x1, y0, y1 = (np.asarray(part) for part in parts)
    if scale:
        x0, x1 = to_unit_range(x0, x1)
    return Data(name, x0, y0, x1, y1, classes)


def to_unit_range(x: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both brought to 0..1, feature by feature, by the range of the training samples; what lies outside is clipped."""
    low, high = x.min(axis=0), x.max(axis=0)
    span = np.where(high > low, high - low, 1)
    scaled = [np.clip((part - low) / span, 0, 1).astype(np.float32) for part in (x, x_test)]
    return scaled[0], scaled[1]


def _digits() -> Data:
    from sklearn import datasets

    bunch: Any = datasets.load_digits()
    images = (bunch.data.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    return split("digits", images, bunch.target.astype(np.int64), tuple(map(str, range(10))))


def _breast_cancer() -> Data:
    from sklearn import datasets

    bunch: Any = datasets.load_breast_cancer()
    classes = tuple(map(str, bunch.target_names))
    return split("breast_cancer", bunch.data, bunch.target.astype(np.int64), classes, scale=True)


def open_data(name: str) -> Data:
    """A data set by name or path.

    `digits`, `breast_cancer`; FILE.npz (x, y and maybe x_test, y_test); a folder: of MNIST idx files, of CIFAR-10
    batches, of Speech Commands (a folder of .wav files per word), or of images (a folder of .png, .jpg per class).
    """
    if name == "digits":
        return _digits()
    if name == "breast_cancer":
        return _breast_cancer()
    path = Path(name)
    if path.suffix == ".npz":
        from .files import load_npz

        return load_npz(path)
    if path.is_dir():
        from . import files, speech

        for looks_like, load in (
            (files.has_mnist, files.load_mnist),
            (files.has_cifar, files.load_cifar),
            (speech.has_speech, speech.load_speech),
            (files.has_images, files.load_images),
        ):
            if looks_like(path):
                return load(path)
        raise TrainError(
            f"{path}: no data known in this folder; it must hold MNIST idx files, CIFAR-10 batches, a folder of .wav "
            "files per word, or a folder of .png or .jpg images per class"
        )
    raise TrainError(f"data {name!r} is unknown: give {', '.join(NAMES)}, an .npz file or a folder")
