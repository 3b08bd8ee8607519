"""The loader alone: what it writes into the buffers, against the golden machine, with random stalls on every side."""

import dataclasses
import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator

from dipole.golden.isa import Instruction, LoadReg, Op, encode
from dipole.golden.machine import Machine
from dipole.rtl.config import Config
from dipole.rtl.loader import Loader
from dipole.rtl.presets import PRESETS

TINY = PRESETS["test_tiny"]
CONFIGS = {
    "tiny": TINY,
    "wide": PRESETS["test_wide"],
    "one_row": dataclasses.replace(TINY, rows=1),
    "planes_4": dataclasses.replace(TINY, rows=3, planes=4, lanes=32, corrections=False),
    "one_chunk": dataclasses.replace(
        TINY, lanes=32, chunk=32, planes=8, mem_width=256, mem_depth=2048, mul_width=8, corrections=False
    ),
    "stages": dataclasses.replace(TINY, rows=3, stages=1, memory_lag=2),
    "stages_planes": dataclasses.replace(PRESETS["test_wide"], stages=2, memory_lag=3),
    "long_word": dataclasses.replace(TINY, rows=5, lanes=64, mem_width=128, mem_depth=4096),
}


def random_loads(config: Config, rng: np.random.Generator, layers: int) -> list[Instruction]:
    """Instructions for the loader; many loads of one step, which follow each other closest."""
    program: list[Instruction] = []

    def integer(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    def set_(reg: LoadReg, value: int) -> None:
        program.append(Instruction(op=Op.SET, reg=reg, value=value))

    for _ in range(layers):
        unit_log2 = integer(0, config.chunks_per_lanes.bit_length() - 1) if config.planes == 1 else 0
        unit, most = config.planes << unit_log2, integer(0, 1) * 3 + 1
        while True:
            kh, kw, units, planes = (
                integer(1, most),
                integer(1, most),
                integer(1, most),
                integer(1, 9 if most > 1 else 2),
            )
            words = -(-kh * kw * units * (1 << unit_log2) // config.chunks_per_lanes)
            skip = integer(0, 3)
            if (words + skip) * -(-planes // config.planes) * 2 <= config.row_depth:
                break
        h, w = integer(1, 9), integer(1, 9)
        row_stride = w * units * unit
        for reg, value in {
            LoadReg.ROW_STRIDE: row_stride, LoadReg.GROUP_STEP: row_stride * (h - kh + 1) & ((1 << 21) - 1),
            LoadReg.UNITS: units, LoadReg.UNIT_LOG2: unit_log2, LoadReg.KW: kw, LoadReg.KH: kh,
            LoadReg.STEP: integer(1, 3), LoadReg.H: h, LoadReg.W: w, LoadReg.PLANES: planes,
            LoadReg.PAD: integer(0, 511), LoadReg.VALID: integer(0, 1), LoadReg.VALID_ADDR: unit * integer(0, 50),
            LoadReg.SKIP: skip, LoadReg.WWORDS: integer(1, most),
            LoadReg.ACT: unit * integer(0, 60), LoadReg.IY: integer(-3, h), LoadReg.IX: integer(-3, w),
            LoadReg.WGT: config.chunks_per_word * integer(0, 9),
        }.items():  # fmt: skip
            set_(reg, value)
        for k in range(integer(2, 6)):
            kind, wait, signal = integer(0, 5), bool(integer(0, 1)), bool(integer(0, 1))
            if kind == 0:
                program.append(
                    Instruction(op=Op.LOADW, base=integer(0, config.column_depth - 4), wait=wait, signal=signal)
                )
            elif kind == 1:
                # Whole lane words and ladders lie at their own sizes.
                base, count = integer(0, config.ladder_depth - 4), integer(1, 4)
                set_(LoadReg.WGT, config.chunks_per_word * integer(0, 9))
                program.append(Instruction(op=Op.LOADP, base=base, count=count, wait=wait, signal=signal))
                set_(LoadReg.WGT, config.chunks_per_word * integer(0, 9))
            else:
                if kind == 2:
                    program.append(Instruction(op=Op.AWAIT))
                for reg, value in ((LoadReg.ACT, unit * integer(-1, 2)), (LoadReg.IX, integer(-1, 1))):
                    if integer(0, 1):
                        program.append(Instruction(op=Op.ADD, reg=reg, value=value))
                base = k % 2 * (config.row_depth // 2)
                program.append(
                    Instruction(op=Op.LOADA, rows=integer(1, config.rows), base=base, wait=wait, signal=signal)
                )
    return program


def run(
    config: Config, program: list[Instruction], memory: list[int], rng: np.random.Generator, wait: int | None = None
) -> tuple:
    """Contents of the row, column and ladder buffers after `program`, as the golden machine keeps them; every read
    waits `wait` cycles, or a random number."""
    dut = Loader(config)
    per_lanes, lane_bytes, chunk_bytes = config.chunks_per_lanes, config.lanes // 8, config.chunk // 8
    rows = np.full((config.rows, config.row_depth, config.planes, lane_bytes), 0xFF, np.uint8)
    columns = np.full((config.columns, config.column_depth, lane_bytes), 0xFF, np.uint8)
    ladders = np.full((config.ladder_depth, config.ladder_words), 0xFFFFFFFF, np.uint32)
    filled = 0

    async def bench(ctx):
        nonlocal filled
        queue = [encode(i) for i in program]
        gap, stall, lack = rng.choice([0.0, 0.3, 0.9]), rng.choice([0.0, 0.2, 0.6]), rng.choice([0.0, 0.5])
        if wait is not None:
            gap = lack = 0.0
        quiet, valid, waited = 0, False, 0
        words = [0] * config.memory_lag  # on their way from main memory
        while quiet < 4:
            valid = bool(queue) and bool(valid or rng.random() >= gap)
            grant = int(rng.random() >= stall if wait is None else waited == wait)
            ctx.set(dut.i.valid, valid)
            ctx.set(dut.i.payload, queue[0] if valid else int(rng.integers(1 << 32)))
            ctx.set(dut.hindered, 0 if grant else int(rng.integers(1, 4)))
            ctx.set(dut.freed, int(rng.random() >= lack))
            ctx.set(dut.done, int(rng.random() >= lack))
            ready, take_freed, freed = ctx.get(dut.i.ready), ctx.get(dut.take_freed), ctx.get(dut.freed)
            assert not take_freed or freed
            if valid and ready:
                assert take_freed == program[len(program) - len(queue)].wait
                queue.pop(0)
                valid = False
            else:
                assert not take_freed
            assert not ctx.get(dut.range_error)
            filled += ctx.get(dut.filled)
            data = ctx.get(dut.wdata)
            row_data = ctx.get(dut.row_data) if config.planes > 1 else data
            for r in range(config.rows):
                enable, address = ctx.get(dut.row[r].enable), ctx.get(dut.row[r].address)
                for v, p in itertools.product(range(config.planes), range(per_lanes)):
                    if enable >> p & 1:
                        part = row_data >> (v if config.planes > 1 else p) * config.chunk & ((1 << config.chunk) - 1)
                        part = part.to_bytes(chunk_bytes, "little")
                        rows[r, address, v, p * chunk_bytes : (p + 1) * chunk_bytes] = list(part)
            for c in range(config.columns):
                if ctx.get(dut.column_enable) >> c & 1:
                    word = (data & ((1 << config.lanes) - 1)).to_bytes(lane_bytes, "little")
                    columns[c, ctx.get(dut.column_address)] = list(word)
            for k in range(config.ladder_words):
                if ctx.get(dut.ladder_enable) >> k & 1:
                    ladders[ctx.get(dut.ladder_address), k] = data & 0xFFFFFFFF
            read = ctx.get(dut.request) and grant
            waited = waited + 1 if ctx.get(dut.request) and not grant else 0
            word = memory[ctx.get(dut.address)] if read else int.from_bytes(rng.bytes(config.mem_width // 8), "little")
            words.append(word)
            busy = ctx.get(dut.busy)
            await ctx.tick()
            ctx.set(dut.rdata, words.pop(0))
            quiet = 0 if queue or busy else quiet + 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return rows, columns, ladders, filled


def check(config: Config, program: list[Instruction], rng: np.random.Generator, wait: int | None = None) -> None:
    image = rng.integers(256, size=config.mem_depth * config.mem_width // 8, dtype=np.uint8)
    code = np.array([encode(i) for i in [*program, Instruction(op=Op.HALT)]], "<u4").view(np.uint8)
    image[-len(code) :] = code
    machine = Machine(config)
    machine.load(image.tobytes())
    assert machine.run((len(image) - len(code)) // 4) == 0
    size = config.mem_width // 8
    memory = [int.from_bytes(image[k : k + size].tobytes(), "little") for k in range(0, len(image), size)]
    rows, columns, ladders, filled = run(config, program, memory, rng, wait)
    np.testing.assert_array_equal(rows, machine._rows[0], err_msg="row buffers")
    np.testing.assert_array_equal(columns, machine._columns, err_msg="column buffers")
    np.testing.assert_array_equal(ladders, machine._ladders, err_msg="ladder memory")
    assert filled == sum(i.signal for i in program), "filled tokens"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", range(3))
def test_buffers(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(CONFIGS[name], random_loads(CONFIGS[name], rng, layers=3), rng)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("wait", range(5))
def test_the_last_step_waits_while_the_next_load_starts(name: str, wait: int) -> None:
    """The next load may start while the last step still waits for its word, which must not go to the new base."""
    config, rng = CONFIGS[name], np.random.default_rng(wait)
    for _ in range(4):
        registers = itertools.takewhile(lambda i: i.op is Op.SET, random_loads(config, rng, layers=1))
        loads = (Instruction(op=Op.LOADA, rows=config.rows, base=base) for base in (config.row_depth // 2, 0))
        check(config, [*registers, *loads], rng, wait)
