"""Third golden stage, cycles: when each row of a tile is drained, and how long a program takes, exactly.

Control never depends on data, so cycles are a function of the program and the configuration alone. The model steps the
state machines of fetch, loader, execute and store engine, their queues and tokens, cycle by cycle; docs/architecture.md
has the table of cycles it implements. Cycle 0 is the cycle of `start`; the engine is busy from cycle 1 on.
"""

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .isa import Engine, ExecReg, Instruction, LoadReg, Op, Pool, StoreReg, decode
from .tensor import writes_of_code

__all__ = ["Timing", "exec_steps", "load_needs", "simulate_cycles"]


@dataclass(frozen=True)
class Timing:
    """Cycles of one run."""

    cycles: int
    """Cycles the engine is busy."""
    drains: np.ndarray
    """Cycle of each drained row, in the order of the drain trace."""
    markers: list[int]
    """Cycle of each DONE: a layer's output is complete."""
    exec_words: list[int]
    """Words fed to the array up to each DONE."""


@cache
def exec_steps(words: int, groups: int, weight_planes: int, config: Any) -> int:
    """Cycles in which EXEC feeds the array: `pump` words of a run each, and one per exponent without a plane pair.

    The words of a step are of one pair; with W = 1 also of two neighbouring ones.
    """
    planes, pump = config.planes, config.pump
    steps = 0
    for exponent in range(planes * (groups - 1) + weight_planes):
        pairs = sum(0 <= exponent - planes * g < weight_planes for g in range(groups))
        steps += max(1, -(-pairs * words // pump) if planes == 1 else pairs * -(-words // pump))
    return steps


def load_needs(registers: dict[int, int], rows: int, config: Any) -> bytes:
    """For each step of a LOADA 1 if it reads main memory, else 0 (padding, filler)."""
    chunks = 1 << registers[LoadReg.UNIT_LOG2] if config.planes == 1 else 1
    kw, kh, units = registers[LoadReg.KW], registers[LoadReg.KH], registers[LoadReg.UNITS]
    y = registers[LoadReg.IY] + np.arange(kh)
    x = registers[LoadReg.IX] + np.arange(kw + (rows - 1) * registers[LoadReg.STEP])
    inside = ((y >= 0) & (y < registers[LoadReg.H]))[:, None] & ((x >= 0) & (x < registers[LoadReg.W]))[None, :]
    filler = -(kh * kw * units * chunks) % config.chunks_per_lanes // chunks
    plane = np.repeat(inside.astype(np.uint8).ravel(), units).tobytes() + bytes(filler)
    return plane * -(-registers[LoadReg.PLANES] // config.planes)


def simulate_cycles(image: np.ndarray, entry: int, config: Any, *, limit: int = 1 << 32) -> Timing:
    """Cycles of the program at instruction `entry` of a main memory image of 32-bit words.

    Raises ValueError where the device would stop with an error or never end (a wait that nothing satisfies).
    """
    drain_latency, drain_lag, free_lag = config.drain_latency, config.drain_lag, config.free_lag
    ladder_latency = drain_lag + config.ladder_latency
    lag, groups_per_row = config.memory_lag, config.columns // config.ladders
    filled_lag = lag + config.write_lag
    per_word = config.mem_width // 32
    fetch_urgent = per_word == 1  # a second request goes before the loader's
    one_port = config.mem_ports == 1  # nobody reads while the store engine writes
    needs: dict[tuple[int, ...], bytes] = {}

    queues: list[deque[Instruction]] = [deque(), deque(), deque()]
    depth = config.queue_depth
    filled = freed = done = 0
    later: dict[int, list[int]] = {}  # cycle -> token counters to raise at its start: 0 filled, 1 freed
    load_reg: dict[int, int] = dict.fromkeys(range(32), 0)
    exec_reg: dict[int, int] = dict.fromkeys(range(32), 0)
    store_reg: dict[int, int] = dict.fromkeys(range(32), 0)
    # 0 request, 1 word (in the cycle of that name), 2 dispatch, 3 behind a REPEAT
    pc, fetch_state, fetch_word_at, word = entry, 0, 0, Instruction(op=Op.HALT)
    counters = [0, 0]
    load_steps, load_index, load_signal, load_alone, load_prime = b"", 0, False, False, False
    reading: tuple[bool, bool, bool] | None = None  # the loader's step at main memory: needs it, hinders, signals
    load_comes, load_put = -1, False
    exec_left, exec_drain, exec_signal, exec_set_at = 0, False, False, -2
    draining, tile_ready_at = False, -1
    store_until, store_release = -1, -1  # last cycle of the tile at work
    under_way_until, base_free_at, base_waits_until = -1, 0, -1
    writes: set[int] = set()
    drains: list[int] = []
    markers: list[int] = []
    exec_words: list[int] = []
    words_fed = 0
    last_progress = 0

    @cache
    def instruction_at(place: int) -> Instruction:
        return decode(int(image[place]))

    t = -1
    while True:
        t += 1
        if t >= limit or t - last_progress >= 1 << 20:
            raise ValueError(f"the program makes no progress at cycle {last_progress}: a wait that nothing satisfies")
        for token in later.pop(t, ()):
            if token:
                freed += 1
            else:
                filled += 1
        pop_load = pop_exec = pop_store = False
        write = False
        if t in writes:
            writes.discard(t)
            write = one_port
        empty = not (queues[0] or queues[1] or queues[2])
        still = t - 1 > store_until and t - 1 > under_way_until and t > base_free_at
        store_busy = t <= store_until or not still
        load_idle = load_index == len(load_steps)
        load_busy = not load_idle or reading is not None or t <= load_comes
        exec_busy = exec_left > 0

        # --- loader
        request = reading is not None and reading[0]
        load_idle = load_idle and not (reading and reading[1])
        load_stalls = request and (write or (fetch_state == 0 and fetch_urgent))
        if not load_stalls:
            if reading:
                load_comes = t + 1 + lag
                if reading[2]:
                    later.setdefault(t + 3 + filled_lag, []).append(0)
            reading = None
            if load_index < len(load_steps) and not load_prime:
                hinders, last = load_alone or load_index == 0, load_index + 1 == len(load_steps)
                reading = (load_steps[load_index] != 0, hinders, last and load_signal)
                load_index += 1
        load_prime = False
        if load_idle and queues[0]:
            instruction = queues[0][0]
            op = instruction.op
            if op is Op.SET:
                if load_put:
                    load_reg[instruction.reg] = instruction.value
                    pop_load = True
                load_put = not load_put and not load_busy
            elif op is Op.ADD:
                load_reg[instruction.reg] += instruction.value
                pop_load = True
            elif op is Op.AWAIT:
                if done:
                    done -= 1
                    pop_load = True
            elif not load_stalls and (not instruction.wait or freed):
                freed -= instruction.wait
                pop_load = True
                load_signal, load_index, load_alone = instruction.signal, 0, op is not Op.LOADA
                load_prime = True
                if op is Op.LOADA:
                    key = (*(load_reg[r] for r in (LoadReg.IY, LoadReg.IX, LoadReg.KH, LoadReg.KW, LoadReg.H,
                             LoadReg.W, LoadReg.UNITS, LoadReg.UNIT_LOG2, LoadReg.STEP, LoadReg.PLANES)),
                           instruction.rows)  # fmt: skip
                    if key not in needs:
                        needs[key] = load_needs(load_reg, instruction.rows, config)
                    load_steps = needs[key]
                elif op is Op.LOADW:
                    load_steps = b"\1" * (config.columns * load_reg[LoadReg.WWORDS])
                else:
                    load_steps = b"\1" * (config.ladder_words * instruction.count)

        # --- execute
        if exec_left:
            if exec_left > 1 or not (exec_drain and draining):
                exec_left -= 1
                if exec_left == 0:
                    if exec_signal:
                        later.setdefault(t + 1 + free_lag, []).append(1)
                    if exec_drain:
                        draining = True
                        tile_ready_at = t + drain_latency + 1
        elif queues[1]:
            instruction = queues[1][0]
            if instruction.op is Op.SET:
                exec_reg[instruction.reg] = instruction.value
                pop_exec = True
                exec_set_at = t
            elif t != exec_set_at + 1 and (not instruction.wait or filled):
                filled -= instruction.wait
                pop_exec = True
                exec_left = exec_steps(
                    exec_reg[ExecReg.WORDS], exec_reg[ExecReg.GROUPS], exec_reg[ExecReg.PLANES], config
                )
                words_fed += exec_reg[ExecReg.WORDS] * exec_reg[ExecReg.GROUPS] * exec_reg[ExecReg.PLANES]
                exec_drain, exec_signal = instruction.drain, instruction.signal

        # --- store
        done_pulse = False
        if t <= store_until:
            if t == store_release:
                draining = False
        elif queues[2]:
            instruction = queues[2][0]
            op = instruction.op
            if op is Op.ADD:
                if t > base_waits_until:
                    store_reg[instruction.reg] += instruction.value
                    pop_store = True
            elif op is Op.STORE:
                if 0 <= tile_ready_at <= t and t > base_waits_until:
                    pop_store = True
                    tile_ready_at = -1
                    raw = store_reg[StoreReg.RAW]
                    writes_per_row = writes_of_code(config, store_reg[StoreReg.BITS], store_reg[StoreReg.SHIFT])
                    emit = instruction.pool in (Pool.NONE, Pool.LAST)
                    selects = config.columns if raw else groups_per_row
                    interval = config.columns if raw else max(groups_per_row, writes_per_row if emit else 0)
                    starts = [t + 1 + k * interval for k in range(instruction.rows)]
                    drains += [s + 1 + drain_lag for s in starts]
                    store_until = t + instruction.rows * interval
                    store_release = store_until - min(interval - 1, config.release_lead)
                    last_select = starts[-1] + selects - 1
                    under_way_until = last_select + ladder_latency + 1
                    if raw:
                        writes.update(s + 1 + drain_lag + k for s in starts for k in range(selects))
                    elif emit:
                        first = selects - 1 + ladder_latency + 2
                        writes.update(s + first + k for s in starts for k in range(writes_per_row))
                        under_way_until += writes_per_row
                    if emit:
                        if t < base_free_at:
                            base_waits_until = base_free_at
                        base_free_at = starts[0] + (1 + drain_lag if raw else selects - 1 + ladder_latency + 2)
            elif still:
                pop_store = True
                if op is Op.DONE:
                    done_pulse = True
                    markers.append(t + 1)
                    exec_words.append(words_fed)
                else:
                    store_reg[instruction.reg] = instruction.value

        # --- fetch; it sees the queue levels of the beginning of the cycle
        push, pushed = -1, word
        if fetch_state == 0:
            if not write and (fetch_urgent or not request):
                fetch_state, fetch_word_at = 1, t + 1 + lag
        elif fetch_state == 1:
            if t == fetch_word_at:
                word, pc, fetch_state = instruction_at(pc), pc + 1, 2
        elif fetch_state == 3:
            fetch_state = 0
        else:
            op = word.op
            if op is Op.REPEAT:
                if counters[word.slot] == word.count - 1:
                    counters[word.slot] = 0
                else:
                    counters[word.slot] += 1
                    pc -= 1 + word.back
                fetch_state = 3
            elif op is Op.HALT:
                if empty and not (store_busy or load_busy or exec_busy):
                    return Timing(t + 1, np.array(drains, dtype=np.int64), markers, exec_words)
            else:
                target = _ENGINE_OF[op] if op not in (Op.SET, Op.ADD) else word.engine
                if len(queues[target]) != depth:
                    push = target
                    if pc % per_word:
                        word, pc = instruction_at(pc), pc + 1
                    else:
                        fetch_state, fetch_word_at = int(not (write or request)), t + 1 + lag
        if pop_load:
            queues[0].popleft()
        if pop_exec:
            queues[1].popleft()
        if pop_store:
            queues[2].popleft()
        if push >= 0:
            queues[push].append(pushed)
        if done_pulse:
            done += 1
        if push >= 0 or pop_load or pop_exec or pop_store:
            last_progress = t


_ENGINE_OF = {
    Op.LOADA: Engine.LOAD,
    Op.LOADW: Engine.LOAD,
    Op.LOADP: Engine.LOAD,
    Op.AWAIT: Engine.LOAD,
    Op.EXEC: Engine.EXEC,
    Op.STORE: Engine.STORE,
    Op.DONE: Engine.STORE,
}
