"""The engine against the golden machine (values) and the cycle model (cycles), on random programs."""

import dataclasses

import numpy as np
import pytest
from random_program import random_program

from dipole.compiler.mapping import compile_network
from dipole.compiler.random_networks import random_network
from dipole.golden.isa import Engine, ExecReg, Instruction, LoadReg, Op, StoreReg, encode
from dipole.golden.machine import Machine
from dipole.golden.timing import simulate_cycles
from dipole.rtl.config import Config
from dipole.rtl.presets import PRESETS
from dipole.sim.engine import open_simulator

TINY = PRESETS["test_tiny"]


@pytest.fixture(scope="module")
def simulator():
    with open_simulator(TINY, engine="verilator") as simulator:
        yield simulator


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


# One row, no sum column, several planes per cycle, no room in the queues.
ONE_ROW = dataclasses.replace(TINY, name="one_row", rows=1, columns=8, planes=4, sum_column=False, queue_depth=1)


# Column tiles wider than a chunk, and than the pixels of few channels.
WIDE_TILE = dataclasses.replace(TINY, name="wide_tile", columns=32, ladder_depth=64)
WIDE_TILES = dataclasses.replace(
    TINY, name="wide_tiles", columns=16, planes=2, ladders=4, mem_width=64, mem_depth=8192, memory_lag=2, mem_ports=2
)


# Registers on the long ways, with skew and with several planes per cycle.
STAGES = dataclasses.replace(TINY, name="stages", rows=3, hop=2, stages=1, memory_lag=1)
DEEP = dataclasses.replace(PRESETS["test_wide"], name="deep", stages=2, memory_lag=3)


# The array at twice the clock: alone, with skew by rows and columns, with pairs of lanes, with long ways.
PUMP = dataclasses.replace(TINY, name="pump", pump=2, rows=3, hop=1, mem_ports=2)
PUMP_PAIRS = dataclasses.replace(ONE_ROW, name="pump_pairs", pump=2, hop=3)
PUMP_DEEP = dataclasses.replace(DEEP, name="pump_deep", pump=2, rows=5)
# Lines of ladders read in halves, pooled codes in registers.
FEW_RAMS = dataclasses.replace(PUMP, name="few_rams", few_rams=True, mul_width=16, acc_width=24)
FEW_RAMS_PAIRS = dataclasses.replace(
    PUMP_PAIRS, name="few_rams_pairs", rows=3, ladders=2, few_rams=True, mul_width=16, acc_width=23
)
# All that goes from PE to PE a cycle each, columns in an order of their own.
SYSTOLIC = dataclasses.replace(PUMP, name="systolic", columns=8, stages=1, memory_lag=2, ladders=4)
SYSTOLIC_PLANES = dataclasses.replace(SYSTOLIC, name="systolic_planes", planes=8, stages=2, memory_lag=3, mem_width=64)


@pytest.mark.parametrize(
    "config",
    [TINY, PRESETS["test_wide"], ONE_ROW, WIDE_TILE, WIDE_TILES, STAGES, DEEP, PUMP, PUMP_PAIRS, PUMP_DEEP, FEW_RAMS,
     FEW_RAMS_PAIRS, SYSTOLIC, PRESETS["up5k"]],
    ids=lambda config: config.name,
)  # fmt: skip
def test_random_programs(config: Config) -> None:
    check_programs(config, range(12))


@pytest.mark.parametrize("config", [WIDE_TILE, WIDE_TILES], ids=lambda config: config.name)
def test_networks_on_wide_tiles(config: Config) -> None:
    """Tensors of fewer channels than a tile has columns, as the compiler lays them out."""
    with open_simulator(config, engine="verilator") as simulator:
        for seed in range(8):
            rng = np.random.default_rng(seed)
            program = compile_network(random_network(rng), config)
            machine = Machine(config)
            machine.memory[:] = rng.integers(256, size=len(machine.memory), dtype=np.uint8)
            machine.load(program.image)
            simulator.load(bytes(machine.memory))
            assert machine.run(program.entry) == 0
            assert simulator.run(program.entry).error == 0
            assert bytes(simulator.memory) == bytes(machine.memory), f"seed {seed}"


@pytest.mark.parametrize("config", [TINY, PUMP], ids=lambda config: config.name)
def test_amaranth_simulator_agrees(config: Config) -> None:
    with open_simulator(config, engine="amaranth") as simulator:
        check(config, simulator, 1000)


BEYOND = TINY.mem_depth * TINY.chunks_per_word
LOAD = dict.fromkeys(LoadReg, 0) | dict.fromkeys(
    (LoadReg.UNITS, LoadReg.KW, LoadReg.KH, LoadReg.H, LoadReg.W, LoadReg.PLANES), 1
)
STORE = {**dict.fromkeys(StoreReg, 0), StoreReg.RAW: 1, StoreReg.DST: TINY.mem_depth * TINY.granules_per_word}


def sets(engine: Engine, registers: dict) -> list[Instruction]:
    return [Instruction(op=Op.SET, engine=engine, reg=reg, value=value) for reg, value in registers.items()]


@pytest.mark.parametrize(
    "program,error",
    [
        ([0], 1),
        ([13 << 28], 1),
        ([Op.SET << 28 | 3 << 26], 1),
        ([*sets(Engine.LOAD, LOAD | {LoadReg.ACT: BEYOND}), Instruction(op=Op.LOADA)], 2),
        ([*sets(Engine.LOAD, LOAD | {LoadReg.ACT: BEYOND - 1}), Instruction(op=Op.LOADA)], 0),
        ([*sets(Engine.LOAD, {LoadReg.WGT: BEYOND, LoadReg.WWORDS: 1}), Instruction(op=Op.LOADW)], 2),
        ([*sets(Engine.LOAD, {LoadReg.WGT: BEYOND}), Instruction(op=Op.LOADP)], 2),
        (
            [
                *sets(
                    Engine.EXEC, dict.fromkeys(ExecReg, 0) | {ExecReg.WORDS: 1, ExecReg.GROUPS: 1, ExecReg.PLANES: 1}
                ),
                *sets(Engine.STORE, STORE),
                Instruction(op=Op.EXEC, first=True, drain=True),
                Instruction(op=Op.STORE),
            ],
            2,
        ),
        ([Instruction(op=Op.AWAIT)], 3),
    ],
    ids=["opcode", "gap", "engine", "patch", "last", "weights", "ladders", "store", "watchdog"],
)
def test_errors_are_states(program: list, error: int, simulator) -> None:
    """The engine stops with its status, is idle, and the next run is right."""
    words = [encode(i) if isinstance(i, Instruction) else i for i in [*program, Instruction(op=Op.HALT)]]
    simulator.load(np.array(words, "<u4").tobytes())
    assert simulator.run(0, max_cycles=1 << 22).error == error
    check(TINY, simulator, 7)


def test_program_beyond_memory(simulator) -> None:
    simulator.load(bytes(4))
    assert simulator.run(TINY.mem_depth * TINY.mem_width // 32).error == 2
    check(TINY, simulator, 7)


@pytest.mark.parametrize("config", [TINY, DEEP, PUMP_DEEP, SYSTOLIC], ids=lambda config: config.name)
def test_abort_in_mid_run(config: Config) -> None:
    image, entry = random_program(config, np.random.default_rng(5))
    with open_simulator(config, engine="verilator") as simulator:
        for at in (1, 50, *range(400, 420), 1001):
            simulator.load(image)
            result = simulator.run(entry, abort_at=at)
            assert result.error == 0 and result.elapsed <= at + 3 + (config.stages > 0)
            check(config, simulator, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PRESETS))
def test_many_random_programs(name: str) -> None:
    check_programs(PRESETS[name], range(2000, 2100))


@pytest.mark.slow
@pytest.mark.parametrize("planes", [1, 2, 4, 8])
@pytest.mark.parametrize("hop", [1, 3])
@pytest.mark.parametrize("pump", [1, 2])
def test_every_structure(planes: int, hop: int, pump: int) -> None:
    """Planes and words per cycle, forwarding distance, rows that are no power of two, jobs shorter than the skew."""
    config = dataclasses.replace(
        TINY,
        name=f"w{planes}h{hop}p{pump}",
        pump=pump,
        rows=5,
        columns=8,
        planes=planes,
        hop=hop,
        mem_width=64,
        mem_depth=8192,
        acc_width=32,
    )
    check_programs(config, range(3000, 3030))
