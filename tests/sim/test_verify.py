"""The whole way: shared networks and random ones, equal at every stage up to the RTL; and how differences are named."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dipole.compiler import tiling
from dipole.compiler.mapping import compile_network
from dipole.compiler.program import Program
from dipole.compiler.random_networks import Limits, random_codes, random_network
from dipole.compiler.transfer import pack_input, unpack_layer
from dipole.golden.errors import DipoleError
from dipole.golden.layers import run_network
from dipole.golden.machine import Machine
from dipole.golden.timing import simulate_cycles
from dipole.rtl.presets import PRESETS
from dipole.sim import verify as verification
from dipole.sim.compare import compare_tensors
from dipole.sim.engine import Simulator, open_simulator
from dipole.sim.images import load_images
from dipole.sim.verify import verify

MODELS = Path(__file__).parents[2] / "models"
NETWORKS = ["digits_w2a2", "digits_w4a4", "digits_w8a8", "ladder_m2k2_untrained"]


def _verify(name: str, config: str, images: int, **options):
    path = MODELS / f"{name}.onnx"
    found = load_images(verification.import_network(path), images)
    return verify(path, PRESETS[config], found.images, **options)


@pytest.mark.parametrize("config,images", [("test_tiny", 2), ("test_wide", 20)])
@pytest.mark.parametrize("name", NETWORKS)
def test_shared_networks(name: str, config: str, images: int) -> None:
    report = _verify(name, config, images)
    assert report.equal, [str(difference) for difference in report.differences]
    assert len(report.compared) == 3 and all(report.compared.values())


def test_binary_network_without_sum_column() -> None:
    report = _verify("digits_cnn_w1a1_odd", "up5k_w1", 4)
    assert report.equal, [str(difference) for difference in report.differences]
    assert len(report.compared) == 3 and all(report.compared.values())


@pytest.mark.slow
@pytest.mark.parametrize("config", ["test_tiny", "asic_small", "icebreaker", "ulx3s_85f"])
@pytest.mark.parametrize("name", NETWORKS)
def test_shared_networks_on_more_configurations(name: str, config: str) -> None:
    if name == "digits_w8a8" and not PRESETS[config].corrections:
        with pytest.raises(DipoleError, match="no exact ladder"):
            _verify(name, config, 20)
        return
    assert _verify(name, config, 20).equal


def _random_layers(config_name: str, seeds: range, limits: Limits) -> list[Program]:
    """The programs of random networks, which gave the same results at every stage."""
    config = PRESETS[config_name]
    programs: list[Program] = []
    with open_simulator(config, engine="verilator") as simulator:
        for seed in seeds:
            rng = np.random.default_rng(seed)
            network = random_network(rng, limits)
            try:
                program = compile_network(network, config)
            except DipoleError:
                continue  # a network that this configuration refuses; counted below
            codes = random_codes(rng, network)
            golden = run_network(network, codes[None])
            machine = Machine(config)
            machine.load(program.image)
            simulator.load(program.image)
            for address, words in pack_input(program, codes):
                machine.write(address, words)
                simulator.write(address, b"".join(word.to_bytes(config.mem_width // 8, "little") for word in words))
            memories: list[np.ndarray] = []
            machine.on_done = lambda _, m, memories=memories: memories.append(m.memory.copy())
            assert machine.run(program.entry) == 0
            for k, memory in enumerate(program.layer_ends(memories)):
                ours, theirs = golden[k].output[0], unpack_layer(program, k, memory)
                np.testing.assert_array_equal(theirs, ours.reshape(theirs.shape), f"layer {k}, seed {seed}")
            timing = simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, config)
            result = simulator.run(program.entry, trace=True)
            drained = np.concatenate([np.asarray(tile) for tile in machine.drained])
            np.testing.assert_array_equal(result.drained_words, drained, f"seed {seed}")
            np.testing.assert_array_equal(result.drained_cycles, timing.drains, f"seed {seed}")
            assert (result.error, result.cycles) == (0, timing.cycles), f"seed {seed}"
            assert bytes(simulator.memory) == bytes(machine.memory), f"seed {seed}"
            programs.append(program)
    assert 2 * len(programs) >= len(seeds), f"only {len(programs)} of {len(seeds)} networks were accepted"
    return programs


@pytest.mark.parametrize("config", ["test_tiny", "test_wide"])
def test_random_layers(config: str) -> None:
    _random_layers(config, range(16), Limits(layers=2, size=6, channels=40))


@pytest.mark.parametrize("config", ["test_tiny", "test_wide"])
def test_random_layers_rolling(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernel rows loaded once each, wherever that is possible."""
    estimate = tiling._estimate
    monkeypatch.setattr(
        tiling, "_estimate", lambda *args, rolling=False, **fields: 0 if rolling else estimate(*args, **fields)
    )
    programs = _random_layers(config, range(100, 150), Limits(layers=3, size=12, channels=20))
    assert sum(layer.rolling for program in programs for layer in program.layers) >= 10


@pytest.mark.parametrize(
    "seed",
    [
        1014,  # a layer with two loads of ladders, so with two DONEs
        1060,  # the last word of a patch waits for the store engine while the next load starts
        3337,  # a ladder's leftover asks for a correction bit while new ones are loaded
    ],
)
def test_random_layers_that_once_differed(seed: int) -> None:
    _random_layers("test_tiny", range(seed, seed + 1), Limits())


@pytest.mark.slow
@pytest.mark.parametrize("config", ["test_tiny", "test_wide", "icebreaker", "ulx3s_85f"])
def test_many_random_layers(config: str) -> None:
    _random_layers(config, range(1000, 1100), Limits())


def test_a_difference_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong word in the drain, a wrong cycle and a wrong tensor are each named with layer, channel, pixel and both
    values."""
    run = Simulator.run

    def tampered(self, *args, **keywords):
        result = run_original(self, *args, **keywords)
        words = result.drained_words.copy()
        words[40, 2] ^= 1
        return dataclasses.replace(result, drained_words=words)

    from dipole.sim.verilator_sim import VerilatorSimulator

    run_original = VerilatorSimulator.run
    monkeypatch.setattr(VerilatorSimulator, "run", tampered)
    report = _verify("digits_w2a2", "test_tiny", 1)
    assert not report.equal and run is Simulator.run
    text = str(report.differences[0])
    # Row 40 of the trace: two rows a tile, four column tiles: tile 20 is pixel tile 5, column tile 0.
    assert "golden machine and RTL differ first in layer 'node_Conv_76', drained word, channel 2, pixel (1, 2)" in text


def test_tensors_are_compared_in_order() -> None:
    a = np.zeros((2, 3, 4), np.int64)
    b = a.copy()
    b[1, 2, 3], b[1, 0, 2] = 5, -7
    difference = compare_tensors(3, ("golden layers", "RTL"), "conv", "code", a, b)
    assert str(difference) == (
        "image 3: golden layers and RTL differ first in layer 'conv', code, channel 1, pixel (0, 2): 0 against -7"
    )
    assert compare_tensors(0, ("a", "b"), "conv", "code", a, a.copy()) is None
