"""Folding instruction sequences into loops: unrolled, they are what they were."""

import numpy as np
import pytest

from dipole.compiler.assemble import assemble, fold
from dipole.compiler.task import Task
from dipole.golden.isa import Engine, Instruction, LoadReg, Op, StoreReg, decode, encode
from dipole.golden.machine import Machine, Status
from dipole.rtl.presets import PRESETS

TINY = PRESETS["test_tiny"]


def unrolled(words):
    """Instructions in execution order, REPEAT worked in, from the definition in golden/isa.py."""
    out, pc, left = [], 0, {}
    while pc < len(words):
        i = decode(words[pc])
        pc += 1
        if i.op is not Op.REPEAT:
            out.append(i)
            continue
        left[i.slot] = left.get(i.slot) or i.count
        left[i.slot] -= 1
        if left[i.slot]:
            pc -= i.back + 1
    return out


@pytest.mark.parametrize("seed", range(30))
def test_fold(seed):
    """Any sequence, also with repetitions inside repetitions, comes back item by item."""
    rng = np.random.default_rng(seed)
    items = []
    for _ in range(int(rng.integers(1, 6))):
        part = [int(n) for n in rng.integers(3, size=rng.integers(1, 5))]
        part += part[-1:] * int(rng.integers(4))
        items += part * int(rng.integers(1, 6))
    folded = fold(items, lambda n: n + 1, 8)
    assert [item for count, body in folded for _ in range(count) for item in body] == items


def test_fold_is_short():
    row = ["a", *["b"] * 20, "c"]
    inner = fold(row * 30, lambda _: 4, 1)
    assert inner[:3] == [(1, ("a",)), (20, ("b",)), (1, ("c",))]
    assert fold(inner, lambda _: 4, 8) == [(30, tuple(inner[:3]))]


@pytest.mark.parametrize("seed", range(20))
def test_assemble(seed):
    """Tasks with random register walks: every task sees the registers that it asks for, however loops are cut."""
    rng = np.random.default_rng(seed)
    tasks, wanted = [], []
    kinds: list[dict[int, int]] = [{LoadReg.KW: int(k), LoadReg.SKIP: 3} for k in rng.integers(1, 9, 3)]
    act, iy = int(rng.integers(1 << 21)), -3
    for _ in range(int(rng.integers(1, 12))):
        step, body = int(rng.integers(-(1 << 19), 1 << 19)), int(rng.integers(1, 9))
        for _ in range(body):
            act, iy = (act + step) % (1 << 21), (iy + 1) % 7 - 3
            static = kinds[int(rng.integers(3))] if rng.integers(5) == 0 else kinds[0]
            moving = ((LoadReg.ACT, act), (LoadReg.IY, iy))
            tasks.append(Task(Op.LOADA, {"rows": 2, "base": 1}, static=static, moving=moving, mark=True))
            wanted.append({**static, **dict(moving)})
    words = assemble([*tasks, Task(Op.HALT)], TINY)
    reg, seen = {}, []
    for i in unrolled(words):
        if i.op is Op.SET:
            reg[i.reg] = i.value
        elif i.op is Op.ADD:
            reg[i.reg] += i.value
        elif i.op is Op.LOADA:
            seen.append({name: reg[name] % (1 << 21) if name == LoadReg.ACT else reg[name] for name in wanted[0]})
    assert seen == wanted


def test_repeated_tiles_become_loops():
    tasks = [
        Task(Op.STORE, {"rows": 2}, static={StoreReg.BITS: 2}, moving=((StoreReg.DST, 100 * y + 3 * x),), mark=True)
        for y in range(50)
        for x in range(40)
    ]
    words = assemble([*tasks, Task(Op.HALT)], TINY)
    assert len(words) < 20
    assert sum(i.op is Op.STORE for i in unrolled(words)) == 2000


def test_weight_pointer_is_followed():
    """LOADW and LOADP move their pointers; only jumps need a SET."""
    static: dict[int, int] = {LoadReg.WWORDS: 2}
    size = 2 * TINY.columns * TINY.chunks_per_lanes
    tasks = [Task(Op.LOADW, {"base": 0}, static=static, moving=((LoadReg.WGT, a),)) for a in (0, size, 2 * size, 0)]
    ladder = TINY.ladder_words * 32 // TINY.chunk
    tasks += [Task(Op.LOADP, {"count": 3}, moving=((LoadReg.WGT, a * ladder),)) for a in (50, 53)]
    words = assemble([*tasks, Task(Op.HALT)], TINY)
    assert [decode(w).op for w in words].count(Op.SET) == 4
    machine = Machine(TINY)
    machine.load(np.array(words, "<u4").tobytes(), 1000)
    assert machine.run(1000 * TINY.mem_width // 32) is Status.OK
    assert encode(Instruction(op=Op.SET, engine=Engine.LOAD, reg=LoadReg.WGT, value=0)) in words
