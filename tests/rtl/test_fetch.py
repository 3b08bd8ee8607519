"""Fetch alone: every engine gets its instructions in the order of the program, loops unrolled."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator

from dipole.golden.isa import Engine, Instruction, Op, encode
from dipole.rtl.fetch import Fetch
from dipole.rtl.presets import PRESETS

CONFIGS = [
    PRESETS["test_tiny"], PRESETS["test_wide"], dataclasses.replace(PRESETS["test_wide"], name="lag", memory_lag=2)
]  # fmt: skip
PLACES = {
    Op.SET: tuple(Engine), Op.ADD: (Engine.LOAD, Engine.STORE), Op.LOADA: (Engine.LOAD,), Op.LOADW: (Engine.LOAD,),
    Op.LOADP: (Engine.LOAD,), Op.AWAIT: (Engine.LOAD,), Op.EXEC: (Engine.EXEC,), Op.STORE: (Engine.STORE,),
    Op.DONE: (Engine.STORE,),
}  # fmt: skip


def random_instruction(rng: np.random.Generator) -> tuple[Engine, int]:
    op = list(PLACES)[rng.integers(len(PLACES))]
    engine = PLACES[op][rng.integers(len(PLACES[op]))]
    low = 26 if op in (Op.SET, Op.ADD) else 28
    word = op << 28 | int(rng.integers(1 << low))
    return engine, word | (engine << 26 if low == 26 else 0)


def loops(rng: np.random.Generator, emit, unroll, depth: int = 2) -> int:
    """Random instructions with loops in them, outer ones in slot 0; returns how many places they take."""
    places = 0
    for _ in range(rng.integers(1, 4)):
        if depth and rng.random() < 0.6:
            body: list = []
            unrolled: list = []
            length = loops(rng, body.append, unrolled.append, depth - 1)
            count = int(rng.choice([1, 2, 3, 5]))
            for word in body:
                emit(word)
            emit(encode(Instruction(op=Op.REPEAT, slot=2 - depth, count=count, back=length)))
            for item in unrolled * count:
                unroll(item)
            places += length + 1
        else:
            item = random_instruction(rng)
            emit(item[1])
            unroll(item)
            places += 1
    return places


def run(config, words: list[int], entry: int, rng: np.random.Generator, gaps: float, cycles: int = 20000) -> dict:
    """Simulate from start to the end of `running` or an error."""
    dut = Fetch(config)
    per_word = config.mem_width // 32
    seen: dict = {"items": [], "error": None, "cycles": 0, "halted_busy": False}

    async def bench(ctx) -> None:
        ctx.set(dut.entry, entry)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.entry, int(rng.integers(1 << 20)))
        words_coming = [0] * (config.memory_lag + 1)
        while ctx.get(dut.running) and seen["cycles"] < cycles:
            seen["cycles"] += 1
            grant, idle = rng.random() >= gaps, rng.random() >= gaps
            ctx.set(dut.grant, grant)
            ctx.set(dut.idle, idle)
            ctx.set(dut.rdata, words_coming.pop(0))
            for port in dut.o:
                ctx.set(port.ready, rng.random() >= gaps)
            for name in ("bad_opcode", "range_error"):
                if ctx.get(getattr(dut, name)):
                    seen["error"] = name
                    return
            for engine, port in zip(Engine, dut.o, strict=True):
                if ctx.get(port.valid) and ctx.get(port.ready):
                    seen["items"].append((engine, ctx.get(port.payload)))
            data = int(rng.integers(1 << 32))
            if ctx.get(dut.request) and grant:
                at = ctx.get(dut.address) * per_word
                data = sum(word << 32 * k for k, word in enumerate(words[at : at + per_word]))
            words_coming.append(data)
            seen["idle"] = idle
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("gaps", [0, 0.4])
def test_random_loops(config, gaps: float, rng: np.random.Generator) -> None:
    for _ in range(8):
        program: list[int] = []
        expected: list[tuple[Engine, int]] = []
        loops(rng, program.append, expected.append)
        entry = int(rng.integers(5))
        words = [0] * entry + [*program, encode(Instruction(op=Op.HALT)), 0, 0]
        seen = run(config, words, entry, rng, gaps)
        assert seen["error"] is None and seen["idle"]
        assert seen["items"] == expected


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_cycles_per_instruction(config, rng: np.random.Generator) -> None:
    body = [random_instruction(rng)[1] for _ in range(5)]
    words = [*body, encode(Instruction(op=Op.REPEAT, count=4, back=5)), encode(Instruction(op=Op.HALT))]
    # The first word is asked for in a cycle of its own, the one behind a REPEAT in the second one.
    reads, per_word = 1 + 4 * 6 // (config.mem_width // 32), 2 + config.memory_lag
    assert run(config, words, 0, rng, 0)["cycles"] == per_word * reads + (1 + 4 * 6 - reads) + 1 + 2 * 4


@pytest.mark.parametrize(
    "word", [0, 3 << 28, 12 << 28, 13 << 28, 14 << 28, Op.SET << 28 | 3 << 26, Op.ADD << 28 | 3 << 26]
)
def test_bad_opcode(word: int, rng: np.random.Generator) -> None:
    first = random_instruction(rng)
    seen = run(CONFIGS[0], [first[1], word], 0, rng, 0)
    assert seen["error"] == "bad_opcode" and seen["items"] == [first]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_range_error(config, rng: np.random.Generator) -> None:
    beyond = config.mem_depth * config.mem_width // 32
    assert run(config, [], beyond, rng, 0)["error"] == "range_error"
    back = encode(Instruction(op=Op.REPEAT, count=2, back=1))
    assert run(config, [back, 0], 0, rng, 0)["error"] == "range_error"
