"""Bits, cascades and architectures as data; the message for missing PyTorch."""

import pytest

from dipole.cli.main import main
from dipole.golden.errors import DipoleError
from dipole.train import errors
from dipole.train.precision import Precision, parse_bits, parse_cascade
from dipole.train.spec import NetworkSpec, make_spec


@pytest.mark.parametrize(
    "text,bits", [("1", (1,)), ("8", (8,)), ("8,2,2", (8, 2, 2)), ("float", (None,)), ("8, float", (8, None))]
)
def test_bits(text, bits):
    assert parse_bits(text, "--weights") == bits


@pytest.mark.parametrize("text", ["0", "9", "-1", "2,9"])
def test_bits_outside(text):
    with pytest.raises(DipoleError, match=r"--weights: (0|9|-1) bits, must be 1 to 8"):
        parse_bits(text, "--weights")


@pytest.mark.parametrize("text", ["two", "", "2.5", "2,,2"])
def test_no_bits(text):
    with pytest.raises(DipoleError, match=r"--weights: .* is no number of bits"):
        parse_bits(text, "--weights")


def test_cascade():
    assert parse_cascade("8..1") == [8, 7, 6, 5, 4, 3, 2, 1]
    assert parse_cascade("3..3") == [3]


@pytest.mark.parametrize(
    "text,message", [("1..8", "upwards"), ("9..1", "9 bits"), ("8-1", "no range"), ("8..", "no ran")]
)
def test_bad_cascade(text, message):
    with pytest.raises(DipoleError, match=f"--cascade.*{message}"):
        parse_cascade(text)


def test_precision_errors():
    with pytest.raises(DipoleError, match="weights: 9 bits"):
        Precision(weights=(9,))
    with pytest.raises(DipoleError, match="activations: 0 bits"):
        Precision(activations=(0,))
    with pytest.raises(DipoleError, match="input: 12 bits"):
        Precision(input_bits=12)
    with pytest.raises(DipoleError, match="kind 'relu' is unknown; there are unsigned, odd, odd-relu"):
        Precision(kind="relu")  # type: ignore[arg-type]
    with pytest.raises(DipoleError, match=r"'odd-relu' at 1 bit is the constant \+1"):
        Precision(activations=(1,), kind="odd-relu")


def test_labels():
    assert Precision((2,), (4,)).label == "w2a4"
    assert Precision((8, 2, 2), (2, 2)).label == "w8-2-2a2"
    assert Precision((None,), (None,)).label == "wfloatafloat"


def test_spread_to_layers():
    spec = make_spec("cnn", (1, 8, 8), 10, Precision((8, 2, 4), (3,)))
    assert spec.precision.weights == (8, 2, 4)
    assert spec.precision.activations == (3, 3)
    with pytest.raises(DipoleError, match="weights: bits for 2 layers given, but the network has 3 layers"):
        make_spec("cnn", (1, 8, 8), 10, Precision((2, 2), (2,)))
    with pytest.raises(DipoleError, match="activations: bits for 3 layers given, but the network has 2 hidden layers"):
        make_spec("cnn", (1, 8, 8), 10, Precision((2,), (2, 2, 2)))


def test_digits_cnn_is_the_one_of_the_models():
    spec = make_spec("cnn", (1, 8, 8), 10, Precision())
    assert (spec.hidden, spec.pools, spec.layers) == ((16, 32), (False, True), 3)


@pytest.mark.parametrize(
    "shape,pools",
    [
        ((1, 28, 28), (True, True)),
        ((3, 32, 32), (True, True)),
        ((3, 2, 2), (False, True)),
        ((1, 1, 9), (False, False)),
    ],
)
def test_pools_follow_the_size(shape, pools):
    assert make_spec("cnn", shape, 10, Precision()).pools == pools


def test_cnn_needs_images():
    with pytest.raises(DipoleError, match=r"a cnn needs images .* \(30,\): use an mlp"):
        make_spec("cnn", (30,), 2, Precision())


def test_hidden_sizes():
    assert make_spec("mlp", (30,), 2, Precision()).hidden == (32, 16)
    assert make_spec("mlp", (1, 8, 8), 2, Precision(), (5,)).hidden == (5,)
    with pytest.raises(DipoleError, match="at least one size, each 1 or more"):
        make_spec("mlp", (30,), 2, Precision(), (0, 5))


def test_spec_as_plain_values():
    spec = make_spec("cnn", (3, 32, 32), 10, Precision((8, None, 1), (2, 3), "odd", 4))
    assert NetworkSpec.from_dict(spec.to_dict()) == spec


def test_missing_torch_names_the_extra(monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(DipoleError, match=r"pip install 'dipole\[train\]'"):
        errors.need_torch()


@pytest.mark.parametrize("name", ["digits-cnn", "table"])
def test_missing_torch_is_one_line(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit:
        main(["train", name])
    out, err = capsys.readouterr()
    assert exit.value.code == 2 and out == "" and err.count("\n") == 1
    assert "training needs PyTorch, which is not installed: pip install 'dipole[train]'" in err
