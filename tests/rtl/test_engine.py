"""The engine against the golden machine (values) and the cycle model (cycles), on random programs."""

import dataclasses

import numpy as np
import pytest
from random_program import random_program

from dipole.golden.machine import Machine
from dipole.golden.timing import simulate_cycles
from dipole.rtl.config import PRESETS, Config
from dipole.sim.engine import open_simulator

TINY = PRESETS["test_tiny"]


def check(config: Config, simulator, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, entry = random_program(config, rng)
    machine = Machine(config)
    machine.load(image)
    assert machine.run(entry) == 0
    timing = simulate_cycles(np.frombuffer(image, np.uint32), entry, config)

    simulator.load(image)
    result = simulator.run(entry, trace=True)
    assert result.error == 0
    expected = np.concatenate([np.asarray(tile) for tile in machine.drained])
    np.testing.assert_array_equal(result.drained_words, expected, err_msg=f"drained words, seed {seed}")
    np.testing.assert_array_equal(result.drained_cycles, timing.drains, err_msg=f"drain cycles, seed {seed}")
    assert result.cycles == timing.cycles, f"seed {seed}"
    assert bytes(simulator.memory) == bytes(machine.memory), f"main memory, seed {seed}"


def check_programs(config: Config, seeds: range) -> None:
    with open_simulator(config, engine="verilator") as simulator:
        for seed in seeds:
            check(config, simulator, seed)


@pytest.mark.parametrize("name", ["test_tiny", "test_wide"])
def test_random_programs(name: str) -> None:
    check_programs(PRESETS[name], range(12))


def test_amaranth_simulator_agrees() -> None:
    with open_simulator(TINY, engine="amaranth") as simulator:
        check(TINY, simulator, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PRESETS))
def test_many_random_programs(name: str) -> None:
    check_programs(PRESETS[name], range(2000, 2100))


@pytest.mark.slow
@pytest.mark.parametrize("planes", [1, 2, 4, 8])
@pytest.mark.parametrize("hop", [1, 3])
def test_every_structure(planes: int, hop: int) -> None:
    """Planes per cycle and forwarding distance, with rows that are no power of two and jobs shorter than the skew."""
    config = dataclasses.replace(TINY, name=f"w{planes}h{hop}", rows=5, columns=8, planes=planes, hop=hop, acc_width=32)
    check_programs(config, range(3000, 3030))
