"""Loading: what is no model is refused in one line; damaged models never end in anything but an error or a report."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_builder import Build

from dipole.compiler.graph import ModelError, load_model
from dipole.compiler.importer import check_model
from dipole.compiler.reference import reference_tensors


def small(folder: Path, name: str = "model.onnx") -> Path:
    b, rng = Build(), np.random.default_rng(0)
    x = b.quant(b.input(2, 4, 4), 0.1, 4)
    x = b.quant(b.op("Relu", b.op("Conv", x, b.weights(rng.normal(size=(3, 2, 3, 3))))), 0.2, 4, signed=0)
    path = folder / name
    onnx.save(b.model(b.op("Gemm", b.op("Flatten", x), b.weights(rng.normal(size=(2, 12))), transB=1)), path)
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        ("folder", "not a file"),
        (b"", "the file is empty"),
        (b"hello, this is no model\n" * 20, "not an ONNX model"),
        (bytes(range(256)) * 16, "not an ONNX model"),
        (b"\x08\x08", "not an ONNX model, or one without nodes"),
        (b"PK\x03\x04" + bytes(200), "not an ONNX model"),
    ],
)
def test_no_model(tmp_path: Path, content: bytes | str | None, reason: str) -> None:
    path = tmp_path / "junk.onnx"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        load_model(path)
    assert reason in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_external_data(tmp_path: Path) -> None:
    model = onnx.load(small(tmp_path))
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.bin", size_threshold=0)
    assert check_model(tmp_path / "e.onnx").ok
    (tmp_path / "e.bin").unlink()
    with pytest.raises(ModelError, match=r"e\.onnx: "):
        load_model(tmp_path / "e.onnx")


def test_truncated_and_flipped(tmp_path: Path) -> None:
    """Any prefix of a file and any flipped byte: a one-line error, a report with problems, or a model after all."""
    whole = small(tmp_path).read_bytes()
    choose = random.Random(1)
    damaged = [whole[: choose.randrange(1, len(whole))] for _ in range(60)]
    for _ in range(150):
        copy = bytearray(whole)
        copy[choose.randrange(len(copy))] ^= 1 << choose.randrange(8)
        damaged.append(bytes(copy))
    outcomes = {"error": 0, "problems": 0, "model": 0}
    path = tmp_path / "d.onnx"
    for content in damaged:
        path.write_bytes(content)
        try:
            report = check_model(path)
        except ModelError as error:
            assert "\n" not in str(error)
            outcomes["error"] += 1
        else:
            assert report.ok == (not report.all_problems)
            assert all("\n" not in problem for problem in report.all_problems)
            outcomes["model" if report.ok else "problems"] += 1
    assert all(outcomes.values()), outcomes


def test_reference_refuses_images_that_do_not_fit(tmp_path: Path) -> None:
    path = small(tmp_path)
    with pytest.raises(ModelError, match=r"images of shape \[2, 3, 4, 4\] do not fit the input \[2, 4, 4\]"):
        reference_tensors(path, np.zeros((2, 3, 4, 4), np.float32))
    with pytest.raises(ModelError, match="do not fit"):
        reference_tensors(path, np.zeros((0, 2, 4, 4), np.float32))


def test_reference_says_what_qonnx_cannot_execute(tmp_path: Path) -> None:
    b = Build()
    path = b.save(tmp_path, b.op("Frobnicate", b.input(3), domain="acme"))
    with pytest.raises(ModelError, match="QONNX cannot execute the model"):
        reference_tensors(path, np.zeros((1, 3), np.float32))
