"""Data from files: .npz, MNIST idx, CIFAR-10 (binary or Python version), a folder of images per class.

Nothing is downloaded. Pixels 0..255 become 0..1. Every malformed file ends in one TrainError that names it.
"""

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .data import Data, split
from .errors import TrainError

__all__ = ["has_cifar", "has_images", "has_mnist", "load_cifar", "load_images", "load_mnist", "load_npz"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_npz(path: Path) -> Data:
    """Arrays x and y; x_test and y_test, or 30 % of x and y are the test samples.

    x: [n, features] or [n, channels, height, width] (or [n, height, width]), 0..1 or uint8. y: [n] integers 0...
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {key: found[key] for key in found.files}
    except OSError as error:
        raise TrainError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception:
        raise TrainError(f"{path}: not an .npz file of plain arrays") from None
    if not {"x", "y"} <= arrays.keys():
        raise TrainError(f"{path}: has the arrays {', '.join(arrays) or 'none'}; must have x and y")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise TrainError(f"{path}: x_test and y_test go together")
    for key, array in arrays.items():
        if key.startswith("x"):
            arrays[key] = _unit(array, f"{path}: {key}")
        elif array.ndim != 1 or array.dtype.kind not in "iu":
            raise TrainError(f"{path}: {key} is {array.dtype} of shape {array.shape}, must be integer labels [n]")
        else:
            arrays[key] = array.astype(np.int64)
    labels = [arrays[key] for key in ("y", "y_test") if key in arrays]
    if any(len(part) == 0 or part.min() < 0 for part in labels):
        raise TrainError(f"{path}: labels must be 0 and up, and at least one")
    classes = tuple(map(str, range(max(int(part.max()) for part in labels) + 1)))
    if len(arrays["x"]) != len(arrays["y"]):
        raise TrainError(f"{path}: {len(arrays['x'])} inputs x but {len(arrays['y'])} labels y")
    if "x_test" in arrays:
        return Data(path.stem, arrays["x"], arrays["y"], arrays["x_test"], arrays["y_test"], classes)
    return split(path.stem, arrays["x"], arrays["y"], classes)


def _unit(x: np.ndarray, where: str) -> np.ndarray:
    if x.dtype.kind not in "fiu":
        raise TrainError(f"{where} is {x.dtype}, must be numbers")
    x = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)
    return x[:, None] if x.ndim == 3 else x


# --- MNIST ---------------------------------------------------------------------------------------


def _find(folder: Path, *names: str) -> Path | None:
    for name in names:
        for suffix in ("", ".gz"):
            if (folder / (name + suffix)).is_file():
                return folder / (name + suffix)
    return None


def _idx_path(folder: Path, part: str, what: str, axes: int) -> Path | None:
    return _find(folder, f"{part}-{what}-idx{axes}-ubyte", f"{part}-{what}.idx{axes}-ubyte")


def has_mnist(folder: Path) -> bool:
    return _idx_path(folder, "train", "images", 3) is not None


def _read_idx(path: Path | None, what: str, folder: Path, axes: int) -> np.ndarray:
    if path is None:
        raise TrainError(f"{folder}: the MNIST file of {what} is missing")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise TrainError(f"{path}: cannot be read ({error})") from None
    header = 4 + 4 * axes
    if len(data) < header or data[:4] != bytes([0, 0, 8, axes]):
        raise TrainError(f"{path}: not an idx file of unsigned bytes with {axes} axes")
    shape = struct.unpack(f">{axes}I", data[4:header])
    if len(data) - header != int(np.prod(shape)):
        raise TrainError(f"{path}: {len(data) - header} bytes of data, {int(np.prod(shape))} by its header: truncated?")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def load_mnist(folder: Path) -> Data:
    """The four idx files of MNIST (or of one in its format), plain or .gz."""
    parts: dict[str, Any] = {}
    for part in ("train", "t10k"):
        images = _read_idx(_idx_path(folder, part, "images", 3), f"{part} images", folder, 3)
        labels = _read_idx(_idx_path(folder, part, "labels", 1), f"{part} labels", folder, 1)
        parts[part] = (images[:, None].astype(np.float32) / 255, labels.astype(np.int64))
    top = max(int(labels.max(initial=0)) for _, labels in parts.values())
    (x, y), (x_test, y_test) = parts["train"], parts["t10k"]
    return Data(folder.name, x, y, x_test, y_test, tuple(map(str, range(max(10, top + 1)))))


# --- CIFAR-10 ------------------------------------------------------------------------------------


def has_cifar(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("data_batch_1", "data_batch_1.bin"))


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and plain values; anything else in a file from elsewhere is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype", "_frombuffer"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if path.suffix == ".bin":
        rows = np.frombuffer(path.read_bytes(), np.uint8)
        if rows.size == 0 or rows.size % 3073:
            raise TrainError(f"{path}: {rows.size} bytes, must be a multiple of 3073 (a label and 32x32x3 pixels)")
        rows = rows.reshape(-1, 3073)
        pixels, labels = rows[:, 1:], rows[:, 0]
    else:
        try:
            with path.open("rb") as file:
                batch = _ArraysOnly(file, encoding="bytes").load()
            pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
        except Exception as error:
            raise TrainError(f"{path}: not a CIFAR-10 batch ({error})") from None
        if pixels.ndim != 2 or pixels.shape[1] != 3072 or pixels.dtype != np.uint8 or len(labels) != len(pixels):
            raise TrainError(f"{path}: not a CIFAR-10 batch: data of shape {pixels.shape}, {len(labels)} labels")
    return pixels.reshape(-1, 3, 32, 32).astype(np.float32) / 255, labels.astype(np.int64)


def load_cifar(folder: Path) -> Data:
    """CIFAR-10's binary or Python version: data_batch_1 .. and test_batch."""
    suffix = ".bin" if (folder / "data_batch_1.bin").is_file() else ""
    batches = [folder / f"data_batch_{k}{suffix}" for k in range(1, 6)]
    parts = [_cifar_batch(path) for path in batches if path.is_file()]
    test = folder / f"test_batch{suffix}"
    if not test.is_file():
        raise TrainError(f"{test}: this CIFAR-10 file is missing")
    x, y = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return Data(folder.name, x, y, *_cifar_batch(test), _CIFAR_CLASSES)


# --- a folder of images --------------------------------------------------------------------------


def _class_folders(folder: Path) -> list[Path]:
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and any(file.suffix.lower() in _SUFFIXES for file in child.iterdir())
    )


def has_images(folder: Path) -> bool:
    return bool(_class_folders(folder)) or ((folder / "train").is_dir() and bool(_class_folders(folder / "train")))


def _read_images(folder: Path, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image, UnidentifiedImageError

    images: list[np.ndarray] = []
    labels: list[int] = []
    mode = first = None
    for label, name in enumerate(classes):
        for path in sorted((folder / name).iterdir() if (folder / name).is_dir() else []):
            if path.suffix.lower() not in _SUFFIXES:
                continue
            try:
                with Image.open(path) as image:
                    mode = mode or ("L" if image.mode in ("1", "L", "I", "I;16") else "RGB")
                    pixels = np.asarray(image.convert(mode), np.float32) / 255
            except (UnidentifiedImageError, OSError):
                raise TrainError(f"{path}: not an image that can be read") from None
            images.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
            labels.append(label)
            first = first or path
            if images[-1].shape != images[0].shape:
                size, other = (f"{i.shape[2]}x{i.shape[1]}" for i in (images[-1], images[0]))
                raise TrainError(f"{path}: {size} pixels, but {first} has {other}: all images must be of one size")
    if not images:
        raise TrainError(f"{folder}: no images")
    return np.stack(images), np.array(labels, np.int64)


def load_images(folder: Path) -> Data:
    """One folder of images per class, all of one size; or such folders under train/ and test/. Grey stays grey."""
    if (folder / "train").is_dir():
        if not (folder / "test").is_dir():
            raise TrainError(f"{folder}: has train/ but no test/ beside it")
        classes = [child.name for child in _class_folders(folder / "train")]
        extra = sorted({child.name for child in _class_folders(folder / "test")} - set(classes))
        if extra:
            raise TrainError(f"{folder}: test/{extra[0]} has no folder under train/")
        return Data(folder.name, *_read_images(folder / "train", classes), *_read_images(folder / "test", classes),
                    tuple(classes))  # fmt: skip
    classes = [child.name for child in _class_folders(folder)]
    return split(folder.name, *_read_images(folder, classes), tuple(classes))
