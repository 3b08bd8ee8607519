"""Instruction set of the sequencer: 32-bit words, one queue per engine, tokens between the engines.

The fetch unit reads instructions in order and hands each to the queue of its engine (loader, execute, store).
Each engine works through its own queue; three token counters keep order between them:

* *filled*: the loader signals, execute waits (a buffer has its data);
* *freed*: execute signals, the loader waits (a buffer may be overwritten);
* *done*: the store engine signals, the loader waits (a layer's output is in main memory).

Addresses: sources count chunks (`Config.chunk` bits), destinations count granules (`Config.granule` bits), programs
count instructions (32-bit words).
"""

from dataclasses import dataclass
from enum import IntEnum

from .errors import DipoleError

__all__ = [
    "FIELDS",
    "Engine",
    "ExecReg",
    "Instruction",
    "IsaError",
    "LoadReg",
    "Op",
    "Pool",
    "StoreReg",
    "decode",
    "encode",
]


class IsaError(DipoleError):
    """An instruction that cannot be encoded or decoded; the message names the field and its value."""


class Op(IntEnum):
    """Operation, bits 31..28. 0 and the values left out are errors on the device."""

    SET = 1
    """Set register `reg` of `engine` to `value` (21 bits, two's complement where the register is signed)."""
    ADD = 2
    """Add `value` (signed) to register `reg` of `engine`; only LoadReg.ACT, IY, IX and StoreReg.DST."""
    LOADA = 4
    """Loader: fill the row buffers from `base` with the patches of `rows` output pixels."""
    LOADW = 5
    """Loader: fill every column buffer from `base` with WWORDS lane words."""
    LOADP = 6
    """Loader: fill the ladder memory from `base` with the parameters of `count` channels."""
    AWAIT = 7
    """Loader: wait for a done token."""
    EXEC = 8
    """Execute: one tile, or a part of its plane pairs and words."""
    STORE = 9
    """Store: drain one tile, requantize, pool, write the planes of `rows` output pixels."""
    DONE = 10
    """Store: when everything before is in main memory, signal a done token."""
    REPEAT = 11
    """Fetch: go back `back` instructions, `count` - 1 times; two loop counters (`slot`)."""
    HALT = 15
    """Fetch: wait until all engines are idle, then stop."""


class Engine(IntEnum):
    LOAD = 0
    EXEC = 1
    STORE = 2


class LoadReg(IntEnum):
    """Registers of the loader."""

    ACT = 0
    """Chunk address of group 0 of the patch's top left pixel in row 0; may point outside where padded."""
    ROW_STRIDE = 1
    """Chunks from one input row to the next."""
    GROUP_STEP = 2
    """Chunks from the last kernel row of a group of planes to the first one of the next: group stride - (KH - 1) *
    ROW_STRIDE, modulo 2^21."""
    UNITS = 3
    """Units per pixel; pixels follow each other without gaps, and so do the planes of a group in a unit."""
    UNIT_LOG2 = 4
    """log2 of the chunks per unit and plane; a unit is at most `lanes` bits and aligned to its size. Not there with
    several planes per cycle, where a unit is a chunk."""
    KW = 5
    """Kernel width in pixels."""
    KH = 6
    """Kernel height in pixels."""
    STEP = 7
    """Input pixels between the patches of neighbouring rows, at least 1."""
    H = 8
    """Input height in pixels."""
    W = 9
    """Input width in pixels."""
    IY = 10
    """Signed input row of the patch's top left pixel."""
    IX = 11
    """Signed input column of the patch's top left pixel in row 0."""
    PLANES = 12
    """Activation planes to load, the validity plane included."""
    PAD = 13
    """Code of a pixel outside the image: bit m fills plane m. Planes that a group has beyond PLANES are filled with
    their bits everywhere."""
    VALID = 14
    """1: plane 0 is the validity plane, read for every pixel from VALID_ADDR; ACT holds the planes behind it. Not there
    with several planes per cycle, where the validity plane stands in main memory with the others."""
    VALID_ADDR = 15
    """Chunk address of the one pixel that serves as validity plane (ones at real channels). Not there as VALID."""
    SKIP = 16
    """Row buffer words left as they are between the patches of two groups of planes."""
    WGT = 17
    """Chunk address of the next weights or ladder parameters; LOADW and LOADP advance it."""
    WWORDS = 18
    """Lane words per column for one LOADW."""


class ExecReg(IntEnum):
    """Registers of the execute engine."""

    WORDS = 0
    """Lane words per plane."""
    STRIDE = 1
    """Row buffer words from one group of activation planes to the next."""
    GROUPS = 2
    """Groups of `Config.planes` activation planes."""
    PLANES = 3
    """Weight planes."""
    SUM_CODE = 4
    """Weight code of the activation-sum column, the same in every lane."""


class StoreReg(IntEnum):
    """Registers of the store engine."""

    DST = 0
    """Granule address of plane 0 of the output pixel of row 0, channel 0."""
    PIXEL_STRIDE = 1
    """Granules between the output pixels of neighbouring rows."""
    GROUP_STRIDE = 2
    """Granules from one group of output planes to the next."""
    BITS = 3
    """Bits of an output code, 1..8."""
    SUM = 4
    """1: add the activation-sum column to every result."""
    RAW = 5
    """1: write each result as a 32-bit word (zero-extended accumulator), no ladder, no planes."""
    SHIFT = 6
    """1: codes are written from plane 1 on, plane 0 gets the validity plane (`valid` of the ladder). Only there with
    several planes per cycle."""
    LADDER = 7
    """Index of the ladder of column 0 of column tile 0, a multiple of the columns (what is below that is ignored)."""


class Pool(IntEnum):
    """What STORE does with the codes of a tile in the pool buffer (one code per row and column)."""

    NONE = 0
    FIRST = 1
    """Buffer = code."""
    NEXT = 2
    """Buffer = max(buffer, code)."""
    LAST = 3
    """Write max(buffer, code) to main memory."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction; fields that its operation does not have stay at their defaults."""

    op: Op
    engine: Engine = Engine.LOAD
    reg: int = 0
    value: int = 0
    wait: bool = False
    """LOADA, LOADW, LOADP: wait for a freed token first. EXEC: wait for a filled token first."""
    signal: bool = False
    """LOADA, LOADW, LOADP: signal filled at the end. EXEC: signal freed when the last word has been read."""
    rows: int = 1
    base: int = 0
    count: int = 1
    first: bool = False
    """EXEC: the tile starts here; the result register is cleared before the first run's sum is added."""
    cont: bool = False
    """EXEC: the first run continues the open run of the EXEC before."""
    open: bool = False
    """EXEC: leave the last run open."""
    drain: bool = False
    """EXEC: the tile ends here; results go to the drain when it is free."""
    wtop: int = 0
    """EXEC: column buffer address of the first word of the highest weight plane, modulo the depth."""
    atop: int = 0
    """EXEC: row buffer address of the first word of the highest group of activation planes, modulo the depth."""
    pool: Pool = Pool.NONE
    tile: int = 0
    """STORE: column tile; offsets ladder index by tile * columns and destination accordingly."""
    low: int = 0
    high: int = 31
    """STORE: rows low..high take part in pooling, the others count as code 0."""
    slot: int = 0
    back: int = 0


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


# Field layouts of every operation: name -> (lowest bit, width, encoded = value - bias).
_BUFFER = {"wait": (27, 1, 0), "signal": (26, 1, 0), "base": (0, 11, 0)}
FIELDS: dict[Op, dict[str, tuple[int, int, int]]] = {
    Op.SET: {"engine": (26, 2, 0), "reg": (21, 5, 0), "value": (0, 21, 0)},
    Op.ADD: {"engine": (26, 2, 0), "reg": (21, 5, 0), "value": (0, 21, 0)},
    Op.LOADA: {**_BUFFER, "rows": (21, 5, 1)},
    Op.LOADW: _BUFFER,
    Op.LOADP: {"wait": (27, 1, 0), "signal": (26, 1, 0), "count": (12, 12, 1), "base": (0, 12, 0)},
    Op.AWAIT: {},
    Op.EXEC: {
        "wait": (27, 1, 0), "signal": (26, 1, 0), "first": (25, 1, 0), "cont": (24, 1, 0), "open": (23, 1, 0),
        "drain": (22, 1, 0), "wtop": (11, 11, 0), "atop": (0, 11, 0),
    },
    Op.STORE: {
        "pool": (26, 2, 0), "rows": (21, 5, 1), "tile": (15, 6, 0), "low": (10, 5, 0), "high": (5, 5, 0),
    },
    Op.DONE: {},
    Op.REPEAT: {"slot": (27, 1, 0), "count": (14, 13, 1), "back": (0, 14, 0)},
    Op.HALT: {},
}  # fmt: skip


def encode(instruction: Instruction) -> int:
    """The 32-bit word of an instruction; raises IsaError where a field does not fit."""
    word = instruction.op << 28
    for name, (shift, width, bias) in FIELDS[instruction.op].items():
        value = int(getattr(instruction, name)) - bias
        if name == "value" and -(1 << 20) <= value < 0:
            value += 1 << 21
        if not 0 <= value < 1 << width:
            raise IsaError(f"{instruction.op.name}: {name} is {value + bias}, does not fit {width} bits")
        word |= value << shift
    return word


def decode(word: int) -> Instruction:
    """The instruction of a 32-bit word; SET and ADD values of signed registers come back signed."""
    try:
        op = Op(word >> 28 & 15)
    except ValueError:
        raise IsaError(f"bad opcode {word >> 28 & 15} in instruction {word:#010x}") from None
    types = Instruction.__dataclass_fields__
    fields: dict[str, int] = {}
    for name, (shift, width, bias) in FIELDS[op].items():
        value = (word >> shift & ((1 << width) - 1)) + bias
        kind = types[name].type
        fields[name] = value if kind is int else kind(value)  # type: ignore[operator]
    signed_registers = {(Engine.LOAD, LoadReg.IY), (Engine.LOAD, LoadReg.IX)}
    if op is Op.ADD or (op is Op.SET and (fields["engine"], fields["reg"]) in signed_registers):
        fields["value"] = _signed(fields["value"], 21)
    return Instruction(op=op, **fields)  # type: ignore[arg-type]
