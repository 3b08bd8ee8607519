"""The functional machine, one instruction at a time, against slow models written from docs/architecture.md alone."""

import dataclasses

import numpy as np
import pytest

from dipole.golden.isa import Engine, ExecReg, Instruction, LoadReg, Op, Pool, StoreReg, encode
from dipole.golden.ladder import Ladders, pack_ladder
from dipole.golden.machine import Machine, Status
from dipole.rtl.config import Config
from dipole.rtl.presets import PRESETS

CONFIGS = [
    PRESETS["test_tiny"],
    PRESETS["test_wide"],
    PRESETS["icebreaker"],
    Config(name="odd", rows=5, columns=4, lanes=8, planes=4, mem_width=64, mem_depth=1024, row_depth=64,
           column_depth=32, acc_width=13, ladder_depth=8),
]  # fmt: skip
ENTRY = 64  # instructions start here; data stand behind


def word(op, **fields):
    return encode(Instruction(op=op, **fields))


def sets(engine, registers):
    return [word(Op.SET, engine=engine, reg=reg, value=value) for reg, value in registers.items()]


def machine(config, program, rng):
    """A machine with random memory and the program at ENTRY."""
    m = Machine(config)
    m.memory[:] = rng.integers(256, size=len(m.memory), dtype=np.uint8)
    code = np.array([*program, word(Op.HALT)], "<u4").tobytes()
    m.memory[4 * ENTRY : 4 * ENTRY + len(code)] = np.frombuffer(code, np.uint8)
    return m


def bits(data):
    return np.unpackbits(data, axis=-1, bitorder="little")


def slow_loada(config, memory_bits, buffers, reg, rows, base):
    """Row buffers bits [row, depth, plane, lane] after LOADA, unit by unit."""
    w = config.planes
    chunks = 1 << reg[LoadReg.UNIT_LOG2] if w == 1 else 1
    unit = config.chunk * chunks
    per_word = config.lanes // unit
    words = -(-reg[LoadReg.KH] * reg[LoadReg.KW] * reg[LoadReg.UNITS] // per_word)
    group_stride = (reg[LoadReg.GROUP_STEP] + (reg[LoadReg.KH] - 1) * reg[LoadReg.ROW_STRIDE]) % (1 << 21)
    for r in range(rows):
        for m in range(-(-reg[LoadReg.PLANES] // config.planes) * config.planes):
            i = 0
            for ky in range(reg[LoadReg.KH]):
                for kx in range(reg[LoadReg.KW]):
                    x, y = reg[LoadReg.IX] + r * reg[LoadReg.STEP] + kx, reg[LoadReg.IY] + ky
                    for u in range(reg[LoadReg.UNITS]):
                        missing = m >= reg[LoadReg.PLANES]
                        if missing or not (0 <= x < reg[LoadReg.W] and 0 <= y < reg[LoadReg.H]):
                            value = np.full(unit, reg[LoadReg.PAD] >> m & 1)
                        else:
                            px = r * reg[LoadReg.STEP] + kx
                            valid = reg[LoadReg.VALID] if w == 1 else 0
                            group = m // w - valid
                            address = reg[LoadReg.ACT] + group * group_stride + ky * reg[LoadReg.ROW_STRIDE]
                            address += ((px * reg[LoadReg.UNITS] + u) * w + m % w) * chunks
                            if valid and m == 0:
                                address = reg[LoadReg.VALID_ADDR] + u * chunks
                            value = memory_bits[address % (1 << 21) * config.chunk :][:unit]
                        place = base + m // config.planes * (words + reg[LoadReg.SKIP]) + i // per_word
                        lane = i % per_word * unit
                        buffers[r, place, m % config.planes, lane : lane + unit] = value
                        i += 1
            while i % per_word:
                place = base + m // config.planes * (words + reg[LoadReg.SKIP]) + i // per_word
                buffers[r, place, m % config.planes, i % per_word * unit :][:unit] = 0
                i += 1


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("seed", range(12))
def test_loada(config, seed):
    rng = np.random.default_rng(seed)
    w = config.planes
    log2 = int(rng.integers(config.chunks_per_lanes.bit_length())) if w == 1 else 0
    units = int(rng.integers(1, 4)) if w > 1 or 1 << log2 == config.chunks_per_lanes else 1
    kh, kw, h, width = (int(n) for n in rng.integers(1, 4, 4))
    valid = int(rng.integers(2))
    row_stride = width * units * w << log2
    words = -(-kh * kw * units * (1 << log2) // config.chunks_per_lanes)
    skip = int(rng.integers(4)) if words + 3 <= config.row_depth // 2 else 0
    planes = int(rng.integers(1 + valid, 1 + min(9, config.row_depth // (words + skip) * w)))
    iy, ix = int(rng.integers(-2, h + 1)), int(rng.integers(-3, width + 1))
    start = 64 * config.chunks_per_word + iy * row_stride + (ix * units * w << log2)
    reg = {
        LoadReg.ACT: start % (1 << 21), LoadReg.ROW_STRIDE: row_stride,
        LoadReg.GROUP_STEP: (h - kh + 1) * row_stride & 0x1FFFFF, LoadReg.UNITS: units,
        LoadReg.UNIT_LOG2: log2, LoadReg.KW: kw, LoadReg.KH: kh, LoadReg.STEP: int(rng.integers(1, 5)),
        LoadReg.H: h, LoadReg.W: width, LoadReg.IY: iy, LoadReg.IX: ix, LoadReg.PLANES: planes,
        LoadReg.PAD: int(rng.integers(1 << 9)), LoadReg.VALID: valid,
        LoadReg.VALID_ADDR: 32 * config.chunks_per_word, LoadReg.SKIP: skip,
    }  # fmt: skip
    rows = int(rng.integers(1, config.rows + 1))
    base = int(rng.integers(config.row_depth - -(-planes // config.planes) * (words + skip) + 1))
    m = machine(config, [*sets(Engine.LOAD, reg), word(Op.LOADA, rows=rows, base=base)], rng)
    before = bits(m._rows[0]).copy()
    assert m.run(ENTRY) is Status.OK
    signed = {**reg, LoadReg.ACT: start}
    slow_loada(config, bits(m.memory), before, signed, rows, base)
    assert np.array_equal(bits(m._rows[0]), before)


def slow_tile(config, a, w, abase, wbase, words, stride, groups, planes, sum_code):
    """S [rows, columns + 1] of one whole tile by counting bits, from buffer bits."""
    out = np.zeros((config.rows, config.columns + 1), object)
    for r in range(config.rows):
        for g in range(groups):
            for i in range(config.planes):
                for j in range(planes):
                    for t in range(words):
                        act = a[r, abase + g * stride + t, i]
                        for c in range(config.columns):
                            match = int((act == w[c, wbase + j * words + t]).sum())
                            out[r, c] += match << (config.planes * g + i + j)
                        match = int((act == (sum_code >> j & 1)).sum())
                        out[r, -1] += match << (config.planes * g + i + j)
    return out


def random_buffers(m, rng):
    m._rows[:] = rng.integers(256, size=m._rows.shape, dtype=np.uint8)
    m._columns[:] = rng.integers(256, size=m._columns.shape, dtype=np.uint8)
    return bits(m._rows[0]), bits(m._columns)


def exec_registers(words, stride, groups, planes, sum_code):
    return sets(Engine.EXEC, {
        ExecReg.WORDS: words, ExecReg.STRIDE: stride, ExecReg.GROUPS: groups, ExecReg.PLANES: planes,
        ExecReg.SUM_CODE: sum_code,
    })  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("groups,planes", [(1, 1), (2, 3), (3, 1)])
@pytest.mark.parametrize("stride", [4, 7])
def test_exec(config, groups, planes, stride):
    """One EXEC, and the same tile by one EXEC per plane pair and half (cont, open)."""
    rng = np.random.default_rng(groups)
    words, sum_code = 4, int(rng.integers(1 << planes))
    raw = {StoreReg.DST: 256 * 32 // config.granule, StoreReg.PIXEL_STRIDE: config.columns * 32 // config.granule,
           StoreReg.RAW: 1}  # fmt: skip
    program = [*exec_registers(words, stride, groups, planes, sum_code), *sets(Engine.STORE, raw)]
    top = {"atop": 1 + (groups - 1) * stride, "wtop": 2 + (planes - 1) * words}
    program += [word(Op.EXEC, first=True, drain=True, **top), word(Op.STORE, rows=config.rows)]
    pieces = []
    for e in range(config.planes * (groups - 1) + planes - 1, -1, -1):
        pairs = [(g, e - config.planes * g) for g in range(groups) if 0 <= e - config.planes * g < planes]
        if not pairs:  # it needs a null operand: only the EXEC of the whole tile
            pieces = []
            break
        parts = [(g, j, half) for g, j in pairs for half in (0, 2)]
        for n, (g, j, half) in enumerate(parts):
            pieces += exec_registers(2, 2, 1, 1, sum_code >> j & 1)
            pieces.append(
                word(Op.EXEC, first=not any(w >> 28 == Op.EXEC for w in pieces), cont=n > 0, open=n < len(parts) - 1,
                     drain=e == 0 and n == len(parts) - 1, atop=1 + g * stride + half, wtop=2 + j * words + half)
            )  # fmt: skip
    m = machine(config, [], rng)
    for code in (program, [*program[:-2], *pieces, program[-1]])[: 1 + bool(pieces)]:
        m.memory[4 * ENTRY :][: 4 * len(code) + 4] = np.frombuffer(
            np.array([*code, word(Op.HALT)], "<u4").tobytes(), np.uint8
        )
        a, w = bits(m._rows[0]), bits(m._columns)
        m.reset = lambda: None  # type: ignore[method-assign]  # keeps the buffers filled below
        a, w = random_buffers(m, rng)
        m._a_codes.clear()
        m._w_codes.clear()
        m.drained.clear()
        assert m.run(ENTRY) is Status.OK
        expected = slow_tile(config, a, w, 1, 2, words, stride, groups, planes, sum_code) % (1 << config.acc_width)
        assert np.array_equal(m.drained[-1], expected.astype(np.int64))
        place = 256 * 32 // 8
        stored = m.memory[place : place + 4 * config.rows * config.columns].view("<u4")
        assert np.array_equal(stored, expected[:, :-1].astype(np.int64).ravel())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("shift", [0, 1])
def test_store(config, pool, shift):
    """Ladders, index rounded down to the columns; sum column; pooling with low and high; planes that a group has beyond
    those of the code are zeros; all other bits stay."""
    rng = np.random.default_rng(7)
    n_bits, tile, ladder = 3, 1, 2 * config.columns
    count = config.ladder_depth
    zeros = Ladders.zeros(count)
    limits = {"valid": 2, "neg": 2, "shift": 8, "offset": 1 << config.acc_width, "multiplier": 250, "fraction": 250}
    ladders = dataclasses.replace(zeros, **{name: rng.integers(hi, size=count) for name, hi in limits.items()})
    data = pack_ladder(ladders, config).astype("<u4").tobytes()
    pixel = max(2 * config.columns, config.chunk) // config.granule * config.planes
    dst = 512 * 32 // config.granule
    registers = {
        StoreReg.DST: dst, StoreReg.PIXEL_STRIDE: pixel, StoreReg.GROUP_STRIDE: pixel * config.rows,
        StoreReg.BITS: n_bits, StoreReg.SUM: 1, StoreReg.RAW: 0, StoreReg.LADDER: ladder + 1, StoreReg.SHIFT: shift,
    }  # fmt: skip
    steps = [(Pool.FIRST, 0, 0), (Pool.NEXT, 1, 31), (Pool.LAST, 0, config.rows - 1)] if pool else [(Pool.NONE, 0, 0)]
    program = [*sets(Engine.LOAD, {LoadReg.WGT: 160 * 32 // config.chunk}), word(Op.LOADP, base=0, count=count)]
    program += [*sets(Engine.STORE, registers), *exec_registers(1, 1, 1, 1, 1)]
    for n, (kind, low, high) in enumerate(steps):
        program.append(word(Op.EXEC, first=True, drain=True, atop=n, wtop=n))
        program.append(word(Op.STORE, rows=config.rows, pool=kind, tile=tile, low=low, high=high))
    m = machine(config, program, rng)
    m.memory[640 : 640 + len(data)] = np.frombuffer(data, np.uint8)
    m.reset = lambda: None  # type: ignore[method-assign]
    a, w = random_buffers(m, rng)
    before = bits(m.memory).copy()
    assert m.run(ENTRY) is Status.OK
    best, valid = np.zeros((config.rows, config.columns), int), [0] * config.columns
    for n, (kind, low, high) in enumerate(steps):
        s = slow_tile(config, a, w, n, n, 1, 1, 1, 1, 1)
        for r in range(config.rows):
            for c in range(config.columns):
                channel = (ladder + tile * config.columns + c) % config.ladder_depth
                valid[c], neg, down, offset, mul, fraction = (int(getattr(ladders, name)[channel]) for name in limits)
                t = s[r, c] + s[r, -1]
                d = (offset - t if neg else t - offset) % (1 << config.acc_width)
                d -= (1 << config.acc_width) if d >> (config.acc_width - 1) else 0
                code = 0 if d < 0 else min((mul * d + fraction) >> down, (1 << n_bits) - 1)
                if kind is Pool.NONE or low <= r <= high:
                    best[r, c] = max(best[r, c], code)
    w = config.planes
    first = shift if w > 1 else 0
    for r in range(config.rows):
        for place in range(-(-(n_bits + first) // w) * w):
            for c in range(config.columns):
                unit, lane = divmod(tile * config.columns + c, config.chunk)
                at = (dst + r * pixel + place // w * pixel * config.rows) * config.granule
                at += (unit * w + place % w) * config.chunk + lane
                before[at] = (best[r, c] << first | valid[c] * first) >> place & 1
    assert np.array_equal(bits(m.memory), before)


def test_loadw_and_loadp_advance():
    config = PRESETS["test_tiny"]
    rng = np.random.default_rng(0)
    start = 100 * config.chunks_per_word
    program = sets(Engine.LOAD, {LoadReg.WGT: start, LoadReg.WWORDS: 3})
    program += [word(Op.LOADW, base=5), word(Op.LOADW, base=8), word(Op.LOADP, base=4, count=2)]
    m = machine(config, program, rng)
    assert m.run(ENTRY) is Status.OK
    lane_bytes = config.lanes // 8
    words = m.memory[400 : 400 + 2 * 3 * config.columns * lane_bytes].reshape(2, config.columns, 3, lane_bytes)
    assert np.array_equal(m._columns[:, 5:8], words[0]) and np.array_equal(m._columns[:, 8:11], words[1])
    assert (
        m._reg[Engine.LOAD][LoadReg.WGT]
        == start + 6 * config.columns * config.chunks_per_lanes + 2 * config.ladder_words * 32 // config.chunk
    )


def test_repeat_nested():
    """Loop counters count each pass anew: 3 * (1 + 4) additions of different sizes."""
    config = PRESETS["test_tiny"]
    add = lambda value: word(Op.ADD, engine=Engine.STORE, reg=StoreReg.DST, value=value)  # noqa: E731
    program = [
        *sets(Engine.STORE, {StoreReg.DST: 0}), add(100), add(-1), word(Op.REPEAT, slot=0, count=4, back=1),
        word(Op.REPEAT, slot=1, count=3, back=3), word(Op.REPEAT, slot=0, count=1, back=4),
    ]  # fmt: skip
    m = machine(config, program, np.random.default_rng(0))
    assert m.run(ENTRY) is Status.OK
    assert m._reg[Engine.STORE][StoreReg.DST] == 3 * (100 - 4)


LOAD_BASICS = {
    LoadReg.ROW_STRIDE: 1, LoadReg.GROUP_STEP: 1, LoadReg.UNITS: 1, LoadReg.KW: 1, LoadReg.KH: 1, LoadReg.STEP: 1,
    LoadReg.H: 1, LoadReg.W: 1, LoadReg.PLANES: 1, LoadReg.WWORDS: 1,
}  # fmt: skip
END = PRESETS["test_tiny"].mem_depth
PER_WORD = PRESETS["test_tiny"].chunks_per_word
LADDER = PRESETS["test_tiny"].ladder_words


@pytest.mark.parametrize(
    "program,status",
    [
        ([0], Status.OPCODE),
        ([3 << 28], Status.OPCODE),
        ([Op.SET << 28 | 3 << 26], Status.OPCODE),
        ([*sets(Engine.LOAD, {LoadReg.ACT: END * PER_WORD}), word(Op.LOADA)], Status.ADDRESS),
        ([*sets(Engine.LOAD, {LoadReg.ACT: END * PER_WORD - 1}), word(Op.LOADA)], Status.OK),
        ([*sets(Engine.LOAD, {LoadReg.ACT: END * PER_WORD, LoadReg.IX: -1}), word(Op.LOADA)], Status.OK),
        ([*sets(Engine.LOAD, {LoadReg.WGT: END * PER_WORD - 7}), word(Op.LOADW)], Status.ADDRESS),
        ([*sets(Engine.LOAD, {LoadReg.WGT: END * PER_WORD - 8}), word(Op.LOADW)], Status.OK),
        ([*sets(Engine.LOAD, {LoadReg.WGT: (END - LADDER + 1) * PER_WORD}), word(Op.LOADP)], Status.ADDRESS),
        ([*sets(Engine.LOAD, {LoadReg.WGT: (END - LADDER) * PER_WORD}), word(Op.LOADP)], Status.OK),
        ([word(Op.STORE)], Status.STALL),
    ],
)
def test_errors(program, status):
    config = PRESETS["test_tiny"]
    program = [*sets(Engine.LOAD, LOAD_BASICS), *program]
    m = machine(config, program, np.random.default_rng(0))
    assert m.run(ENTRY) is status
    assert m.error is status
    assert m.error_pc == ENTRY + len(program) - (status is not Status.OK)
    if status is not Status.OK:  # the next run starts afresh
        m.memory[4 * ENTRY :][:4] = np.frombuffer(word(Op.HALT).to_bytes(4, "little"), np.uint8)
        assert m.run(ENTRY) is Status.OK


@pytest.mark.parametrize("raw", [0, 1])
@pytest.mark.parametrize("over", [0, 1])
def test_store_out_of_range(raw, over):
    config = PRESETS["test_tiny"]
    granules = config.mem_depth * config.granules_per_word
    last = granules - (config.columns * 32 // config.granule if raw else 1)
    dst = last + over * (config.granules_per_word if raw else 1)
    registers = {StoreReg.DST: dst, StoreReg.BITS: 1, StoreReg.RAW: raw}
    program = [*sets(Engine.STORE, registers), *exec_registers(1, 1, 1, 1, 0), word(Op.EXEC, first=True, drain=True)]
    m = machine(config, [*program, word(Op.STORE)], np.random.default_rng(0))
    assert m.run(ENTRY) is (Status.ADDRESS if over else Status.OK)


def test_fetch_past_the_end():
    m = Machine(PRESETS["test_tiny"])
    m.write(END - 1, sets(Engine.LOAD, {LoadReg.KW: 1}))
    assert m.run(END - 1) is Status.ADDRESS
    assert m.error_pc == END


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_images_together(config):
    """Several images give what each gives alone: in memory, and in every drained word."""
    rng = np.random.default_rng(1)
    program = [*sets(Engine.LOAD, {
        LoadReg.ACT: 256 * config.chunks_per_word, LoadReg.ROW_STRIDE: 2 * config.planes,
        LoadReg.GROUP_STEP: 2, LoadReg.UNITS: 1, LoadReg.KW: 1, LoadReg.KH: 2, LoadReg.STEP: 1, LoadReg.H: 9,
        LoadReg.W: 9, LoadReg.PLANES: 3,
        LoadReg.WGT: 320 * config.chunks_per_word, LoadReg.WWORDS: 4,
    })]  # fmt: skip
    groups = -(-3 // config.planes)
    program += [word(Op.LOADA, rows=config.rows), word(Op.LOADW), word(Op.LOADP, count=config.columns)]
    dst = 700 * config.granules_per_word
    store = {StoreReg.DST: dst, StoreReg.PIXEL_STRIDE: 8, StoreReg.GROUP_STRIDE: 128, StoreReg.BITS: 2}
    program += [*exec_registers(2, 2, groups, 2, 2), *sets(Engine.STORE, store)]
    for kind in (Pool.FIRST, Pool.LAST, Pool.NONE):
        tile = word(Op.EXEC, first=True, drain=True)
        program += [tile, word(Op.STORE, rows=config.rows, pool=kind)]
        program.append(word(Op.ADD, engine=Engine.STORE, reg=StoreReg.DST, value=config.granules_per_word * 32))
    program += [*sets(Engine.STORE, {StoreReg.RAW: 1, StoreReg.PIXEL_STRIDE: 32 // config.granule * config.columns})]
    program += [word(Op.EXEC, first=True, drain=True), word(Op.STORE, rows=config.rows)]
    alone = machine(config, program, rng)
    together = Machine(config, images=3)
    size = config.mem_width // 8
    together.memories[:] = alone.memory
    together.memories[:, 256 * size : 288 * size] = rng.integers(256, size=(3, 32 * size), dtype=np.uint8)
    starts = together.memories.copy()
    assert together.run(ENTRY) is Status.OK
    for n in range(3):
        alone.memory[:] = starts[n]
        assert alone.run(ENTRY) is Status.OK
        assert np.array_equal(alone.memory, together.memories[n])
        assert np.array_equal(np.stack(alone.drained), np.stack([tile[n] for tile in together.drained]))
        assert alone.read(700, 40) == together.read(700, 40, image=n)
    assert not np.array_equal(together.memories[0], together.memories[1])
    together.memories[1, 320 * size] ^= 1
    with pytest.raises(Exception, match="images with different filters or ladders"):
        together.run(ENTRY)


def test_image_too_long():
    m = Machine(PRESETS["test_tiny"])
    with pytest.raises(Exception, match="8 bytes at word 16383 exceed main memory"):
        m.load(bytes(8), END - 1)
