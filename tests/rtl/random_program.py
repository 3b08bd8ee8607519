"""Random programs at the level of instructions: any geometry the registers can say, not only what the compiler
emits."""

import numpy as np

from dipole.golden.isa import Engine, ExecReg, Instruction, LoadReg, Op, Pool, StoreReg, encode
from dipole.rtl.config import Config

__all__ = ["random_program"]


def random_program(config: Config, rng: np.random.Generator, layers: int = 3, tiles: int = 6) -> tuple[bytes, int]:
    """A memory image full of random bits with a program at its end, and the program's entry (instruction index).

    Every layer loads random patches (padding, validity plane, steps), weights and ladders, computes tiles in every
    EXEC form,
    and stores them pooled, as planes or raw, into the second half of memory.
    """
    words_total = config.mem_depth * config.mem_width // 32
    chunks = config.mem_depth * config.chunks_per_word
    granules = config.mem_depth * config.granules_per_word
    program: list[Instruction] = []
    emit = program.append

    def integer(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    def set_(engine: Engine, reg: int, value: int) -> None:
        emit(Instruction(op=Op.SET, engine=engine, reg=reg, value=value))

    loads = 0
    per_lanes = config.chunks_per_lanes
    for _ in range(layers):
        unit_log2 = integer(0, per_lanes.bit_length() - 1) if config.planes == 1 else 0
        unit = config.planes << unit_log2  # chunks of all planes
        while True:
            kh, kw, units = integer(1, 5), integer(1, 5), integer(1, 3)
            planes, weight_planes = integer(1, 9), integer(1, 8)
            words = -(-kh * kw * units * (1 << unit_log2) // per_lanes)
            groups = -(-planes // config.planes)
            skip = integer(0, 3)
            fits = (words + skip) * groups * 2 <= config.row_depth and words * weight_planes * 2 <= config.column_depth
            if fits and words * groups * weight_planes < 700:
                break
        step, valid = integer(1, 3), integer(0, 1)
        h, w = integer(1, 9), integer(1, 9)
        row_stride = w * units * unit + unit * integer(0, 2)
        for reg, value in {
            LoadReg.ROW_STRIDE: row_stride,
            LoadReg.GROUP_STEP: (row_stride * (h - kh + 1) + unit * integer(0, 3)) & ((1 << 21) - 1),
            LoadReg.UNITS: units, LoadReg.UNIT_LOG2: unit_log2, LoadReg.KW: kw, LoadReg.KH: kh, LoadReg.STEP: step,
            LoadReg.H: h, LoadReg.W: w, LoadReg.PLANES: planes, LoadReg.PAD: integer(0, 511), LoadReg.VALID: valid,
            LoadReg.VALID_ADDR: unit * integer(0, 50), LoadReg.SKIP: skip,
            LoadReg.WWORDS: words * weight_planes, LoadReg.WGT: 32 // config.chunk * integer(0, 20),
        }.items():  # fmt: skip
            set_(Engine.LOAD, reg, value)
        sum_code = integer(0, (1 << weight_planes) - 1)
        for reg, value in {
            ExecReg.WORDS: words, ExecReg.STRIDE: words + skip, ExecReg.GROUPS: groups, ExecReg.PLANES: weight_planes,
            ExecReg.SUM_CODE: sum_code,
        }.items():  # fmt: skip
            set_(Engine.EXEC, reg, value)
        raw = integer(0, 3) == 0
        bits = integer(1, 8)
        pixel_bits = 64 * 32 if raw else max(2 * config.columns, config.chunk) * config.planes
        pixel_stride = pixel_bits // config.granule
        for reg, value in {
            StoreReg.DST: granules // 2, StoreReg.PIXEL_STRIDE: pixel_stride,
            StoreReg.GROUP_STRIDE: pixel_stride * 40, StoreReg.BITS: bits, StoreReg.SUM: integer(0, 1),
            StoreReg.RAW: int(raw), StoreReg.SHIFT: integer(0, 1), StoreReg.LADDER: 0,
        }.items():  # fmt: skip
            set_(Engine.STORE, reg, value)
        column_tiles = min(2, config.ladder_depth // config.columns)
        emit(Instruction(op=Op.LOADP, base=0, count=column_tiles * config.columns))
        set_(Engine.LOAD, LoadReg.WGT, per_lanes * integer(0, 20))
        emit(Instruction(op=Op.LOADW, base=0))
        second = config.column_depth // 2
        emit(Instruction(op=Op.LOADW, base=second))

        pool, window_rows = Pool.NONE, 0
        for _ in range(integer(1, tiles)):
            rows = window_rows or integer(1, config.rows)
            iy, ix = integer(-3, h + 1), integer(-3, w + 1)
            act = max(0, min(chunks // 4, unit * integer(0, 60) + (iy * w + ix) * units * unit))
            for reg, value in ((LoadReg.IY, iy), (LoadReg.IX, ix), (LoadReg.ACT, act)):
                if integer(0, 1):
                    set_(Engine.LOAD, reg, value)
                else:
                    set_(Engine.LOAD, reg, value - 3 if reg is not LoadReg.ACT else value)
                    delta = 3 if reg is not LoadReg.ACT else 0
                    emit(Instruction(op=Op.ADD, engine=Engine.LOAD, reg=reg, value=delta))
            base = (loads % 2) * (config.row_depth // 2)
            emit(Instruction(op=Op.LOADA, wait=loads >= 2, signal=True, rows=rows, base=base))
            loads += 1
            repeats = integer(1, 2)
            for k in range(repeats):
                emit(Instruction(op=Op.EXEC, wait=k == 0, signal=k == repeats - 1, first=True, drain=True,
                                 atop=base + (words + skip) * (groups - 1),
                                 wtop=second * integer(0, 1) + words * (weight_planes - 1)))  # fmt: skip
                if raw:
                    pool = Pool.NONE
                elif pool in (Pool.FIRST, Pool.NEXT):
                    pool = [Pool.NEXT, Pool.LAST][integer(0, 1)]
                else:
                    pool = [Pool.NONE, Pool.FIRST][integer(0, 1)]
                # A pooling window keeps its rows: what lies beyond them in the pool buffer is from another window.
                window_rows = rows if pool in (Pool.FIRST, Pool.NEXT) else 0
                low = integer(0, config.rows - 1)
                emit(Instruction(op=Op.STORE, rows=rows, tile=integer(0, column_tiles - 1), pool=pool, low=low,
                                 high=integer(low, 31)))  # fmt: skip
                emit(Instruction(op=Op.ADD, engine=Engine.STORE, reg=StoreReg.DST, value=pixel_stride * integer(0, 2)))
        emit(Instruction(op=Op.DONE))
        emit(Instruction(op=Op.AWAIT))
    # Two nested loops around a harmless instruction, then the end.
    harmless = Instruction(op=Op.SET, engine=Engine.EXEC, reg=ExecReg.SUM_CODE, value=1)
    emit(harmless)
    emit(Instruction(op=Op.REPEAT, slot=0, count=integer(1, 3), back=1))
    emit(Instruction(op=Op.REPEAT, slot=1, count=integer(1, 3), back=2))
    emit(Instruction(op=Op.HALT))

    image = rng.integers(0, 1 << 32, words_total, dtype=np.uint32)
    # Ladders that give codes of all sizes: most random parameters saturate.
    entry = words_total - len(program) - integer(0, 3)
    image[entry : entry + len(program)] = [encode(i) for i in program]
    return image.tobytes(), entry
