"""Ladders of layers: proofs against the step functions, messages, packing, speed, and how often they exist."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from ladder_cases import Widths, layer_map, realistic_layer

from dipole.compiler import ladder
from dipole.compiler.importer import import_network
from dipole.compiler.ladder import LadderError
from dipole.compiler.ladder_search import StepFunctions, search
from dipole.compiler.network import Conv, Format
from dipole.golden import encoding, layers
from dipole.golden.ladder import unpack_ladder
from dipole.rtl.presets import PRESETS


@pytest.mark.parametrize("bits", range(1, 9))
def test_find_ladders_of_float32_chains(bits):
    """Exact at every reachable y: all of them up to 2^16, else around every threshold and at random."""
    rng = np.random.default_rng([33, bits])
    config = Widths(32, 24)
    layer = realistic_layer(rng, bits, 12, 8, padded=bits % 2 == 0)
    assert layer.thresholds is not None and layer.sign is not None
    amap = layer_map(layer, planes=2)
    # From 7 bits on, float32 rounding in the chain leaves some channels without a line.
    ladders, solved = search(StepFunctions.of_layer(layer, amap), config)
    assert solved.all() if bits < 7 else solved.any()
    if solved.all():
        found = ladder.find_ladders(layer, amap, config)
        assert all(np.array_equal(getattr(found, f), getattr(ladders, f)) for f in found.__dataclass_fields__)
    reach = layers.reach(layer)
    for channel in np.flatnonzero(solved).tolist():
        low, high, step = int(reach.low[channel]), int(reach.high[channel]), int(reach.step[channel])
        if (high - low) // step < 1 << 16:
            y = np.arange(low, high + 1, step)
        else:
            near = layer.sign[channel] * layer.thresholds[channel][:, None] + np.arange(-3, 4)
            y = np.clip(np.r_[near.ravel(), rng.integers(low, high, 5000)], low, high)
            y = low + (y - low) // step * step
        every = np.zeros((12, len(y)), np.int64) + reach.low[:, None]
        every[channel] = y
        want = layers.apply_thresholds(every[None], layer)[0, channel]
        got = ladders.codes(amap.accumulator(every), bits, 32)[channel]
        assert np.array_equal(got, want), channel
        wrapped = ladders.codes(amap.accumulator(every) & 0xFFFFFFFF, bits, 32)[channel]
        assert np.array_equal(wrapped, want), channel


@pytest.mark.parametrize(
    ("weight", "act", "padded"),
    list(itertools.product(("odd", "signed", "unsigned"), ("odd", "unsigned"), (False, True))),
)
def test_ladders_of_every_format_on_the_accumulators_of_real_inputs(weight, act, padded):
    rng = np.random.default_rng([34, len(weight), len(act), padded])
    weights = rng.integers(0, 8, (6, 5, 3, 3)).astype(np.uint8)
    padding = (1, 1, 1, 1) if padded else (0, 0, 0, 0)
    formats = getattr(Format, weight)(3), getattr(Format, act)(3)
    plain = Conv("formats", weights, *formats, padding=padding)
    reach = layers.reach(plain)
    thresholds = np.linspace(0.3 * reach.low + 0.7 * reach.high, 0.7 * reach.low + 0.3 * reach.high, 7)[::-1].T
    sign = np.array([1, 1, 1, -1, -1, -1], np.int8)
    ordered = np.sort(np.ceil(thresholds * sign[:, None]).astype(np.int64), axis=1)
    layer = Conv("formats", weights, *formats, (1, 1), padding, ordered, sign, Format.unsigned(3))
    codes = rng.integers(0, 8, (4, 5, 6, 6)).astype(np.uint8)
    result = layers.run_layer(codes, layer)
    config = PRESETS["test_tiny"]
    for planes in (1, 4):
        amap = layer_map(layer, planes)
        ladder.check_accumulators(layer, amap, config)
        ladders = ladder.find_ladders(layer, amap, config)
        total = amap.accumulator(result.accumulator, axis=1)
        assert result.codes is not None
        assert np.array_equal(ladders.codes(total, 3, config.acc_width, axis=1), result.codes)


def one_channel(thresholds: list[int], bits: int, lanes: int = 100, sign: int = 1) -> Conv:
    """y is -150..150 with the default lanes: half the weights +1, half -1, 2-bit inputs."""
    weights = (np.arange(lanes) % 2).astype(np.uint8).reshape(1, lanes, 1, 1)
    return Conv(
        "conv3",
        weights,
        Format.odd(1),
        Format.unsigned(2),
        thresholds=np.array([thresholds], np.int64),
        sign=np.array([sign], np.int8),
        output_format=Format.unsigned(bits),
    )


@pytest.mark.parametrize("sign", (1, -1))
@pytest.mark.parametrize(
    ("thresholds", "bits"),
    (
        ([1 << 60] * 3, 2),  # never reached
        ([-(1 << 60)] * 3, 2),  # always reached
        ([-(1 << 60), 1 << 60, 1 << 60], 2),  # one code in the middle
        ([5, 5, 5], 2),  # a jump by all codes
        ([5, 5, 6], 2),
        ([-(1 << 60), 0, 1 << 60], 2),  # lowest code 1
        ([-(1 << 60), -150, 150], 2),
        ([-140, 100, 101], 2),
        ([7], 1),
        ([-140, -100, -60, -20, 20, 60, 100], 3),
        ([1 << 60] * 255, 8),
        ([-(1 << 60)] * 255, 8),
    ),
)
def test_unusual_thresholds(thresholds, bits, sign):
    layer = one_channel(thresholds, bits, sign=sign)
    amap = layer_map(layer)
    config = PRESETS["test_tiny"]
    if thresholds == [-140, 100, 101]:
        # Codes 1 and 2 are 240 apart, 2 and 3 are 1 apart: no line does that.
        message = r"'conv3', channel 0: no exact ladder: its thresholds are not evenly spaced: \d and \d "
        with pytest.raises(LadderError, match=message):
            ladder.find_ladders(layer, amap, config)
        return
    ladders = ladder.find_ladders(layer, amap, config)
    y = np.arange(-150, 151)
    got = ladders.codes(amap.accumulator(y[None]), bits, config.acc_width)
    assert np.array_equal(got, layers.apply_thresholds(y[None, None], layer)[0])


def test_messages_name_layer_channel_and_cure():
    rng = np.random.default_rng(35)
    layer = realistic_layer(rng, 5, 4, 32)
    amap = layer_map(layer)
    message = r"'float32', channel 0 \(and \d more .*no multiplier of 8 bits is exact; raise mul_width to (9|1\d)$"
    with pytest.raises(LadderError, match=message):
        ladder.find_ladders(layer, amap, Widths(28, 8))
    wide = realistic_layer(np.random.default_rng([39, 8, 0]), 8, 4, 64)
    message = r"'float32', channel 0 \(.*: rounding in its function .*; turn corrections on and raise mul_width to \d+$"
    with pytest.raises(LadderError, match=message):
        ladder.find_ladders(wide, layer_map(wide), Widths(32, 14))
    assert len(ladder.find_ladders(wide, layer_map(wide), Widths(32, 22, corrections=True))) == 4
    message = r"'float32', channel 0.*tile results span \d+, too much for acc_width 14; raise acc_width to 1\d$"
    with pytest.raises(LadderError, match=message):
        ladder.find_ladders(layer, amap, Widths(14, 24))
    message = r"'float32', channel \d: its tile results span \d+, too much for acc_width 14; raise"
    with pytest.raises(LadderError, match=message):
        ladder.check_accumulators(layer, amap, Widths(14, 24))
    plain = Conv("last", layer.weights, layer.weight_format, layer.input_format)
    with pytest.raises(LadderError, match="'last' has no thresholds"):
        ladder.find_ladders(plain, amap, Widths(28, 24))
    bad = one_channel([5, 3, 4], 2)
    with pytest.raises(LadderError, match=r"'conv3', channel 0: .*(not in order|no exact ladder)"):
        ladder.find_ladders(bad, layer_map(bad), Widths(24, 16))


def test_accumulator_half_full_needs_one_bit_more():
    """A channel that gives code 1 or more over 2^(acc_width-1) results or more makes d wrap: the message says so."""
    layer = one_channel([-150, -140, -130], 2)
    amap = layer_map(layer)
    assert ladder.find_ladders(layer, amap, Widths(10, 16))
    with pytest.raises(LadderError, match=r"too much for acc_width 9; raise acc_width to 10"):
        ladder.find_ladders(layer, amap, Widths(9, 16))


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "models").glob("*.onnx")), ids=lambda p: p.stem)
def test_networks_have_exact_ladders(path):
    """18-bit multipliers do for every layer of up to 4 bits; 8-bit outputs need the correction bits, or wider ones."""
    for layer in import_network(path).layers:
        if layer.thresholds is None or layer.output_format is None:
            continue
        amap = layer_map(layer)
        if layer.output_format.bits == 8:
            advice = r"(turn corrections on|raise mul_width to 2\d)"
            with pytest.raises(LadderError, match=f"layer '{layer.name}', channel .*{advice}"):
                ladder.find_ladders(layer, amap, Widths(28, 18))
        else:
            ladder.find_ladders(layer, amap, Widths(28, 18))
        ladder.find_ladders(layer, amap, Widths(28, 22, corrections=True))


# --- packing, constants, speed -------------------------------------------------------------------


@pytest.mark.parametrize("corrections", (False, True))
@pytest.mark.parametrize(("acc_width", "mul_width"), ((12, 8), (24, 16), (28, 18), (32, 24)))
def test_pack_ladder(acc_width, mul_width, corrections):
    config = Widths(acc_width, mul_width, corrections)
    rng = np.random.default_rng(36)
    tops = (2, 64, 1 << acc_width, 1 << mul_width, 1 << mul_width)
    ladders = ladder.Ladders(
        *(rng.integers(0, top, 50) for top in tops),
        double=rng.integers(0, 1 + corrections, 50),
        valid=np.ones(50, int),
        late=rng.integers(0, 1 + corrections, (50, 256)).astype(bool),
    )
    words = ladder.pack_ladder(ladders, config)
    count = -(-(7 + acc_width + 2 * mul_width + corrections) // 32)
    assert words.shape == (50, count + 8 * corrections) and words.dtype == np.uint32
    for channel, row in enumerate(words):
        number = sum(int(word) << 32 * i for i, word in enumerate(row[:count]))
        assert number & ((1 << mul_width) - 1) == ladders.fraction[channel]
        assert number >> mul_width & ((1 << mul_width) - 1) == ladders.multiplier[channel]
        stored = -ladders.offset[channel] - ladders.neg[channel]  # T + stored, complemented if neg, is the distance
        assert number >> 2 * mul_width & ((1 << acc_width) - 1) == stored & ((1 << acc_width) - 1)
        assert number >> (2 * mul_width + acc_width) & 63 == ladders.shift[channel]
        assert number >> (2 * mul_width + acc_width + 6) & 1 == ladders.neg[channel]
        assert number >> (2 * mul_width + acc_width + 7) == ladders.double[channel]
        if corrections:
            assert [int(row[count + k // 32]) >> k % 32 & 1 for k in range(256)] == ladders.late[channel].tolist()
    back = unpack_ladder(words, config)
    assert all(np.array_equal(getattr(back, f), getattr(ladders, f)) for f in back.__dataclass_fields__)
    if corrections:
        with pytest.raises(ValueError, match="need correction bits"):
            ladder.pack_ladder(ladders, Widths(acc_width, mul_width))
    ladders.multiplier[3] = 1 << mul_width
    with pytest.raises(ValueError, match="ladder 3: multiplier"):
        ladder.pack_ladder(ladders, config)


def test_ladders_of_several_planes_say_what_their_validity_plane_is():
    config = PRESETS["test_wide"]
    ladders = ladder.Ladders.concatenate([ladder.Ladders.zeros(2), ladder.constant_ladders(5, 3, 0, 9, config)])
    assert ladders.valid.tolist() == [1, 1, 0, 0, 0]
    assert unpack_ladder(ladder.pack_ladder(ladders, config), config).valid.tolist() == [1, 1, 0, 0, 0]


def test_pack_ladder_agrees_with_the_presets():
    for config in PRESETS.values():
        assert ladder.pack_ladder(ladder.Ladders.zeros(2), config).shape == (2, config.ladder_words)


@pytest.mark.parametrize("weight", (Format.odd(3), Format.signed(3), Format.unsigned(1)))
def test_constant_ladders_on_dummy_columns(weight):
    rng = np.random.default_rng(37)
    config = Widths(24, 8)
    code, low, high = encoding.dummy_column(weight, 200, 4)
    a = rng.integers(0, 16, (50, 200))
    total = encoding.plane_dot(a, np.full(200, code), 4, weight.bits)
    if (column := encoding.sum_column_code(weight)) is not None:
        total = total + encoding.plane_sum(a, column, 4, weight.bits)
    for want in (0, 1, 128, 255):
        ladders = ladder.constant_ladders(want, 3, low, high, config)
        assert (ladders.codes(np.tile(total, (3, 1)), 8, 24) == want).all()
    both = ladder.Ladders.concatenate([ladders, ladder.constant_ladders(0, 2, low, high, config)])
    assert not both.valid.any() and len(both) == 5 and both.fraction.tolist() == [255, 255, 255, 0, 0]
    with pytest.raises(LadderError, match=r"cannot give code 3.*raise acc_width to 24"):
        ladder.constant_ladders(3, 1, 0, 1 << 22, Widths(23, 8))
    assert len(ladder.constant_ladders(0, 1, 0, 1 << 22, Widths(23, 8))) == 1


def test_speed_of_512_channels_at_8_bits():
    layer = realistic_layer(np.random.default_rng(38), 8, 512, 16)
    steps = StepFunctions.of_layer(layer, layer_map(layer))
    start = time.perf_counter()
    search(steps, Widths(30, 24))
    elapsed = time.perf_counter() - start
    print(f"512 channels at 8 bits: {elapsed:.2f} s")
    assert elapsed < 20


@pytest.mark.slow
def test_measured_fraction_of_exact_channels():
    """Prints the share of channels of float32 chains with an exact ladder, per output bits and mul_width."""
    widths = (12, 14, 16, 17, 18, 19, 20, 22, 24)
    print("\nexact ladders in % of 4 x 64 channels: 3x3 kernel, 64 inputs, weights and activations of as many bits")
    for corrections in (False, True):
        print("with one correction bit per code" if corrections else "no correction bits")
        print("bits  " + "".join(f"{w:>7}" for w in widths) + "   <- mul_width")
        for bits in range(1, 9):
            share = np.zeros(len(widths))
            for seed in range(4):
                layer = realistic_layer(np.random.default_rng([39, bits, seed]), bits, 64, 64)
                steps = StepFunctions.of_layer(layer, layer_map(layer))
                share += [search(steps, Widths(32, w, corrections))[1].mean() / 4 for w in widths]
            print(f"{bits:>4}  " + "".join(f"{100 * s:7.1f}" for s in share))
            assert (np.diff(share) >= 0).all(), "a wider multiplier never loses a ladder"
            assert share[3] == 1 or bits > 5, "17 bits are enough up to 5-bit outputs"
            assert share[-2] == 1 or not corrections, "with correction bits 22 are enough for all"
