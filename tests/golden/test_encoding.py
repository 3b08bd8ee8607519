"""Codes, planes, odd integers and the affine map from tile results to dot products, by brute force."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from dipole.golden import encoding
from dipole.golden.encoding import EncodingError

BITS = range(1, 9)


@dataclass(frozen=True)
class Fmt:
    bits: int
    alpha: int
    delta: int
    lowest: int = 0
    """Smallest code in use: 1 for narrow and ternary."""


def formats(bits: int) -> dict[str, Fmt]:
    """Every number format of the design at a width."""
    levels = (1 << bits) - 1
    half = 1 << (bits - 1)
    table = {
        "odd": Fmt(bits, 2, -levels),
        "unsigned": Fmt(bits, 1, 0),
        "signed": Fmt(bits, 1, -half),
        "zero_point": Fmt(bits, 1, -min(levels, 1 + levels // 3)),
    }
    if bits >= 2:
        table["narrow"] = Fmt(bits, 1, -half, 1)
    if bits == 2:
        table["ternary"] = Fmt(2, 1, -2, 1)
    return table


def draw(rng: np.random.Generator, fmt: Fmt, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(fmt.lowest, 1 << fmt.bits, shape).astype(np.uint8)


def popcounts(a: np.ndarray, w: np.ndarray, a_bits: int, w_bits: int) -> np.ndarray:
    """S [pixels, channels] straight from its definition, bit by bit."""
    total = np.zeros((len(a), len(w)), np.int64)
    for i, j in itertools.product(range(a_bits), range(w_bits)):
        equal = (a[:, None, :] >> i & 1) == (w[None, :, :] >> j & 1)
        total += equal.sum(axis=-1) << (i + j)
    return total


# --- codes and planes ----------------------------------------------------------------------------


@pytest.mark.parametrize("bits", BITS)
def test_planes_round_trip_and_odd_integers(bits):
    codes = np.arange(1 << bits, dtype=np.uint8)
    planes = encoding.to_planes(codes, bits)
    assert planes.shape == (1 << bits, bits) and planes.dtype == np.uint8
    assert np.array_equal(encoding.from_planes(planes), codes)
    assert encoding.from_planes(planes).dtype == np.uint8
    bipolar = 2 * planes.astype(int) - 1
    assert np.array_equal((bipolar * 2 ** np.arange(bits)).sum(axis=-1), encoding.odd(codes, bits))
    assert set(encoding.odd(codes, bits) % 2) == {1}


@pytest.mark.parametrize("bits", BITS)
def test_hard_ladder_rounds_ties_upward_and_clamps(bits):
    levels = (1 << bits) - 1
    codes = np.arange(levels + 1)
    assert np.array_equal(encoding.hard_ladder(encoding.odd(codes, bits) / levels, bits), codes)
    ties = (2 * codes[:-1] + 1 - levels) / levels  # exactly between code k and k + 1
    assert encoding.hard_ladder(0.0, bits) == (levels + 1) // 2, "x = 0 is a tie at every width and goes up"
    slack = 1e-9
    assert np.array_equal(encoding.hard_ladder(ties + slack, bits), codes[1:])
    assert np.array_equal(encoding.hard_ladder(ties - slack, bits), codes[:-1])
    assert list(encoding.hard_ladder([-7.0, -1.0, 1.0, 7.0], bits)) == [0, 0, levels, levels]


@pytest.mark.parametrize("bits", BITS)
def test_trigonometric_encoder_equals_the_planes(bits):
    levels = (1 << bits) - 1
    codes = np.arange(levels + 1)
    bipolar = encoding.mbit_encoder(encoding.odd(codes, bits) / levels, bits)
    assert np.array_equal(bipolar, 2 * encoding.to_planes(codes, bits).astype(int) - 1)


@pytest.mark.parametrize("bits", BITS)
def test_values_round_trip_and_refuse(bits):
    for fmt in formats(bits).values():
        codes = np.arange(fmt.lowest, 1 << bits)
        numbers = encoding.values(codes, fmt.alpha, fmt.delta)
        assert np.array_equal(encoding.from_values(numbers, bits, fmt.alpha, fmt.delta), codes)
        with pytest.raises(EncodingError, match=rf"integer {numbers[-1] + fmt.alpha} has no {bits}-bit code"):
            encoding.from_values([0 * numbers[0] + numbers[-1] + fmt.alpha], bits, fmt.alpha, fmt.delta)
    with pytest.raises(EncodingError, match="integer 0 has no"):
        encoding.from_values([0], bits, 2, 1 - (1 << bits))


# --- dot products --------------------------------------------------------------------------------


@pytest.mark.parametrize("a_bits", BITS)
@pytest.mark.parametrize("w_bits", BITS)
def test_plane_dot_and_the_odd_dot_product(a_bits, w_bits):
    rng = np.random.default_rng([1, a_bits, w_bits])
    for lanes in (1, 7, 8, 9, 70):
        a = rng.integers(0, 1 << a_bits, (3, lanes))
        w = rng.integers(0, 1 << w_bits, (5, lanes))
        total = encoding.plane_dot(a[:, None], w, a_bits, w_bits)
        assert np.array_equal(total, popcounts(a, w, a_bits, w_bits))
        bound = lanes * ((1 << a_bits) - 1) * ((1 << w_bits) - 1)
        dot = encoding.odd(a, a_bits) @ encoding.odd(w, w_bits).T
        assert np.array_equal(dot, 2 * total - bound), "D = 2S - N*A*B"


@pytest.mark.parametrize("a_bits", BITS)
@pytest.mark.parametrize("w_bits", BITS)
def test_width_bound_is_reached(a_bits, w_bits):
    for lanes in (1, 2, 3, 64, 65):
        top_a = np.full(lanes, (1 << a_bits) - 1)
        top_w = np.full(lanes, (1 << w_bits) - 1)
        total = int(encoding.plane_dot(top_a, top_w, a_bits, w_bits))
        bits = encoding.accumulator_bits(lanes, a_bits, w_bits)
        assert total.bit_length() == bits <= a_bits + w_bits + (lanes - 1).bit_length()
        both = total + int(encoding.plane_sum(top_a, (1 << w_bits) - 1, a_bits, w_bits))
        assert both.bit_length() == encoding.accumulator_bits(lanes, a_bits, w_bits, sum_enable=True)


@pytest.mark.parametrize("a_bits", BITS)
@pytest.mark.parametrize("w_bits", BITS)
def test_dot_product_of_any_format(a_bits, w_bits):
    rng = np.random.default_rng([2, a_bits, w_bits])
    lanes = 13
    for af, wf in itertools.product(formats(a_bits).values(), formats(w_bits).values()):
        a, w = draw(rng, af, (4, lanes)), draw(rng, wf, (3, lanes))
        y = encoding.values(a, af.alpha, af.delta) @ encoding.values(w, wf.alpha, wf.delta).T
        oa, ow = encoding.odd(a, a_bits), encoding.odd(w, w_bits)
        c_a = af.alpha * ((1 << a_bits) - 1) + 2 * af.delta
        c_w = wf.alpha * ((1 << w_bits) - 1) + 2 * wf.delta
        constant = c_a * wf.alpha * ow.sum(axis=1) + lanes * c_a * c_w
        right = af.alpha * wf.alpha * (oa @ ow.T) + af.alpha * c_w * oa.sum(axis=1)[:, None] + constant
        assert np.array_equal(4 * y, right)


# --- the map from y to T -------------------------------------------------------------------------


@pytest.mark.parametrize("a_bits", BITS)
@pytest.mark.parametrize("w_bits", BITS)
def test_accumulator_map_against_popcounts(a_bits, w_bits):
    """Every pair of formats, with and without padding, dummy channels, filler lanes and zero planes."""
    rng = np.random.default_rng([3, a_bits, w_bits])
    real, dummy, filler, channels, pixels = 11, 3, 2, 4, 5
    for (a_name, af), (w_name, wf), padded in itertools.product(
        formats(a_bits).items(), formats(w_bits).items(), (False, True)
    ):
        seen = encoding.array_format(af, padded)
        group = int(rng.choice([1, 2, 4, 8]))
        planes = -(-seen.bits // group) * group
        stored = draw(rng, af, (pixels, real))
        w = draw(rng, wf, (channels, real))
        outside = (rng.random((pixels, real)) < 0.3) & padded
        numbers = np.where(outside, 0, encoding.values(stored, af.alpha, af.delta))
        y = numbers @ encoding.values(w, wf.alpha, wf.delta).T

        a = 2 * stored.astype(int) + 1 if seen.validity else stored.astype(int)
        a = np.where(outside, seen.pad, a)
        constant_a = np.r_[np.full(dummy, seen.pad), np.zeros(filler, int)]
        dummy_w = rng.integers(0, 1 << w_bits, (channels, dummy))
        constant_w = np.c_[dummy_w, np.full((channels, filler), (1 << w_bits) - 1)]
        lanes_a = np.c_[a, np.tile(constant_a, (pixels, 1))]
        lanes_w = np.c_[w, constant_w]

        amap = encoding.accumulator_map(
            seen, wf, w, planes=planes, constant_activations=constant_a, constant_weights=constant_w
        )
        total = popcounts(lanes_a, lanes_w, planes, w_bits)
        assert amap.sum_enable == (w_name != "odd"), "odd weights never need the sum column"
        if amap.sum_enable:
            assert 0 <= amap.sum_code < 1 << w_bits
            column = np.full((1, lanes_a.shape[1]), amap.sum_code)
            total = total + popcounts(lanes_a, column, planes, w_bits)
        case = (a_name, w_name, padded, planes)
        assert np.array_equal(amap.accumulator(y, axis=1), total), case
        assert np.array_equal(amap.value(total, axis=1), y), case
        raw = total & 0xFFFFF
        assert np.array_equal(amap.value_of_raw(raw, 20, y.min(axis=0), axis=1), y), case


def test_accumulator_map_keeps_channel_axis_and_refuses_foreign_values():
    w = np.array([[0, 1, 1], [1, 1, 1]])
    odd = Fmt(1, 2, -1)
    amap = encoding.accumulator_map(odd, odd, w)
    y = np.array([-3, -1, 1, 3]).reshape(1, 1, 2, 2).repeat(2, axis=1)
    assert np.array_equal(amap.value(amap.accumulator(y, axis=1), axis=1), y)
    with pytest.raises(EncodingError, match="parity"):
        amap.accumulator(y + 1, axis=1)
    even = encoding.accumulator_map(Fmt(1, 1, 0), Fmt(1, 1, 0), w)
    with pytest.raises(EncodingError, match="no dot product"):
        even.value(even.accumulator([0, 0]) + 1)


@pytest.mark.parametrize("bits", BITS)
def test_array_format(bits):
    for name, fmt in formats(bits).items():
        inside = np.arange(fmt.lowest, 1 << bits)
        plain = encoding.array_format(fmt, padded=False)
        assert (plain.bits, plain.alpha, plain.delta, plain.validity) == (bits, fmt.alpha, fmt.delta, False)
        padded = encoding.array_format(fmt, padded=True)
        assert padded.validity == (name == "odd")
        assert encoding.values(padded.pad, padded.alpha, padded.delta) == 0
        seen = 2 * inside + 1 if padded.validity else inside
        assert np.array_equal(
            encoding.values(seen, padded.alpha, padded.delta), encoding.values(inside, fmt.alpha, fmt.delta)
        )
        assert padded.stored_pad == padded.pad >> padded.validity == plain.stored_pad
        assert 0 <= padded.stored_pad < 1 << bits
        if name == "odd":
            assert (padded.bits, padded.pad) == (bits + 1, 1 << bits)


def test_formats_that_the_array_cannot_compute_are_refused():
    with pytest.raises(EncodingError, match=r"activation format 1\*u\+3 of 2 bits has no zero"):
        encoding.array_format(Fmt(2, 1, 3), padded=True)
    assert encoding.array_format(Fmt(2, 1, 3), padded=False).stored_pad == 0
    with pytest.raises(EncodingError, match=r"weight format 1\*u-9 of 3 bits needs a sum column beyond"):
        encoding.sum_column_code(Fmt(3, 1, -9))
    with pytest.raises(EncodingError, match="sum column"):
        encoding.sum_column_code(Fmt(3, 1, 1))


@pytest.mark.parametrize("a_bits", (1, 3, 8))
@pytest.mark.parametrize("w_bits", BITS)
def test_dummy_column_stays_in_its_range(a_bits, w_bits):
    rng = np.random.default_rng([4, a_bits, w_bits])
    lanes = 9
    a = np.r_[
        rng.integers(0, 1 << a_bits, (20, lanes)), np.zeros((1, lanes), int), np.full((1, lanes), (1 << a_bits) - 1)
    ]
    for name, fmt in formats(w_bits).items():
        code, low, high = encoding.dummy_column(fmt, lanes, a_bits)
        total = popcounts(a, np.full((1, lanes), code), a_bits, w_bits)
        if (column := encoding.sum_column_code(fmt)) is not None:
            total = total + popcounts(a, np.full((1, lanes), column), a_bits, w_bits)
            assert low == high
        assert (total.min(), total.max()) == (low, high), name
