"""Images to run a network on: the digits test set, a user's file, or random ones."""

from pathlib import Path

import numpy as np

from ..compiler.network import Network
from ..golden.errors import DipoleError

__all__ = ["ImageSet", "digits_test_set", "load_images"]


class ImageSet:
    """Real inputs float32 [images, *network input shape], and labels where there are any."""

    def __init__(self, source: str, images: np.ndarray, labels: np.ndarray | None = None):
        self.source = source
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)


def digits_test_set() -> ImageSet:
    """The 540 test images of scikit-learn's digits, NCHW in [0, 1]; the split of models/README.md."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    _, images, _, labels = train_test_split(images, labels, test_size=0.3, random_state=0, stratify=labels)
    return ImageSet("digits", (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32), labels.astype(np.int64))


def load_images(network: Network, count: int, source: str | None = None, seed: int = 0) -> ImageSet:
    """`count` images for a network.

    `source` is "digits", "random" (uniform over the range of the input quantizer and a little beyond, from `seed`),
    or an .npz
    file with `x` and perhaps `y`. None takes digits where the shape fits, else random images.
    """
    shape = network.input_shape
    size = int(np.prod(shape))
    if count < 1:
        raise DipoleError(f"{count} images: give at least 1")
    if source is None:
        source = "digits" if shape == (1, 8, 8) else "random"
    if source == "random":
        quantizer = network.input_quantizer
        ends = np.array([quantizer.lowest - 1.0, quantizer.highest + 1.0]) - quantizer.zero_point
        low, high = (-1.0, 1.0) if quantizer.bipolar else ends * quantizer.scale
        rng = np.random.default_rng(seed)
        return ImageSet(f"random, seed {seed}", rng.uniform(low, high, (count, *shape)).astype(np.float32))
    if source == "digits":
        found = digits_test_set()
    else:
        try:
            with np.load(Path(source), allow_pickle=False) as file:
                if "x" not in file:
                    raise DipoleError(f"{source}: holds no array 'x' (it has: {', '.join(file.files) or 'none'})")
                found = ImageSet(source, file["x"].astype(np.float32), file.get("y"))
        except (OSError, ValueError, EOFError) as error:
            raise DipoleError(f"{source}: no .npz file of images: {error}") from error
    if len(found) == 0 or found.images[0].size != size:
        have = "x".join(map(str, found.images.shape[1:]))
        raise DipoleError(f"images of {found.source} are {have}, the network takes {'x'.join(map(str, shape))}")
    labels = None if found.labels is None else found.labels[:count]
    return ImageSet(found.source, found.images[:count].reshape(-1, *shape), labels)
