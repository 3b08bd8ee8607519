"""Activations whose top plane is constant lose it, and nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
from importing import agree
from onnx_builder import Build
from running import conv, network, run_and_compare

from dipole.compiler.constant_planes import without_constant_planes
from dipole.compiler.importer import check_model
from dipole.compiler.network import Conv, Format
from dipole.golden.encoding import values
from dipole.golden.layers import reach, run_network
from dipole.rtl.presets import load_config

BITS = range(2, 9)


def _model(folder: Path, bits: int, quantizer: dict) -> Path:
    """Two padded convolutions and a dense layer, each hidden one behind a ReLU."""
    rng, b = np.random.default_rng(bits), Build()
    x = b.quant(b.input(2, 5, 5), 0.05, 6)
    for inputs in (2, 4):
        w = b.weights(rng.normal(size=(4, inputs, 3, 3)) * 0.3)
        x = b.op("Conv", x, w, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = b.quant(b.op("Relu", b.batch_norm(x, rng, 4)), bits=bits, **quantizer)
    x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return b.save(folder, b.op("Gemm", b.op("Flatten", x), b.weights(rng.normal(size=(3, 16)) * 0.3), transB=1))


@pytest.mark.parametrize("bits", BITS)
def test_hrelu_on_odd_codes(tmp_path: Path, bits: int) -> None:
    """The paper's HReLU: QONNX, integers and the machine agree, with zero padding, and one plane less is stored."""
    levels = (1 << bits) - 1
    path = _model(tmp_path, bits, {"scale": 2 / levels, "zero": levels / 2, "signed": 0, "rounding": "HALF_UP"})
    images = np.random.default_rng(0).normal(size=(4, 2, 5, 5)).astype(np.float32)
    net = agree(path, images)
    formats = [layer.output_format for layer in net.layers[:-1]]
    assert formats == [Format(bits - 1, 2, 1)] * 2 == [layer.input_format for layer in net.layers[1:]]
    rows = {row.name: row.becomes for row in check_model(path).nodes if row.op == "Conv"}
    assert all(text.endswith("; top bit of its codes is constant: 1 bit less") for text in rows.values()), rows
    program = run_and_compare(net, load_config("test_wide" if bits < 8 else "ulx3s_85f"))
    assert [layer.act_bits for layer in program.layers] == [6, bits - 1, bits - 1]
    assert program.layers[1].zero_padding == "validity plane"


def test_signed_codes_behind_a_relu(tmp_path: Path) -> None:
    path = _model(tmp_path, 4, {"scale": 0.2})
    net = agree(path, np.random.default_rng(0).normal(size=(4, 2, 5, 5)).astype(np.float32))
    assert [layer.output_format for layer in net.layers[:-1]] == [Format.unsigned(3)] * 2
    assert run_and_compare(net, load_config("test_wide")).layers[1].zero_padding == "pad code"


def _chain(seed: int, form: Format, lowest: int) -> list[Conv]:
    """Two layers; the first makes codes from `lowest` on, rising or falling."""
    rng = np.random.default_rng(seed)
    first = conv(rng, 3, 2, (1, 1), codes=form)
    span = reach(first)
    assert first.thresholds is not None and first.sign is not None
    first.sign[:] = (1, -1, 1)
    start = np.where(first.sign > 0, span.low, -span.high)
    first.thresholds[:] = start[:, None] + 1 + 2 * np.arange(form.levels) - 2 * lowest
    return [first, conv(rng, 2, 3, (1, 1), act=form)]


@pytest.mark.parametrize(
    ("form", "lowest", "expected"),
    [
        (Format.odd(3), 4, Format(2, 2, 1)),
        (Format.odd(3), 3, None),
        (Format.signed(3), 4, Format.unsigned(2)),
        (Format.signed(3), 6, Format.unsigned(2)),  # the plane below is constant too, but 0 must have a code
        (Format(3, 1, -6), 6, Format(1, 1, 0)),
        (Format.unsigned(3), 4, None),  # the same
        (Format.odd(1), 1, None),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_planes_that_go_and_planes_that_stay(form: Format, lowest: int, expected: Format | None, seed: int) -> None:
    before = network(_chain(seed, form, lowest), 4, 4)
    after = network(without_constant_planes(before.layers), 4, 4)
    made = after.layers[0].output_format
    assert made == (expected or form) == after.layers[1].input_format
    codes = np.random.default_rng(seed).integers(8, size=(5, 2, 4, 4)).astype(np.uint8)
    (a, y), (b, z) = run_network(before, codes), run_network(after, codes)
    assert made is not None
    np.testing.assert_array_equal(values(a.output, form.alpha, form.delta), values(b.output, made.alpha, made.delta))
    np.testing.assert_array_equal(y.accumulator, z.accumulator)


def test_the_last_output_stays() -> None:
    first, last = _chain(0, Format.odd(3), 4)
    assert without_constant_planes([first])[0] is first
    assert without_constant_planes([first, last])[1].output_format is None
