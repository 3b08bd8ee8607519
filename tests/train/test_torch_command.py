# pyright: reportMissingImports=false
"""`dipole train` from the command line, on a small file of data."""

import re

import numpy as np
import onnx
import pytest

from dipole.cli.main import main
from dipole.train.fit import Options
from dipole.train.measure import Case, Measurements, cases, work
from dipole.train.precision import Precision
from dipole.train.spec import make_spec
from dipole.train.table import plot, render

pytestmark = pytest.mark.train


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 150)
    x = (rng.random((150, 6)) * 0.5 + (np.arange(6) // 2 == y[:, None]) * 0.5).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return str(tmp_path / "data.npz")


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return exit.value.code or 0, out, err


def test_train_then_evaluate(data, tmp_path, capsys):
    path = tmp_path / "made" / "net.onnx"
    common = ("train", "mlp", "--data", data, "--hidden", "8,6", "--epochs", 15, "--seed", 4, "-o", path)
    code, out, err = _run(capsys, *common, "--weights", "2,3,2")
    assert code == 0, err
    assert "w2-3-2a2: " in out and "same class as PyTorch on 45 of 45" in out
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.ckpt", "net.onnx"]
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    expected = f"dipole train mlp --weights 2,3,2 --data {data} --hidden 8,6 --seed 4 --epochs 15"
    assert metadata["dipole.command"] == expected
    share = float(out.split("integer golden model ")[1].split(" %")[0])
    assert share > 80
    code, out, _ = _run(capsys, "evaluate", path)
    assert code == 0 and f"golden model: {share:.2f} % of 45 test samples" in out

    again = path.read_bytes()
    code, _, err = _run(capsys, *common, "--weights", "2,3,2", "--resume")
    assert code == 0 and path.read_bytes() == again
    code, _, err = _run(capsys, *common, "--weights", "4", "--resume")
    assert code == 2 and "a checkpoint of another network" in err and path.read_bytes() == again


def test_cascade_makes_a_family(data, tmp_path, capsys):
    folder = tmp_path / "family"
    options = ("--hidden", "6", "--cascade", "3..1", "--epochs", 2)
    code, out, err = _run(capsys, "train", "mlp", "--data", data, *options, "-o", folder)
    assert code == 0, err
    names = sorted(path.name for path in folder.glob("*.onnx"))
    assert names == ["mlp_w1a1_unsigned.onnx", "mlp_w2a2_unsigned.onnx", "mlp_w3a3_unsigned.onnx"]
    assert "full precision: no QONNX file" in out


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["digits-cnn", "--weights", "9"], "--weights: 9 bits, must be 1 to 8"),
        (["digits-cnn", "--input-bits", "0"], "input: 0 bits"),
        (["digits-cnn", "--activation-kind", "relu"], "activation kind 'relu' is unknown"),
        (["digits-rnn"], "network 'digits-rnn' is unknown; there are digits-cnn"),
        (["mlp"], "network 'mlp' needs --data"),
        (["mlp", "--data", "nowhere"], "data 'nowhere' is unknown"),
        (["digits-cnn", "--data", "breast_cancer"], "a cnn needs images"),
        (["digits-cnn", "--cascade", "1..8"], "goes upwards"),
        (["digits-cnn", "--hidden", "a"], "--hidden: 'a' is no list"),
        (["digits-cnn", "--epochs", "0"], "epochs: 0"),
    ],
)
def test_one_line_errors(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = _run(capsys, "train", *arguments)
    assert code == 2 and message in err and err.count("\n") == 1 and out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arrays,message",
    [
        ({"x": np.zeros((20, 2, 3, 4, 5)), "y": np.zeros(20, int)}, "must be .n, features."),
        ({"x": np.zeros((20, 6)), "y": np.zeros(19, int)}, "20 inputs x but 19 labels y"),
        ({"x": np.zeros((20, 6))}, "must have x and y"),
    ],
)
def test_data_file_of_wrong_shape(arrays, message, tmp_path, capsys):
    np.savez(tmp_path / "bad.npz", **arrays)
    code, out, err = _run(capsys, "train", "mlp", "--data", tmp_path / "bad.npz", "-o", tmp_path / "made" / "a.onnx")
    assert code == 2 and re.search(f"bad.*({message})", err) and err.count("\n") == 1 and out == ""
    assert not (tmp_path / "made").exists()


# --- table ---


def test_work_by_hand():
    memory, products = work(make_spec("cnn", (1, 8, 8), 10, Precision((2,), (4,))))
    assert memory == 2 * (16 * 9 + 32 * 16 * 9 + 10 * 512)
    assert products == 2 * (16 * 9 * 64 * 8 + 32 * 16 * 9 * 64 * 4 + 10 * 512 * 4)
    memory, products = work(make_spec("mlp", (30,), 2, Precision((1, 2, 3), (4, 5), input_bits=6), (7, 3)))
    assert memory == 30 * 7 + 2 * 21 + 3 * 6
    assert products == 30 * 7 * 6 + 2 * 21 * 4 + 3 * 6 * 5
    _, products = work(make_spec("mlp", (30,), 2, Precision((1, 2, 3), (4, 5), "odd-relu", 6), (7, 3)))
    assert products == 30 * 7 * 6 + 2 * 21 * 3 + 3 * 6 * 4


def test_table_shows_what_was_measured_and_no_more(tmp_path):
    options = Options(epochs=3)
    found = Measurements(tmp_path / "accuracy.json", options)
    case = Case("digits-cnn", "odd", 2, 2)
    assert case in cases()
    found.table("accuracy", case.key).update({"0": 0.5, "1": 0.6})
    found.table("cycles", case.key).update({"icebreaker": 1234, "ulx3s_85f": "too large"})
    found.save()
    page = render(Measurements(tmp_path / "accuracy.json", options), options)
    line = next(line for line in page.splitlines() if "55.00 ± 7.07" in line)
    assert line.startswith("| HTanh, odd codes | 2 | 2 |") and "1,234" in line and "no, see below" in line
    assert "* HTanh, odd codes, 2 / 2, on `ulx3s_85f`: too large." in page
    assert page.count("±") == 2, "one in the text, one in the table"
    assert "over 2 seeds" in page and "Cascade" not in page
    found.table("cascade", "scratch, same epochs 2").update({"0": 0.25, "1": 0.75})
    line = next(line for line in render(found, options).splitlines() if line.startswith("| scratch, same"))
    assert line.split(" | ")[1:] == ["-"] * 6 + ["50.00 ± 35.36", "- |"]
    assert len([line for line in page.splitlines() if line.startswith("| H")]) == len(cases())
    plot(found, tmp_path / "accuracy.png")
    assert (tmp_path / "accuracy.png").read_bytes()[:4] == b"\x89PNG"
    assert Measurements(tmp_path / "accuracy.json", Options(epochs=4)).content["accuracy"] == {}
