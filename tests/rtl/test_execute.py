"""The execute engine alone: every run reads its pairs step by step, in the cycles and with the control of the model."""

import dataclasses
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from amaranth.sim import Simulator

from dipole.golden.isa import Engine, ExecReg, Instruction, Op, encode
from dipole.golden.timing import exec_steps
from dipole.rtl.config import Config
from dipole.rtl.execute import Execute
from dipole.rtl.presets import PRESETS

CONTROL = ("valid", "first", "last", "fresh", "drain")


def config_of(planes: int, pump: int) -> Config:
    depths = {1: (64, 512), 2: (128, 64), 4: (128, 128), 8: (256, 32)}
    row_depth, column_depth = depths[planes]
    return dataclasses.replace(
        PRESETS["test_tiny"],
        name=f"w{planes}p{pump}",
        planes=planes,
        pump=pump,
        mem_width=64,
        mem_depth=8192,
        row_depth=row_depth,
        column_depth=column_depth,
    )


def simulate(config: Config, program: list[Instruction], rng: np.random.Generator, gaps: float) -> list[dict]:
    """All signals in every cycle; the share `gaps` of cycles has no instruction, no token, no free drain registers."""
    dut = Execute(config)
    names = ("take_filled", "freed", "commit", "busy")
    trace: list[dict] = []

    async def bench(ctx) -> None:
        waiting, quiet, behind_set = list(program), 0, True
        while quiet < 2:
            valid, filled, drain_free = (
                bool(waiting) and rng.random() >= gaps,
                rng.random() >= gaps,
                rng.random() >= gaps,
            )
            ctx.set(dut.i.valid, valid)
            ctx.set(dut.i.payload, encode(waiting[0]) if valid else int(rng.integers(1 << 32)))
            ctx.set(dut.filled, filled)
            ctx.set(dut.drain_free, drain_free)
            cycle = {name: ctx.get(getattr(dut, name)) for name in names} | {"drain_free": drain_free, "exec": None}
            control = ctx.get(dut.control)
            cycle |= {name: control[name] for name in CONTROL}
            accesses = [ctx.get(dut.first), ctx.get(dut.second)]
            assert accesses[0].read or not accesses[1].read
            cycle["reads"] = [(x.a, x.w, x.sum) for x in accesses if x.read]
            takes_token = False
            if valid:
                is_exec = waiting[0].op is Op.EXEC
                ready = not cycle["busy"] and not (is_exec and (behind_set or (waiting[0].wait and not filled)))
                assert ctx.get(dut.i.ready) == ready
                if ready and is_exec:
                    takes_token, cycle["exec"] = waiting[0].wait, waiting[0]
                behind_set = ready and not is_exec
                if ready:
                    waiting.pop(0)
            else:
                behind_set = False
            assert cycle["take_filled"] == takes_token
            trace.append(cycle)
            quiet = 0 if waiting or cycle["busy"] else quiet + 1
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return trace


def check(config: Config, trace: list[dict], layers: list[tuple[int, int, int, int, int, list[Instruction]]]) -> None:
    """Every EXEC of `layers` (words, stride, groups, weight planes, sum code, EXECs) in the trace of all of them."""
    starts = [t for t, cycle in enumerate(trace) if cycle["exec"]]
    spans = iter(pairwise([*starts, len(trace) - 1]))
    fresh = False
    for words, stride, groups, planes, sum_code, execs in layers:
        for instruction in execs:
            begin, end = next(spans)
            assert trace[begin]["exec"] is instruction
            fresh |= instruction.first
            # A step is what has control; other busy cycles wait for the drain registers.
            busy = [t for t in range(begin + 1, end) if trace[t]["busy"]]
            done = [t for t in busy if trace[t]["valid"] or trace[t]["first"]]
            assert busy[0] == begin + 1 and len(done) == exec_steps(words, groups, planes, config)
            assert all(instruction.drain and not trace[t]["drain_free"] for t in busy if t not in done)
            for name, expected in (("freed", instruction.signal), ("commit", instruction.drain)):
                assert [t for t in range(begin, end) if trace[t][name]] == [busy[-1]] * expected, name

            at = iter(done)
            for exponent in range(config.planes * (groups - 1) + planes - 1, -1, -1):
                first, last = exponent == config.planes * (groups - 1) + planes - 1, exponent == 0
                plane_of = [exponent - config.planes * g for g in range(groups)]
                expected = Counter(
                    ((instruction.atop - (groups - 1 - g) * stride + t) % config.row_depth,
                     (instruction.wtop - (planes - 1 - j) * words + t) % config.column_depth, sum_code >> j & 1)
                    for g, j in enumerate(plane_of) if 0 <= j < planes for t in range(words)
                )  # fmt: skip
                # A step reads `pump` words of a pair or, with W = 1, of two pairs, as long as there are any.
                pairs, pump = expected.total() // words, config.pump
                steps = -(-pairs * words // pump) if config.planes == 1 else pairs * -(-words // pump)
                run = [next(at) for _ in range(max(1, steps))]
                assert Counter(read for t in run for read in trace[t]["reads"]) == expected
                for t in run:
                    assert bool(trace[t]["reads"]) == bool(expected)
                    assert {name: trace[t][name] for name in CONTROL} == {
                        "valid": bool(expected), "first": t == run[0] and not (first and instruction.cont),
                        "last": t == run[-1] and not (last and instruction.open),
                        "fresh": fresh, "drain": t == run[-1] and last and instruction.drain,
                    }  # fmt: skip
                fresh &= last and instruction.open
            assert next(at, None) is None


def registers(words: int, stride: int, groups: int, planes: int, sum_code: int) -> list[Instruction]:
    values = {
        ExecReg.WORDS: words, ExecReg.STRIDE: stride, ExecReg.GROUPS: groups, ExecReg.PLANES: planes,
        ExecReg.SUM_CODE: sum_code,
    }  # fmt: skip
    return [Instruction(op=Op.SET, engine=Engine.EXEC, reg=reg, value=value) for reg, value in values.items()]


def layer(config: Config, rng: np.random.Generator, words: int, groups: int, planes: int, tiles: int):
    """A layer of whole tiles and of tiles in parts."""
    execs = []
    while tiles:
        part = execs[-1].open if execs else False
        open_ = bool(rng.random() < 0.3) and (groups - 1) * config.planes + planes == 1
        execs.append(
            Instruction(op=Op.EXEC, wait=bool(rng.integers(2)), signal=bool(rng.integers(2)), first=not part,
                        cont=part, open=open_, drain=not open_, wtop=int(rng.integers(config.column_depth)),
                        atop=int(rng.integers(config.row_depth)))
        )  # fmt: skip
        tiles -= not open_
    return words, words + int(rng.integers(4)), groups, planes, int(rng.integers(256)), execs


def run(config: Config, layers: list, rng: np.random.Generator, gaps: float) -> None:
    program = [i for *values, execs in layers for i in (*registers(*values), *execs)]
    check(config, simulate(config, program, rng, gaps), layers)


@pytest.mark.parametrize("pump", [1, 2])
@pytest.mark.parametrize("planes", [1, 2, 4, 8])
def test_every_shape(planes: int, pump: int, rng: np.random.Generator) -> None:
    """All numbers of groups and weight planes, words from one on."""
    config = config_of(planes, pump)
    layers = [
        layer(config, rng, words, groups, weight_planes, 1)
        for groups in range(1, 16 // planes + 1) for weight_planes in range(1, 9) for words in range(1, 2 + 2 * pump)
    ]  # fmt: skip
    run(config, layers, rng, 0)


@pytest.mark.parametrize("pump", [1, 2])
@pytest.mark.parametrize("planes", [1, 4])
@pytest.mark.parametrize("gaps", [0, 0.4])
def test_tiles_behind_one_another(planes: int, pump: int, gaps: float, rng: np.random.Generator) -> None:
    """Waits, tiles in parts, and every number of words."""
    config = config_of(planes, pump)
    layers = [
        layer(config, rng, int(rng.integers(1, 7)), int(rng.choice([1, 1, 2])), int(rng.choice([1, 1, 3])), 4)
        for _ in range(20)
    ]
    full = min(config.row_depth, config.column_depth)
    run(config, [*layers, layer(config, rng, full, 1, 2, 1)], rng, gaps)
