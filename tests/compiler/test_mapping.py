"""Integer networks through the compiler onto the golden machine: equal to the golden layers, layer by layer."""

import dataclasses

import numpy as np
import pytest
from running import conv, network, run_and_compare

from dipole.compiler import mapping, tiling
from dipole.compiler.ladder import LadderError
from dipole.compiler.layout import CompileError
from dipole.compiler.mapping import compile_network
from dipole.compiler.network import Format, Pool
from dipole.compiler.random_networks import Limits, random_network
from dipole.compiler.transfer import layer_report, pack_input, unpack_output
from dipole.golden.errors import DipoleError
from dipole.golden.timing import simulate_cycles
from dipole.rtl.config import Config, ConfigError
from dipole.rtl.presets import PRESETS

TINY = PRESETS["test_tiny"]
SMALL = Config(name="small", rows=3, columns=4, lanes=16, planes=1, mem_depth=65536, row_depth=16, column_depth=16,
               acc_width=30, mul_width=20, ladder_depth=16)  # fmt: skip


def random_config(rng: np.random.Generator) -> Config:
    """Any valid configuration of moderate size with room for most networks."""

    def power(low: int, high: int) -> int:
        return 1 << int(rng.integers(low, high + 1))

    while True:
        lanes = power(3, 8)
        try:
            return Config(
                name="random", rows=int(rng.integers(1, 8)), columns=power(2, 5), lanes=lanes, planes=power(0, 3),
                chunk=min(power(3, 5), lanes), mem_width=max(lanes, power(5, 8)), mem_depth=power(14, 16),
                row_depth=power(4, 9), column_depth=power(4, 9), acc_width=int(rng.integers(26, 33)),
                mul_width=int(rng.integers(16, 25)), ladder_depth=power(5, 8),
            )  # fmt: skip
        except ConfigError:
            continue


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", ["test_tiny", "test_wide", "asic_small"])
def test_random_network(name, seed):
    config = dataclasses.replace(PRESETS[name], acc_width=32, mem_depth=65536)
    run_and_compare(random_network(np.random.default_rng(seed)), config, seed)


def many_configurations(seeds):
    refused = 0
    for seed in seeds:
        config = random_config(np.random.default_rng(seed))
        try:
            run_and_compare(random_network(np.random.default_rng(seed + 1000)), config, seed)
        except DipoleError as error:
            refused += 1
            assert "\n" not in str(error)
        except Exception as error:
            raise AssertionError(f"seed {seed}, {config}") from error
    return refused


def test_random_configurations():
    assert many_configurations(range(24)) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 700, 50))
def test_many_random_configurations(start):
    assert many_configurations(range(start, start + 50)) <= 6


@pytest.mark.parametrize("planes", [1, 2, 4, 8])
@pytest.mark.parametrize("act_bits,weight_bits", [(1, 1), (8, 1), (1, 8), (5, 3), (8, 8)])
def test_split_equals_whole(planes, act_bits, weight_bits):
    """Buffers of 16 words against buffers that hold everything: the same results."""
    rng = np.random.default_rng(act_bits)
    weight, act = Format.signed(weight_bits), Format.unsigned(act_bits)
    layers = [
        conv(rng, 6, 40, weight=weight, act=act, padding=(1, 0, 1, 0), codes=act),
        conv(rng, 5, 6, (3, 2), weight=weight, act=act),
    ]
    net = network(layers, 3, 4)
    small = dataclasses.replace(SMALL, planes=planes, mem_width=64)
    program = run_and_compare(net, small)
    whole = run_and_compare(net, dataclasses.replace(small, row_depth=1024, column_depth=1024))
    assert program.layers[0].split
    assert [layer.split for layer in whole.layers] == [False, False]


@pytest.fixture
def prefer_rolling(monkeypatch):
    """The rolling form wherever it is possible, however small the layer."""
    estimate = tiling._estimate

    def cheaper(*args, rolling=False, **fields):
        return 0 if rolling else estimate(*args, **fields)

    monkeypatch.setattr(tiling, "_estimate", cheaper)


@pytest.mark.parametrize("planes", [1, 2, 4, 8])
@pytest.mark.parametrize("act", [Format.odd(2), Format.unsigned(3), Format.signed(4)], ids=str)
@pytest.mark.parametrize("kernel,stride", [((3, 3), (1, 1)), ((3, 2), (2, 1)), ((5, 1), (1, 2)), ((4, 3), (3, 3))])
@pytest.mark.usefixtures("prefer_rolling")
def test_rolling(planes, act, kernel, stride):
    """Strips that end within the row buffers and such that go round in them; padding, steps, one and several tiles."""
    rng = np.random.default_rng(kernel[0])
    padding = (2, 1, 1, 2)
    layers = [conv(rng, 6, 3, (1, 1), act=act, codes=act),
              conv(rng, 9, 6, kernel, act=act, stride=stride, padding=padding, codes=act),
              conv(rng, 5, 9, (2, 2), act=act)]  # fmt: skip
    net = network(layers, 16, 7)
    config = dataclasses.replace(TINY, rows=3, planes=planes, mem_width=64, mem_depth=32768)
    for depth in (64, 256):
        program = run_and_compare(net, dataclasses.replace(config, row_depth=depth))
        assert [layer.rolling for layer in program.layers] == [False, True, True]


def test_rolling_is_chosen_where_loading_binds():
    """Eight rows and one column tile: most cycles go to patches, two thirds of which rolling does not bring again."""
    rng = np.random.default_rng(0)
    net = network([conv(rng, 16, 16, padding=(1, 1, 1, 1), codes=Format.unsigned(3))], 32, 16)
    config = dataclasses.replace(TINY, rows=8, columns=16, lanes=64, ladders=4, mem_width=64, mem_depth=8192)
    program = run_and_compare(net, config)
    cycles = simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, config).cycles
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "choose_tiling", lambda low, rolling: tiling.choose_tiling(low, rolling=False))
        plain = run_and_compare(net, config)
    assert [program.layers[0].rolling, plain.layers[0].rolling] == [True, False]
    assert cycles < 0.7 * simulate_cycles(np.frombuffer(plain.image, "<u4"), plain.entry, config).cycles


def test_memory_too_small_for_rolling():
    """Its programs are longer, as loops go over whole strips: where memory is too small, the plain form runs."""
    rng = np.random.default_rng(0)
    net = network([conv(rng, 16, 16, padding=(1, 1, 1, 1), codes=Format.unsigned(3))], 28, 16)
    config = dataclasses.replace(TINY, rows=8, columns=16, lanes=64, ladders=4, mem_width=64)
    for depth, rolling in ((2048, True), (1024, False)):
        assert run_and_compare(net, dataclasses.replace(config, mem_depth=depth)).layers[0].rolling == rolling


def test_split_inside_a_pixel():
    """A pixel of 40 words and buffers of 16: pieces of units."""
    rng = np.random.default_rng(3)
    one = Format.unsigned(1)
    net = network([conv(rng, 3, 640, (2, 2), stride=(1, 2), weight=Format.odd(1), act=one)], 3, 5)
    assert run_and_compare(net, SMALL).layers[0].split
    with pytest.raises(CompileError, match=r"a row of 5 pixels of 40 units .*raise pixel_bits"):
        compile_network(net, dataclasses.replace(SMALL, pixel_bits=6))


def test_refuses_long_runs():
    """A run of popcounts that the first accumulator of small buffers cannot hold."""
    layers = [conv(np.random.default_rng(0), 3, 640, (2, 2))]
    refused(layers, 3, 5, SMALL, "layer 'conv': a run of popcounts needs 13 bits, configuration 'small' has 12")


ODD = Format.odd(2)


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3)])
@pytest.mark.parametrize("act", [ODD, Format.unsigned(3), Format(3, 1, -5), Format.signed(3)], ids=str)
def test_zero_padding(act, kernel):
    """Padding is exact whether the host makes patches (first layer) or the loader fills in (second layer)."""
    rng = np.random.default_rng(kernel[1])
    layers = [
        conv(rng, 9, 5, kernel, act=act, padding=(2, 1, 0, 2), codes=act),
        conv(rng, 20, 9, kernel, act=act, padding=(1, 2, 1, 0), stride=(2, 1), codes=act),
        conv(rng, 3, 20, (1, 2), act=act, padding=(0, 0, 0, 1)),
    ]
    program = run_and_compare(network(layers, 4, 6), TINY)
    rows = layer_report(program)
    expected = "validity plane" if act is ODD else "pad code"
    assert [row["zero_padding"] for row in rows] == [expected] * 3


def test_report():
    rng = np.random.default_rng(0)
    layers = [conv(rng, 4, 3, codes=Format.unsigned(3)), conv(rng, 2, 4, (2, 2))]
    rows = layer_report(run_and_compare(network(layers, 4, 5), TINY))
    assert rows[0]["input"] == "3x4x5" and rows[0]["output"] == "4x2x3" and rows[1]["output"] == "2x1x2"
    assert rows[0]["bmacs"] == 2 * 3 * 4 * 3 * 9 * 9 and rows[0]["zero_padding"] == "none"
    assert rows[0]["tiles"] == 2 * 2 * 2 and rows[1]["tiles"] == 1  # 8-bit units: two column tiles


@pytest.mark.parametrize("kernel,stride,padding", [
    ((2, 2), (2, 2), (0, 0, 0, 0)), ((2, 2), (1, 1), (1, 1, 1, 1)), ((3, 3), (2, 1), (0, 1, 2, 1)),
    ((3, 2), (1, 3), (2, 0, 1, 1)), ((1, 3), (1, 1), (0, 2, 0, 2)), ((5, 5), (1, 1), (4, 4, 4, 4)),
])  # fmt: skip
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_pool(kernel, stride, padding, rows):
    """Window cut by the edges on any side, also where single rows of a tile have few positions."""
    rng = np.random.default_rng(rows)
    pool = Pool(kernel, stride, padding)
    layers = [conv(rng, 6, 5, (2, 2), stride=(1, 2), codes=Format.signed(3), pool=pool, padding=(1, 1, 1, 1))]
    run_and_compare(network(layers, 5, 11), dataclasses.replace(TINY, rows=rows))


@pytest.mark.parametrize("row_depth", [16, 32, 64, 128])
def test_pool_with_few_row_slots(row_depth):
    """3 x 3 patches of 6 words, pool windows of 9: from one slot to all 18."""
    rng = np.random.default_rng(0)
    layers = [conv(rng, 9, 4, codes=Format.unsigned(2), pool=Pool((3, 3), (2, 2)))]
    run_and_compare(network(layers, 11, 11), dataclasses.replace(TINY, row_depth=row_depth))


def test_column_tiles_in_groups():
    """More filters than the column buffers hold, and more ladders than the ladder memory."""
    rng = np.random.default_rng(0)
    config = dataclasses.replace(SMALL, row_depth=64, column_depth=64, ladder_depth=16)
    layers = [conv(rng, 70, 16, codes=Format.unsigned(3)), conv(rng, 9, 70, (3, 3))]
    program = run_and_compare(network(layers, 5, 7), config)
    timing = simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, config)
    assert len(timing.markers) > 2
    ends = program.layer_ends(timing.markers)
    assert ends == [timing.markers[program.layers[0].done_index], timing.markers[-1]]


def test_memory_is_reused_when_tight():
    """Two places take turns once the tensors do not fit side by side; results stay equal."""
    rng = np.random.default_rng(0)
    codes = Format.unsigned(3)
    layers = [conv(rng, 16, 16, padding=(1, 1, 1, 1), codes=codes) for _ in range(5)]
    net = network(layers, 16, 16)
    config = dataclasses.replace(TINY, rows=8, columns=16)
    wide = run_and_compare(net, config)
    tight = run_and_compare(net, dataclasses.replace(config, mem_depth=4096))
    assert all(layer.kept for layer in wide.layers)
    assert not all(layer.kept for layer in tight.layers) and tight.layers[-1].kept


def test_loops_keep_programs_small():
    rng = np.random.default_rng(0)
    net = network([conv(rng, 8, 8, padding=(1, 1, 1, 1), codes=Format.unsigned(3))], 40, 40)
    program = run_and_compare(net, dataclasses.replace(TINY, mem_depth=65536))
    assert program.layers[0].tiles == 40 * 20 * 2
    assert len(program.instructions) < 300


# --- what cannot run, refused by name and amount -----------------------------------------------


def refused(layers, height, width, config, match):
    with pytest.raises(DipoleError, match=match) as caught:
        compile_network(network(layers, height, width), config)
    assert "\n" not in str(caught.value)
    return caught.value


def test_refuses_too_large():
    layers = [conv(np.random.default_rng(0), 70, 70, codes=Format.unsigned(8))]
    config = dataclasses.replace(TINY, mem_depth=2048)
    error = refused(layers, 20, 20, config, r"'net' needs \d+ main memory words more than the 2048 .* mem_depth")
    assert isinstance(error, CompileError)


def test_refuses_accumulator():
    eight = Format.signed(8)
    layers = [conv(np.random.default_rng(0), 4, 64, weight=eight, act=Format.unsigned(8))]
    config = dataclasses.replace(TINY, acc_width=20)
    error = refused(layers, 4, 4, config, r"layer 'conv', channel \d+: .*raise acc_width to \d+")
    assert isinstance(error, LadderError)


def test_refuses_padding_without_zero():
    layers = [conv(np.random.default_rng(0), 4, 4, act=Format(3, 1, 2), padding=(1, 1, 1, 1))]
    refused(layers, 4, 4, TINY, r"layer 'conv': activation format 1\*u\+2 of 3 bits has no zero to pad with")


def test_refuses_large_kernel():
    refused([conv(np.random.default_rng(0), 4, 4, (5, 5))], 4, 4, TINY, "layer 'conv': kernel 5x5 is larger than")


def test_refuses_large_pool():
    layers = [conv(np.random.default_rng(0), 4, 4, codes=Format.unsigned(2), pool=Pool((3, 3), (1, 1)))]
    refused(layers, 4, 4, TINY, "layer 'conv': its pool window is larger")
    layers = [conv(np.random.default_rng(0), 4, 4, codes=Format.unsigned(2), pool=Pool((2, 2), (1, 1), (2, 0, 0, 0)))]
    refused(layers, 4, 4, TINY, "layer 'conv': pool padding .* must be smaller than its window")


def test_refuses_wide_images():
    config = dataclasses.replace(TINY, pixel_bits=6)
    refused([conv(np.random.default_rng(0), 4, 1)], 3, 64, config, "layer 'conv': input width is 64, .* reaches 63")


def test_refuses_broken_chains():
    rng = np.random.default_rng(0)
    three, four = Format.unsigned(3), Format.unsigned(4)
    refused([conv(rng, 4, 4), conv(rng, 4, 4, act=three)], 9, 9, TINY, "'conv': it is not the last layer and needs")
    refused([conv(rng, 4, 4, codes=four), conv(rng, 4, 4, act=three)], 9, 9, TINY, "'conv': its input format is")
    refused([conv(rng, 4, 4, codes=three), conv(rng, 4, 5)], 9, 9, TINY, "'conv': it has 5 input channels, it gets 4")
    refused([conv(rng, 4, 4, pool=Pool((2, 2), (2, 2)))], 9, 9, TINY, "'conv': it has a pool and needs a quantizer")
    with pytest.raises(CompileError, match="'net' has no layers"):
        compile_network(dataclasses.replace(network([conv(rng, 4, 4)], 4, 4), layers=[]), TINY)


def test_refuses_wrong_input():
    program = compile_network(network([conv(np.random.default_rng(0), 4, 4)], 4, 4), TINY)
    with pytest.raises(DipoleError, match=r"input has shape \(4, 4, 5\), must be \(4, 4, 4\)"):
        pack_input(program, np.zeros((4, 4, 5), np.uint8))
    with pytest.raises(DipoleError, match=r"input codes are 0\.\.8, must be 0\.\.7"):
        pack_input(program, np.arange(64).reshape(4, 4, 4) % 9)
    with pytest.raises(DipoleError, match="output has 3 words, must be"):
        unpack_output(program, [0, 1, 2])


def test_limits_are_wide_enough():
    """The random networks do reach what the issue asks for."""
    seen = {"pool": 0, "negative": 0, "odd": 0, "kernel5": 0, "stride3": 0, "channels": 0}
    for seed in range(300):
        for layer in random_network(np.random.default_rng(seed), Limits()).layers:
            seen["pool"] += layer.pool is not None
            seen["negative"] += layer.sign is not None and bool((layer.sign < 0).any())
            seen["odd"] += layer.input_format.is_odd
            seen["kernel5"] += max(layer.weights.shape[2:]) == 5
            seen["stride3"] += max(layer.stride) == 3
            seen["channels"] += layer.weights.shape[1] > 64
    assert min(seen.values()) > 10, seen
