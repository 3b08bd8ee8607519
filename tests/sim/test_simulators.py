"""Both simulators against a prediction of the demonstrator: words, cycles, errors, limits."""

import time

import numpy as np
import pytest
from engine_demonstrator import Demonstrator, predict

from dipole.compiler.mapping import compile_network
from dipole.compiler.random_networks import Limits, random_codes, random_network
from dipole.compiler.transfer import pack_input
from dipole.rtl.config import Config
from dipole.rtl.presets import PRESETS
from dipole.sim.engine import open_simulator
from dipole.sim.verilator_env import SimulationError

SMALL = Config(name="small", rows=2, columns=4, lanes=8, mem_depth=256, acc_width=12, ladder_depth=4)
WIDE = Config(
    name="wide", rows=3, columns=8, lanes=64, chunk=32, mem_width=128, mem_depth=512, acc_width=27, ladder_depth=8
)
ENGINES = ["amaranth", "verilator"]


def program(config: Config, seed: int, length: int = 40) -> np.ndarray:
    """Random memory with a random program at word 16 that does not write into itself."""
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 1 << 32, (config.mem_depth, config.mem_width // 32), np.uint32)
    data = config.mem_depth // 2
    words = [0x1000_0000 | int(a) for a in rng.permutation(8) + data]
    for _ in range(length):
        address = int(rng.integers(data, config.mem_depth))
        op = int(rng.choice([1, 2, 2, 2, 3, 4]))
        words.append(op << 28 | int(rng.integers(0, 1 << 12)) << 16 | address)
    words += [0x3000_0000, 0xF000_0000]
    memory[16 : 16 + len(words), 0] = words
    return memory


def network_image(config: Config, seed: int) -> tuple[bytes, int]:
    """Main memory of a random network with its input, and the entry."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, Limits(layers=3, size=6, channels=20, kernel=3, bits=4))
    compiled = compile_network(network, config)
    size = config.mem_width // 8
    image = bytearray(compiled.image.ljust(config.mem_depth * size, b"\0"))
    for address, words in pack_input(compiled, random_codes(rng, network)):
        for offset, word in enumerate(words):
            image[(address + offset) * size : (address + offset + 1) * size] = word.to_bytes(size, "little")
    return bytes(image), compiled.entry


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("config", [SMALL, WIDE], ids=lambda config: config.name)
def test_words_and_cycles(config: Config, engine: str) -> None:
    with open_simulator(config, engine, component=Demonstrator) as simulator:
        for seed in range(3):
            memory = program(config, seed)
            after, error, drained, cycles = predict(config, memory, 16)
            simulator.load(memory.tobytes())
            result = simulator.run(16, trace=True)
            assert (result.error, result.elapsed, result.cycles) == (error, cycles, cycles - 1), f"seed {seed}"
            assert result.drained == drained, f"seed {seed}"
            assert (simulator.memory == after).all(), f"seed {seed}"
            assert simulator.run(16).drained == []


@pytest.mark.parametrize("engine", ENGINES)
def test_errors_abort_and_limit(engine: str) -> None:
    memory = program(SMALL, 1)
    endless = memory.copy()
    endless[:, 0] = 0x3000_0000
    with open_simulator(SMALL, engine, component=Demonstrator) as simulator:
        simulator.load(np.full((256, 1), 0x7000_0000, "<u4").tobytes())
        assert simulator.run(3).error == 1
        simulator.load(endless.tobytes())
        for cycle in (1, 2, 77):
            result = simulator.run(0, abort_at=cycle)
            assert (result.error, result.elapsed) == (2, cycle + 1)
            simulator.reset()
        seen: list[int] = []
        limit = 200_000 if engine == "verilator" else 700
        with pytest.raises(SimulationError, match=rf"still busy after {limit} cycles \(entry 9"):
            simulator.run(9, max_cycles=limit, progress=seen.append)
        assert seen and seen == sorted(seen)
        simulator.load(memory.tobytes())
        assert simulator.run(16, trace=True).drained == predict(SMALL, memory, 16)[2]


@pytest.mark.parametrize("engine", ENGINES)
def test_read_and_write(engine: str) -> None:
    with open_simulator(WIDE, engine, component=Demonstrator) as simulator:
        simulator.load(b"\1" * 20)
        assert simulator.read(0, 2).tolist() == [0x01010101] * 5 + [0] * 3
        simulator.write(511, [1, 2, 3])
        assert simulator.read(511, 1).tolist() == [1, 2, 3, 0]
        with pytest.raises(SimulationError, match=r"words 511\.\.512 are outside main memory of 512 words .*'wide'"):
            simulator.write(511, bytes(17))
        with pytest.raises(SimulationError, match="outside main memory"):
            simulator.read(-1, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_waves(engine: str, tmp_path) -> None:
    memory = program(SMALL, 5, length=3)
    path = tmp_path / "run.vcd"
    with open_simulator(SMALL, engine, component=Demonstrator, waves=path) as simulator:
        simulator.load(memory.tobytes())
        simulator.run(16)
    text = path.read_text()
    assert "$enddefinitions" in text and "drain_valid" in text and text.count("#") > 100


def test_assertions_are_checked() -> None:
    memory = program(SMALL, 1)
    memory[20, 0] = 0x5000_0000
    with open_simulator(SMALL, "amaranth", component=Demonstrator) as simulator:
        simulator.load(memory.tobytes())
        with pytest.raises(AssertionError, match="instruction 5"):
            simulator.run(16)
    with open_simulator(SMALL, "verilator", component=Demonstrator) as simulator:
        simulator.load(memory.tobytes())
        with pytest.raises(SimulationError, match=r"an assertion of the RTL fails in cycle \d+: dut\.v:\d+"):
            simulator.run(16)
        memory = program(SMALL, 1)
        simulator.load(memory.tobytes())
        assert simulator.run(16, trace=True).drained == predict(SMALL, memory, 16)[2]


def test_undefined_state_does_not_matter() -> None:
    """The engine from different states before reset, and different junk on rdata: the same in every cycle."""
    config = PRESETS["test_tiny"]
    runs = []
    for seed in (1, 2, 3):
        with open_simulator(config, seed=seed) as simulator:
            image, entry = network_image(config, 77)
            simulator.load(image)
            result = simulator.run(entry, trace=True)
            runs.append((result.drained, result.cycles, simulator.memory.tobytes()))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.slow
def test_speed() -> None:
    """Whole networks need more than 100,000 cycles per second."""
    config = PRESETS["test_tiny"]
    cycles, seconds = 0, 0.0
    with open_simulator(config) as simulator:
        for seed in range(30):
            image, entry = network_image(config, seed)
            simulator.load(image)
            begin = time.process_time()
            cycles += simulator.run(entry, trace=True).elapsed
            seconds += time.process_time() - begin
    print(f"{cycles / seconds:.0f} cycles/s")
    assert cycles / seconds > 100_000


def test_unknown_engine() -> None:
    with pytest.raises(SimulationError, match="unknown simulation engine 'icarus'"):
        open_simulator(SMALL, "icarus", component=Demonstrator)
