"""Exact integer layers against a float64 convolution that visits every output pixel and tap on its own."""

from typing import Any

import numpy as np
import pytest

from dipole.compiler.network import Conv, Format, InputQuantizer, Network, Pool
from dipole.golden import encoding, layers
from dipole.golden.layers import LayerError

FORMATS = {
    "odd": Format.odd,
    "unsigned": Format.unsigned,
    "signed": Format.signed,
    "zero_point": lambda bits: Format(bits, 1, -min((1 << bits) - 1, 1 + ((1 << bits) - 1) // 3)),
}


def integers(rng: np.random.Generator, low: int, high: int, count: int) -> Any:
    """A tuple of `count` Python integers in low..high-1."""
    return tuple(int(v) for v in rng.integers(low, high, count))


def direct(codes: np.ndarray, layer: Conv) -> np.ndarray:
    """y by looping over output pixels and taps in float64; a tap outside the image is skipped."""
    a = layer.input_format.alpha * codes.astype(np.float64) + layer.input_format.delta
    w = layer.weight_format.alpha * layer.weights.astype(np.float64) + layer.weight_format.delta
    out, _, kh, kw = layer.weights.shape
    batch, _, height, width = codes.shape
    top, left, bottom, right = layer.padding
    rows = len(range(0, height + top + bottom - kh + 1, layer.stride[0]))
    columns = len(range(0, width + left + right - kw + 1, layer.stride[1]))
    y = np.zeros((batch, out, rows, columns))
    for oy, ox, ky, kx in np.ndindex(rows, columns, kh, kw):
        iy, ix = oy * layer.stride[0] + ky - top, ox * layer.stride[1] + kx - left
        if 0 <= iy < height and 0 <= ix < width:
            y[:, :, oy, ox] += a[:, :, iy, ix] @ w[:, :, ky, kx].T
    return y


def random_layer(rng: np.random.Generator, edge: str = "") -> tuple[Conv, np.ndarray]:
    """A layer with thresholds among its own accumulators, and two images of codes."""
    a_bits, w_bits, o_bits = rng.integers(1, 9, 3)
    channels, out = int(rng.integers(1, 71)), int(rng.integers(1, 71))
    kh, kw = integers(rng, 1, 6, 2)
    if edge == "dense":
        height, width, padding = kh, kw, (0, 0, 0, 0)
    else:
        height, width = integers(rng, 5, 10, 2)
        padding = integers(rng, 0, 3, 4)
    names = list(FORMATS)
    lowest = int(edge == "narrow" and w_bits > 1)
    weight_format = FORMATS["signed" if edge == "narrow" else names[rng.integers(4)]](int(w_bits))
    weights = rng.integers(lowest, 1 << w_bits, (out, channels, kh, kw)).astype(np.uint8)
    input_format = FORMATS[names[rng.integers(4)]](int(a_bits))
    codes = rng.integers(0, 1 << a_bits, (2, channels, height, width)).astype(np.uint8)
    stride = integers(rng, 1, 4, 2)
    layer = Conv("plain", weights, weight_format, input_format, stride, padding)
    y = direct(codes, layer)
    sign = rng.choice(np.array([-1, 1], np.int8), out)
    spread = sign[:, None] * rng.choice(y.transpose(1, 0, 2, 3).reshape(out, -1), (1 << o_bits) - 1, axis=1)
    thresholds = np.sort(spread.astype(np.int64) + rng.integers(-1, 2, spread.shape), axis=1)
    layer = Conv(
        "random", weights, weight_format, input_format, stride, padding, thresholds, sign, Format.unsigned(int(o_bits))
    )
    return layer, codes


def check(layer: Conv, codes: np.ndarray) -> None:
    y = direct(codes, layer)
    got = layers.run_layer(codes, layer)
    assert got.accumulator.dtype == np.int64 and np.array_equal(got.accumulator, y)
    assert layer.thresholds is not None and layer.sign is not None and got.codes is not None
    signed = layer.sign[:, None, None] * y
    expected = (signed[:, :, None] >= layer.thresholds[:, :, None, None]).sum(axis=2)
    assert got.codes.dtype == np.uint8 and np.array_equal(got.codes, expected)
    assert got.pooled is got.codes and got.output is got.codes
    reach = layers.reach(layer)
    low, high, step = (v[:, None, None] for v in (reach.low, reach.high, reach.step))
    assert (y >= low).all() and (y <= high).all()
    assert not ((y - low) % step).any() and not ((high - low) % step).any()


@pytest.mark.parametrize("seed", range(48))
def test_random_layers(seed):
    check(*random_layer(np.random.default_rng([10, seed]), ("", "", "dense", "narrow")[seed % 4]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(400))
def test_many_random_layers(seed):
    check(*random_layer(np.random.default_rng([11, seed]), ("", "", "dense", "narrow")[seed % 4]))


@pytest.mark.parametrize("name", FORMATS)
def test_zero_padding_adds_nothing_in_any_format(name):
    rng = np.random.default_rng(5)
    form = FORMATS[name](3)
    weights = rng.integers(0, 8, (4, 6, 3, 3)).astype(np.uint8)
    layer = Conv("pad", weights, Format.signed(3), form, padding=(1, 2, 2, 0))
    codes = rng.integers(0, 8, (1, 6, 1, 1)).astype(np.uint8)
    a, w = encoding.values(codes, form.alpha, form.delta), encoding.values(weights, 1, -4)
    y = layers.conv_accumulate(codes, layer)
    assert y.shape == (1, 4, 2, 1)
    for row in range(2):
        assert np.array_equal(y[0, :, row, 0], w[:, :, 1 - row, 2] @ a[0, :, 0, 0])


@pytest.mark.parametrize("extra", (0, 1))
def test_float32_is_left_at_its_bound(extra):
    """255*255*258 < 2^24 < 255*255*259: one channel more needs float64; a sum of odd size shows the difference."""
    channels = 258 + extra
    weights = np.full((1, channels, 1, 1), 255, np.uint8)
    layer = Conv("bound", weights, Format.unsigned(8), Format.unsigned(8))
    codes = np.full((1, channels, 1, 1), 255, np.uint8)
    assert layers.conv_accumulate(codes, layer).item() == 255 * 255 * channels
    many = Conv("bound", weights.repeat(8, axis=1), Format.unsigned(8), Format.unsigned(8))
    codes = codes.repeat(8, axis=1)
    codes[0, 0] = 254
    assert layers.conv_accumulate(codes, many).item() == 255 * (255 * channels * 8 - 1)


def test_batches_beyond_one_block(monkeypatch):
    layer, codes = random_layer(np.random.default_rng(12))
    codes = codes.repeat(5, axis=0)
    whole = layers.conv_accumulate(codes, layer)
    monkeypatch.setattr(layers, "_BATCH_BYTES", 1)
    assert np.array_equal(layers.conv_accumulate(codes, layer), whole)


@pytest.mark.parametrize("seed", range(12))
def test_max_pool(seed):
    rng = np.random.default_rng([13, seed])
    kernel = integers(rng, 1, 4, 2)
    padding: Any = tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
    pool = Pool(kernel, integers(rng, 1, 4, 2), padding)
    codes = rng.integers(0, 256, (2, 3, 7, 6)).astype(np.uint8)
    got = layers.max_pool(codes, pool)
    top, left, bottom, right = padding
    rows = (7 + top + bottom - kernel[0]) // pool.stride[0] + 1
    columns = (6 + left + right - kernel[1]) // pool.stride[1] + 1
    assert got.shape == (2, 3, rows, columns)
    for oy, ox in np.ndindex(rows, columns):
        y0, x0 = oy * pool.stride[0] - top, ox * pool.stride[1] - left
        window = codes[:, :, max(y0, 0) : y0 + kernel[0], max(x0, 0) : x0 + kernel[1]]
        assert np.array_equal(got[:, :, oy, ox], window.max(axis=(2, 3)))


def test_network_runs_layer_by_layer_to_real_outputs():
    rng = np.random.default_rng(14)
    first = Conv(
        "first",
        rng.integers(0, 4, (5, 2, 3, 3)).astype(np.uint8),
        Format.signed(2),
        Format.odd(2),
        padding=(1, 1, 1, 1),
        thresholds=np.sort(rng.integers(-20, 20, (5, 3)), axis=1),
        sign=np.array([1, -1, 1, 1, -1], np.int8),
        output_format=Format.unsigned(2),
        pool=Pool((2, 2), (2, 2)),
    )
    scale = np.array([0.1, 0.2, 0.3], np.float32)
    last = Conv(
        "last",
        rng.integers(0, 4, (3, 5, 3, 2)).astype(np.uint8),
        Format.odd(2),
        Format.unsigned(2),
        output_scale=scale,
        output_bias=np.array([0.5], np.float32),
    )
    quantizer = InputQuantizer(1.0, 0.0, 0, 3)
    network = Network("chain", (2, 6, 4), Format.odd(2), quantizer, [first, last])
    codes = rng.integers(0, 4, (3, 2, 6, 4)).astype(np.uint8)
    results = layers.run_network(network, codes)
    assert [r.accumulator.shape for r in results] == [(3, 5, 6, 4), (3, 3, 1, 1)]
    assert results[0].codes is not None and results[0].pooled is not None and first.pool is not None
    assert np.array_equal(results[0].accumulator, direct(codes, first))
    assert np.array_equal(results[0].pooled, layers.max_pool(results[0].codes, first.pool))
    assert results[1].codes is None and np.array_equal(results[1].output, direct(results[0].pooled, last))
    real = layers.real_output(last, results[1].output)
    assert real.dtype == np.float32 and real.shape == (3, 3, 1, 1)
    assert np.array_equal(
        real[:, 1, 0, 0], results[1].output[:, 1, 0, 0].astype(np.float32) * scale[1] + np.float32(0.5)
    )


def test_reach_is_tight_without_padding():
    weights = np.array([[0, 3], [1, 1], [2, 2]], np.uint8).reshape(3, 2, 1, 1)
    layer = Conv("tight", weights, Format.signed(2), Format.odd(2))  # values -2 1, -1 -1, 0 0; inputs -3 -1 1 3
    reach = layers.reach(layer)
    assert reach.low.tolist() == [-9, -6, 0] and reach.high.tolist() == [9, 6, 0]
    assert reach.step.tolist() == [2, 2, 1]


def test_errors_name_the_layer():
    layer = Conv("conv1", np.zeros((1, 2, 3, 3), np.uint8), Format.unsigned(1), Format.unsigned(2))
    with pytest.raises(LayerError, match=r"'conv1': input has shape \(1, 3, 4, 4\), must be \[batch, 2,"):
        layers.conv_accumulate(np.zeros((1, 3, 4, 4), np.uint8), layer)
    with pytest.raises(LayerError, match="'conv1': input codes are int64"):
        layers.conv_accumulate(np.zeros((1, 2, 4, 4), np.int64), layer)
    with pytest.raises(LayerError, match="'conv1': input code 4 does not fit 2 bits"):
        layers.conv_accumulate(np.full((1, 2, 4, 4), 4, np.uint8), layer)
    with pytest.raises(LayerError, match="'conv1': kernel 3x3 is larger than its padded input 2x4"):
        layers.conv_accumulate(np.zeros((1, 2, 2, 4), np.uint8), layer)
    with pytest.raises(LayerError, match="'conv1' has no thresholds"):
        layers.apply_thresholds(np.zeros((1, 1, 1, 1), np.int64), layer)
    with pytest.raises(LayerError, match="pool window 5x5"):
        layers.max_pool(np.zeros((1, 1, 4, 4), np.uint8), Pool((5, 5), (1, 1)))
    network = Network("net", (2, 4, 4), Format.unsigned(2), InputQuantizer(1.0, 0.0, 0, 3), [layer])
    with pytest.raises(LayerError, match=r"'net': input has shape .* must be \[batch, 2, 4, 4\]"):
        layers.run_network(network, np.zeros((1, 2, 5, 4), np.uint8))
