"""Loaders on small files in the formats of the originals, written here."""

import gzip
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from dipole.golden.errors import DipoleError
from dipole.train.data import open_data


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_digits_are_those_of_the_models():
    data = open_data("digits")
    assert data.x.shape == (1257, 1, 8, 8) and data.x_test.shape == (540, 1, 8, 8)
    assert data.x.dtype == np.float32 and data.x.max() == 1
    assert np.bincount(data.y_test).min() > 50


def test_breast_cancer():
    data = open_data("breast_cancer")
    assert data.shape == (30,) and len(data.x) + len(data.x_test) == 569
    assert data.classes == ("malignant", "benign")
    assert data.x.min() == 0 and data.x.max() == 1 and data.x_test.min() >= 0 and data.x_test.max() <= 1


def test_unknown_name():
    with pytest.raises(
        DipoleError, match=r"data 'mnist' is unknown: give digits, breast_cancer, an .npz file or a folder"
    ):
        open_data("mnist")


def test_folder_of_nothing(tmp_path):
    with pytest.raises(DipoleError, match="no data known in this folder"):
        open_data(str(tmp_path))


# --- .npz ---


def _npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_npz_with_test_samples(tmp_path, rng):
    x = rng.integers(0, 256, (12, 5, 6), dtype=np.uint8)
    data = open_data(_npz(tmp_path / "a.npz", x=x, y=np.arange(12) % 3, x_test=x[:4], y_test=np.arange(4) % 3))
    assert data.shape == (1, 5, 6) and data.classes == ("0", "1", "2")
    np.testing.assert_array_equal(data.x[:, 0], x.astype(np.float32) / 255)
    np.testing.assert_array_equal(data.y_test, [0, 1, 2, 0])


def test_npz_is_split_always_alike(tmp_path, rng):
    path = _npz(tmp_path / "a.npz", x=rng.random((50, 4)), y=np.arange(50) % 2)
    first, second = open_data(path), open_data(path)
    assert len(first.x_test) == 15 and np.bincount(first.y_test).tolist() in ([7, 8], [8, 7])
    np.testing.assert_array_equal(first.x, second.x)


@pytest.mark.parametrize(
    "arrays,message",
    [
        ({"x": np.zeros((4, 3))}, "has the arrays x; must have x and y"),
        ({"x": np.zeros((4, 3)), "y": np.zeros(4)}, r"y is float64 of shape \(4,\), must be integer labels"),
        ({"x": np.zeros((4, 3)), "y": np.zeros(5, int)}, "4 inputs x but 5 labels y"),
        ({"x": np.zeros((4, 3)), "y": np.full(4, -1)}, "labels must be 0 and up"),
        ({"x": np.zeros((9, 3)), "y": np.zeros(9, int), "x_test": np.zeros((9, 3))}, "x_test and y_test go together"),
        ({"x": np.full((9, 3), 2.0), "y": np.zeros(9, int)}, r"inputs must be numbers in 0\.\.1"),
        ({"x": np.full((9, 3), np.nan), "y": np.zeros(9, int)}, r"inputs must be numbers in 0\.\.1"),
        ({"x": np.array(["a"] * 9), "y": np.zeros(9, int)}, "x is <U1, must be numbers"),
        ({"x": np.zeros((9, 2, 2, 2, 2)), "y": np.zeros(9, int)}, r"inputs have the shape \(6, 2, 2, 2, 2\), must be"),
        ({"x": np.zeros((3, 2)), "y": np.arange(3)}, "cannot be split"),
        (
            {"x": np.zeros((9, 3)), "y": np.zeros(9, int), "x_test": np.zeros((9, 4)), "y_test": np.zeros(9, int)},
            r"training inputs have the shape \(3,\), test inputs \(4,\)",
        ),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    with pytest.raises(DipoleError, match=message):
        open_data(_npz(tmp_path / "bad.npz", **arrays))


def test_npz_that_is_none(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK nonsense")
    with pytest.raises(DipoleError, match=r"not an .npz file of plain arrays"):
        open_data(str(tmp_path / "bad.npz"))
    with pytest.raises(DipoleError, match="cannot be read"):
        open_data(str(tmp_path / "absent.npz"))


# --- MNIST ---


def _idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _mnist(folder, rng, zipped, dot="-"):
    made = {}
    for part, n in (("train", 7), ("t10k", 3)):
        images, labels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)
        for what, array, axes in (("images", images, 3), ("labels", labels, 1)):
            data, name = _idx(array), f"{part}-{what}{dot}idx{axes}-ubyte"
            if zipped:
                (folder / (name + ".gz")).write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
        made[part] = (images, labels)
    return made


@pytest.mark.parametrize("zipped,dot", [(False, "-"), (True, "-"), (False, ".")])
def test_mnist(tmp_path, rng, zipped, dot):
    made = _mnist(tmp_path, rng, zipped, dot)
    data = open_data(str(tmp_path))
    assert data.shape == (1, 28, 28) and len(data.classes) == 10
    np.testing.assert_array_equal(np.round(data.x[:, 0] * 255), made["train"][0])
    np.testing.assert_array_equal(data.y_test, made["t10k"][1])


def test_bad_mnist(tmp_path, rng):
    _mnist(tmp_path, rng, False)
    images = tmp_path / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-5])
    with pytest.raises(DipoleError, match="t10k-images-idx3-ubyte: 2347 bytes of data, 2352 by its header"):
        open_data(str(tmp_path))
    images.write_bytes(b"\x00\x00\x0d\x03 floats")
    with pytest.raises(DipoleError, match="not an idx file of unsigned bytes with 3 axes"):
        open_data(str(tmp_path))
    images.unlink()
    with pytest.raises(DipoleError, match="the MNIST file of t10k images is missing"):
        open_data(str(tmp_path))


# --- CIFAR-10 ---


def _cifar(folder, rng, binary):
    for name, n in (("data_batch_1", 4), ("data_batch_2", 5), ("test_batch", 3)):
        pixels, labels = rng.integers(0, 256, (n, 3072), dtype=np.uint8), rng.integers(0, 10, n)
        if binary:
            rows = np.concatenate([labels[:, None].astype(np.uint8), pixels], axis=1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            (folder / name).write_bytes(pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=2))
    return pixels, labels


@pytest.mark.parametrize("binary", [True, False])
def test_cifar(tmp_path, rng, binary):
    pixels, labels = _cifar(tmp_path, rng, binary)
    data = open_data(str(tmp_path))
    assert data.x.shape == (9, 3, 32, 32) and data.classes[3] == "cat"
    np.testing.assert_array_equal(np.round(data.x_test.reshape(3, 3072) * 255), pixels)
    np.testing.assert_array_equal(data.y_test, labels)


def test_bad_cifar(tmp_path, rng):
    _cifar(tmp_path, rng, True)
    (tmp_path / "test_batch.bin").write_bytes(b"x" * 3000)
    with pytest.raises(DipoleError, match=r"test_batch.bin: 3000 bytes, must be a multiple of 3073"):
        open_data(str(tmp_path))
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(DipoleError, match=r"test_batch.bin: this CIFAR-10 file is missing"):
        open_data(str(tmp_path))


class _Call:
    def __reduce__(self):
        return print, ("code from a file",)


def test_cifar_pickle_runs_no_code(tmp_path, capsys):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": _Call()}))
    with pytest.raises(DipoleError, match=r"not a CIFAR-10 batch \(.*print is not allowed\)"):
        open_data(str(tmp_path))
    assert capsys.readouterr().out == ""


# --- images ---


def _images(folder, rng, size=(6, 4), mode="L", classes=("cat", "dog"), each=5):
    shape = (size[1], size[0]) + ((3,) if mode == "RGB" else ())
    for name in classes:
        (folder / name).mkdir(parents=True)
        for k in range(each):
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name / f"{k}.png")


@pytest.mark.parametrize("mode,channels", [("L", 1), ("RGB", 3)])
def test_images(tmp_path, rng, mode, channels):
    _images(tmp_path, rng, mode=mode)
    data = open_data(str(tmp_path))
    assert data.shape == (channels, 4, 6) and data.classes == ("cat", "dog")
    assert len(data.x) == 7 and len(data.x_test) == 3


def test_images_with_their_own_split(tmp_path, rng):
    _images(tmp_path / "train", rng)
    _images(tmp_path / "test", rng, each=2)
    data = open_data(str(tmp_path))
    assert len(data.x) == 10 and len(data.x_test) == 4


def test_bad_images(tmp_path, rng):
    _images(tmp_path, rng)
    Image.new("L", (5, 5)).save(tmp_path / "dog" / "9.png")
    with pytest.raises(DipoleError, match=r"9.png: 5x5 pixels, but .*0.png has 6x4: all images must be of one size"):
        open_data(str(tmp_path))
    (tmp_path / "dog" / "9.png").write_bytes(b"no image")
    with pytest.raises(DipoleError, match=r"9.png: not an image"):
        open_data(str(tmp_path))
