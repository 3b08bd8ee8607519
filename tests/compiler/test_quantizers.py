"""Quantizers against QONNX's own functions, bit for bit, and the formats they make."""

import numpy as np
import pytest
from qonnx.custom_op.general.bipolar_quant import binary_quant
from qonnx.custom_op.general.intquant import int_quant
from qonnx.custom_op.general.multithreshold import multithreshold

from dipole.compiler.network import Format
from dipole.compiler.quantizers import ROUNDINGS, MultiThreshold, Quantizer, input_quantizer, quantize_input
from dipole.golden.errors import DipoleError


def f32(value: object) -> np.ndarray:
    return np.asarray(value, np.float32)


def make(bits: float, signed: bool, narrow: bool, rounding: str = "ROUND", scale: object = 0.3, zero: object = 0.0):
    return Quantizer(f32(scale), f32(zero), bits, signed, narrow, rounding)


def inputs(quantizer: Quantizer, rng: np.random.Generator) -> np.ndarray:
    """Random values, exact ties, neighbours of ties, and far away values."""
    scale, zero = float(quantizer.scale), float(quantizer.zero_point)
    q = np.arange(quantizer.lowest - 3, quantizer.highest + 4)
    grid = np.concatenate([q + shift for shift in (0.0, 0.5, 0.25)])
    ties = f32((grid - zero) * scale)
    near = [ties, np.nextafter(ties, f32(np.inf)), np.nextafter(ties, f32(-np.inf))]
    wide = rng.normal(size=500) * scale * (quantizer.highest + 2)
    return np.concatenate([*near, f32(wide), f32([0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45])])


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("scale", [0.25, 0.3, 1.7])
def test_same_as_qonnx(rounding: str, bits: int, scale: float) -> None:
    rng = np.random.default_rng(bits)
    for signed in (False, True):
        for narrow in (False, True):
            for zero in (0.0, 1.0, (2**bits - 1) / 2):
                quantizer = make(bits, signed, narrow, rounding, scale, zero)
                x = inputs(quantizer, rng)
                with np.errstate(all="ignore"):
                    expected = int_quant(x, f32(scale), f32(zero), f32(bits), signed, narrow, rounding)
                np.testing.assert_array_equal(quantizer(x), np.asarray(expected, np.float32))


def test_same_as_qonnx_per_channel() -> None:
    x = f32(np.random.default_rng(3).normal(size=(5, 3, 2, 2)))
    scale = f32(np.random.default_rng(4).uniform(0.1, 0.5, (5, 1, 1, 1)))
    expected = int_quant(x, scale, f32(0), f32(4), True, True, "ROUND")
    np.testing.assert_array_equal(make(4, True, True, scale=scale)(x), expected)


def test_bipolar_same_as_qonnx() -> None:
    x = f32([-2, -1e-45, -0.0, 0.0, 1e-45, 3])
    quantizer = Quantizer(f32(0.7), f32(0), 1, True, False, bipolar=True)
    np.testing.assert_array_equal(quantizer(x), binary_quant(x, f32(0.7)))
    assert quantizer.codes(x).tolist() == [0, 0, 1, 1, 1, 1]
    assert quantizer.format == Format.odd(1) and quantizer.code_scale == np.float32(0.7)


def test_multithreshold_same_as_qonnx() -> None:
    rng = np.random.default_rng(5)
    table = np.sort(f32(rng.normal(size=(4, 7))), axis=1)
    x = f32(np.concatenate([rng.normal(size=(4, 50)), table], axis=1))
    expected = multithreshold(x[None].transpose(0, 1, 2), table, 0.5, -1.5)[0]
    made = MultiThreshold(table, 0.5, -1.5)
    np.testing.assert_array_equal(made(x), f32(expected))
    assert made.format == Format(3, 1, -3) and made.code_scale == 0.5


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
def test_codes_stand_for_the_real_values(bits: int, signed: bool, narrow: bool) -> None:
    """real = code_scale * (alpha * code + delta), for integer and odd formats, on all values."""
    base = -(2 ** (bits - 1)) if signed else 0
    for zero in (0, 1, base + (2**bits - 1) / 2):
        quantizer = make(bits, signed, narrow, scale=0.375, zero=zero)
        try:
            made = quantizer.format
        except ValueError:
            assert signed and bits == 1 and zero != 0
            continue
        x = f32(np.random.default_rng(bits).normal(size=400) * 2**bits)
        codes = quantizer.codes(x)
        assert codes.max() <= made.levels
        np.testing.assert_array_equal(f32(quantizer.code_scale * (made.alpha * codes.astype(float) + made.delta)),
                                      quantizer(x))  # fmt: skip
        order = np.argsort(x)
        assert np.all(np.diff(codes[order].astype(int)) >= 0)


def test_formats_by_name() -> None:
    assert make(4, False, False).format == Format.unsigned(4)
    assert make(4, True, False).format == Format.signed(4)
    assert make(4, True, True).format == Format.signed(4)
    assert make(2, True, True).describe() == "2 bit two's complement, narrow"
    assert make(2, False, False, zero=1.5).format == Format.odd(2)
    assert make(3, True, False, zero=-0.5).format == Format.odd(3)
    assert make(1, True, False).format == Format.odd(1)
    assert make(8, False, False, zero=100).format == Format(8, 1, -100)


@pytest.mark.parametrize(
    ("quantizer", "reason"),
    [
        (make(9, True, False), r"bit width 9 is not supported: it must be an integer in 1\.\.8"),
        (make(2.5, True, False), r"bit width 2\.5"),
        (make(4, False, False, zero=0.3), r"zero point 0\.3 .* or 7\.5 \(odd ladder\)"),
        (make(4, False, False, zero=6.5), r"zero point 6\.5"),
        (make(4, False, False, zero=16), r"zero point 16 .* outside the 4-bit range"),
        (make(1, True, False, zero=1), r"signed 1-bit quantizer"),
        (make(4, False, False, zero=[0, 1]), r"zero point differs from channel to channel"),
    ],
)
def test_formats_refused(quantizer: Quantizer, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        _ = quantizer.format


@pytest.mark.parametrize(
    ("thresholds", "scale", "bias", "reason"),
    [
        (256, 1, 0, "256 thresholds"),
        (3, -1, 0, "out_scale -1"),
        (3, 1, 1, "out_bias 1"),
        (3, 1, -0.25, "out_bias -0.25"),
    ],
)
def test_multithreshold_refused(thresholds: int, scale: float, bias: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        _ = MultiThreshold(f32(np.zeros((1, thresholds))), scale, bias).format


def test_multithreshold_bipolar() -> None:
    made = MultiThreshold(f32([[0.0]]), 2.0, -1.0)
    assert made.format == Format.odd(1) and made.code_scale == 1.0


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_quantize_input_is_the_quantizer(rounding: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    for signed in (False, True):
        for narrow in (False, True):
            odd = (-(2 ** (bits - 1)) if signed else 0) + (2**bits - 1) / 2
            for zero in (0.0, odd) if not (signed and bits == 1) else (0.0,):
                quantizer = make(bits, signed, narrow, rounding, 0.3, zero)
                x = inputs(quantizer, rng)
                host = input_quantizer(quantizer)
                assert host.scale == np.float32(0.3)
                with np.errstate(all="ignore"):
                    expected = quantizer.codes(x)
                    np.testing.assert_array_equal(quantize_input(host, quantizer.format, x), expected)


def test_quantize_input_bipolar_and_nan() -> None:
    host = input_quantizer(Quantizer(f32(0.5), f32(0), 1, True, False, bipolar=True))
    assert quantize_input(host, Format.odd(1), f32([-1, -0.0, 2])).tolist() == [0, 1, 1]
    with pytest.raises(DipoleError, match=r"not numbers \(NaN\)"):
        quantize_input(host, Format.odd(1), f32([np.nan]))
