"""`dipole evaluate`: accuracy through integers, and its errors; nothing here needs PyTorch."""

from pathlib import Path

import numpy as np
import pytest

from dipole.cli.main import main
from dipole.compiler.importer import import_network
from dipole.golden.errors import DipoleError
from dipole.rtl.presets import load_config
from dipole.train.data import open_data
from dipole.train.evaluate import cycles_per_image, evaluate, golden_scores, rtl_scores

MODELS = Path(__file__).parents[2] / "models"
OURS = MODELS / "digits_cnn_w2a2_unsigned.onnx"


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return exit.value.code or 0, out, err


def test_command(capsys):
    code, out, _ = _run(capsys, "evaluate", OURS)
    assert code == 0 and out == "golden model: 99.07 % of 540 test samples of digits (535 right)\n"


def test_what_users_bring_works_too():
    """The accuracy that models/README.md states for the Brevitas exports."""
    assert round(100 * evaluate(MODELS / "digits_w4a4.onnx", "digits").accuracy, 2) == 98.15


def test_user_data(tmp_path, capsys):
    data = open_data("digits")
    x, y = data.x_test[:40], data.y_test[:40]
    np.savez(tmp_path / "mine.npz", x=data.x[:20], y=data.y[:20], x_test=x, y_test=y)
    right = int((golden_scores(import_network(OURS), x).argmax(axis=1) == y).sum())
    code, out, _ = _run(capsys, "evaluate", OURS, "--data", tmp_path / "mine.npz")
    assert code == 0 and f"of 40 test samples of mine ({right} right)" in out


def test_errors(tmp_path, capsys):
    code, _, err = _run(capsys, "evaluate", MODELS / "digits_w4a4.onnx")
    assert code == 2 and "does not say which data it was trained on; give --data" in err
    code, _, err = _run(capsys, "evaluate", OURS, "--data", "breast_cancer")
    assert code == 2 and "inputs have the shape (30,), network 'digits_cnn_w2a2_unsigned' takes (1, 8, 8)" in err
    np.savez(tmp_path / "a.npz", x=np.zeros((20, 64)), y=np.arange(20) % 2 * 15)
    with pytest.raises(DipoleError, match=r"16 classes, but .*digits_cnn_w2a2_unsigned\.onnx gives 10 scores"):
        evaluate(OURS, str(tmp_path / "a.npz"))
    (tmp_path / "a.onnx").write_bytes(b"\x08nothing")
    code, _, err = _run(capsys, "evaluate", tmp_path / "a.onnx")
    assert code == 2 and "not an ONNX model" in err
    code, _, err = _run(capsys, "evaluate", tmp_path / "absent.onnx")
    assert code == 2 and "cannot be read" in err
    code, _, err = _run(capsys, "evaluate", OURS, "--rtl", "1", "--config", "nowhere")
    assert code == 2 and "nowhere" in err


@pytest.mark.slow
def test_simulated_hardware():
    network, config = import_network(OURS), load_config("icebreaker")
    x = open_data("digits").x_test[:3]
    scores, cycles = rtl_scores(network, config, x)
    np.testing.assert_array_equal(scores, golden_scores(network, x))
    assert cycles == cycles_per_image(network, config)
