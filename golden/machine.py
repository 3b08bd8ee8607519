"""Stage 3 of the golden models, values: runs a program on the machine of docs/architecture.md, bit exactly.

The three engines of the hardware are decoupled, and tokens keep their order; a program whose tokens are right (see
compiler/tokens.py) gives the same results in program order, which is how this model executes it. golden/timing.py
predicts the cycles of the same instruction stream.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from .errors import DipoleError
from .isa import Engine, ExecReg, Instruction, IsaError, LoadReg, Op, Pool, StoreReg, decode
from .ladder import Ladders, unpack_ladder
from .loadmap import LoadMap, Sizes, load_key, load_map
from .tensor import group_granules, tile_address, writes_of_code

__all__ = ["Machine", "Status"]

_ADDRESS_MASK = (1 << 21) - 1
_UNDEFINED = 0xFF  # bytes of buffers that nothing has loaded yet: any fixed pattern, but not the harmless zero


class Status(IntEnum):
    """Why a machine stopped."""

    OK = 0
    OPCODE = 1
    """An instruction that does not exist."""
    ADDRESS = 2
    """An access at or beyond the end of main memory."""
    STALL = 3
    """A STORE for which no tile has been drained: the device waits for it until its watchdog bites."""


class _Stop(Exception):
    def __init__(self, status: Status):
        self.status = status


@dataclass(frozen=True, eq=False)
class _Places:
    """Where the bits of codes go: one entry per byte, of less than 8 bits where granules are that small."""

    byte: np.ndarray
    shift: np.ndarray
    mask: np.ndarray
    end: int
    """Bits up to the last one written."""
    parts: list[slice]
    """Entries that can be written together, as no two share a byte."""

    @classmethod
    def of(cls, bit: np.ndarray, count: int) -> "_Places":
        """`count` bits at each bit address of main memory."""
        byte = ((bit >> 3)[..., None] + np.arange(max(count // 8, 1))).ravel()
        shift = (np.repeat(bit.ravel(), max(count // 8, 1)) & 7).astype(np.uint8)
        mask = (((1 << min(count, 8)) - 1) << shift.astype(int)).astype(np.uint8)
        apart = len(np.unique(byte)) == len(byte)
        parts = [slice(None)] if apart else [slice(n, n + 1) for n in range(len(byte))]
        return cls(byte, shift, mask, int(bit.max()) + count, parts)


class Machine:
    """One accelerator with its main memory, or several that run the same program on different images.

    Control does not depend on data, so many images together take little longer than one.

    Parameters
    ----------
    config : Config
        Sizes of the accelerator.
    images : int
        Accelerators, each with a main memory of its own.

    Attributes
    ----------
    error : Status
        Of the last `run`.
    error_pc : int
        Instruction index at which it stopped (HALT, or the instruction with the error).
    drained : list of int64 [rows, columns + 1]
        Results S of every tile in the order in which the array drains them, the rows that its STORE asks for, the
        activation-sum column last; [images, rows, columns + 1] where there are several.
    on_done : callable (index, machine), optional
        Called at every DONE; index counts from 0. The memory then holds what the layer has written.
    """

    def __init__(self, config: Sizes, images: int = 1):
        self.config = config
        self.images = images
        self._bytes = config.mem_depth * config.mem_width // 8
        self._memory = np.zeros((images, self._bytes + 2), np.uint8)  # the constants of golden/loadmap.py at the end
        self._memory[:, -1] = 0xFF
        self.on_done: Callable[[int, Machine], None] | None = None
        self._decoded: dict[int, Instruction] = {}
        self._maps: dict[tuple[object, ...], LoadMap] = {}
        self._places: dict[tuple[int, ...], _Places] = {}
        self._unpacked: dict[bytes, Ladders] = {}
        self.reset()

    # --- what the host sees ----------------------------------------------------------------------

    def reset(self) -> None:
        """Buffers, registers and counters as after power-up; main memory stays."""
        config = self.config
        lane_bytes = config.lanes // 8
        row_buffers = (self.images, config.rows, config.row_depth, config.planes, lane_bytes)
        self._rows = np.full(row_buffers, _UNDEFINED, np.uint8)
        self._columns = np.full((config.columns, config.column_depth, lane_bytes), _UNDEFINED, np.uint8)
        self._ladders = np.full((config.ladder_depth, config.ladder_words), 0xFFFFFFFF, np.uint32)
        self._pool = np.full((self.images, config.rows, config.columns), _UNDEFINED, np.uint8)
        self._reg = {Engine.LOAD: [0] * 32, Engine.EXEC: [0] * 32, Engine.STORE: [0] * 32}
        self._result = np.zeros((self.images, config.rows, config.columns + 1), np.int64)
        self._run = np.zeros_like(self._result)
        self._waiting: deque[np.ndarray] = deque()
        self._a_codes: dict[tuple[int, ...], np.ndarray] = {}
        self._w_codes: dict[tuple[int, ...], np.ndarray] = {}
        self._tile_ladders: dict[int, Ladders] = {}
        self.drained: list[np.ndarray] = []
        self.done_count = 0
        self.error = Status.OK
        self.error_pc = 0

    @property
    def memory(self) -> np.ndarray:
        """Main memory of the first image as bytes, lowest first (a view)."""
        return self._memory[0, : self._bytes]

    @property
    def memories(self) -> np.ndarray:
        """Main memories, uint8 [images, bytes] (a view)."""
        return self._memory[:, : self._bytes]

    def load(self, image: bytes, address: int = 0) -> None:
        """Write bytes into all main memories from word `address` on."""
        start = address * self.config.mem_width // 8
        if start + len(image) > self._bytes:
            raise DipoleError(f"{len(image)} bytes at word {address} exceed main memory ({self._bytes} bytes)")
        self._memory[:, start : start + len(image)] = np.frombuffer(image, np.uint8)

    def write(self, address: int, words: list[int], image: int | None = None) -> None:
        """Write main memory words from `address` on, of one image or of all."""
        size = self.config.mem_width // 8
        data = b"".join(int(word).to_bytes(size, "little") for word in words)
        if image is None:
            self.load(data, address)
        else:
            self.memories[image, address * size : address * size + len(data)] = np.frombuffer(data, np.uint8)

    def read(self, address: int, count: int = 1, image: int = 0) -> list[int]:
        """`count` main memory words from `address` on."""
        size = self.config.mem_width // 8
        data = self.memories[image, address * size : (address + count) * size].tobytes()
        return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]

    def run(self, entry: int) -> Status:
        """Execute from instruction index `entry` until HALT or an error."""
        self.reset()
        operations = {
            Op.SET: self._set, Op.ADD: self._add, Op.LOADA: self._loada, Op.LOADW: self._loadw,
            Op.LOADP: self._loadp, Op.AWAIT: lambda _: None, Op.EXEC: self._exec, Op.STORE: self._store,
            Op.DONE: self._done,
        }  # fmt: skip
        program = self.memory.view("<u4")
        loops: list[int | None] = [None, None]
        pc = entry
        try:
            while True:
                self.error_pc = pc
                if not 0 <= pc < len(program):
                    raise _Stop(Status.ADDRESS)
                instruction = self._decode(int(program[pc]))
                pc += 1
                if instruction.op is Op.HALT:
                    return self.error
                if instruction.op is Op.REPEAT:
                    left = loops[instruction.slot]
                    left = instruction.count - 1 if left is None else left
                    loops[instruction.slot] = left - 1 if left else None
                    if left:
                        pc -= instruction.back + 1
                else:
                    operations[instruction.op](instruction)
        except _Stop as stop:
            self.error = stop.status
            return self.error

    # --- instructions ----------------------------------------------------------------------------

    def _decode(self, word: int) -> Instruction:
        instruction = self._decoded.get(word)
        if instruction is None:
            try:
                instruction = decode(word)
            except (IsaError, ValueError):
                raise _Stop(Status.OPCODE) from None
            self._decoded[word] = instruction
        return instruction

    def _set(self, i: Instruction) -> None:
        self._reg[i.engine][i.reg] = i.value

    def _add(self, i: Instruction) -> None:
        value = (self._reg[i.engine][i.reg] + i.value) & _ADDRESS_MASK
        if i.engine is Engine.LOAD and i.reg in (LoadReg.IY, LoadReg.IX) and value >> 20:
            value -= 1 << 21
        self._reg[i.engine][i.reg] = value

    def _loada(self, i: Instruction) -> None:
        reg = self._reg[Engine.LOAD]
        key = load_key(reg, i.rows, i.base)
        plan = self._maps.get(key)
        if plan is None:
            plan = self._maps[key] = load_map(self.config, reg, i.rows, i.base)
        chunk_bytes = self.config.chunk // 8
        reads = plan.reads(reg[LoadReg.ACT])
        if reads.size and (int(reads.max()) + plan.unit_chunks) * chunk_bytes > self._bytes:
            raise _Stop(Status.ADDRESS)
        source = plan.source(reads, chunk_bytes, self._bytes)
        self._rows.reshape(self.images, -1)[:, plan.target] = self._memory[:, source]
        self._a_codes.clear()

    def _constants(self, start: int, count: int) -> np.ndarray:
        """`count` bytes of main memory from byte `start` on: filters or ladders, the same for all images."""
        if start + count > self._bytes:
            raise _Stop(Status.ADDRESS)
        data = self._memory[:, start : start + count]
        if self.images > 1 and (data != data[0]).any():
            raise DipoleError(f"images with different filters or ladders at byte {start}: run them one by one")
        return data[0]

    def _loadw(self, i: Instruction) -> None:
        reg, config = self._reg[Engine.LOAD], self.config
        words = reg[LoadReg.WWORDS]
        shape = (config.columns, words, config.lanes // 8)
        data = self._constants(reg[LoadReg.WGT] * config.chunk // 8, int(np.prod(shape))).reshape(shape)
        self._columns[:, (i.base + np.arange(words)) % config.column_depth] = data
        reg[LoadReg.WGT] = (reg[LoadReg.WGT] + config.columns * words * config.lanes // config.chunk) & _ADDRESS_MASK
        self._w_codes.clear()

    def _loadp(self, i: Instruction) -> None:
        reg, config = self._reg[Engine.LOAD], self.config
        size = config.ladder_words * 4
        data = self._constants(reg[LoadReg.WGT] * config.chunk // 8, i.count * size)
        self._ladders[(i.base + np.arange(i.count)) % config.ladder_depth] = data.view("<u4").reshape(i.count, -1)
        self._tile_ladders.clear()
        reg[LoadReg.WGT] = (reg[LoadReg.WGT] + i.count * size * 8 // config.chunk) & _ADDRESS_MASK

    def _activations(self, start: int, words: int, stride: int, groups: int) -> np.ndarray:
        """Odd integers float64 [images * rows, words * lanes] of the patches whose lowest group is at `start`."""
        codes = self._a_codes.get(key := (start, words, stride, groups))
        if codes is None:
            config = self.config
            address = (start + np.add.outer(np.arange(groups) * stride, np.arange(words)).ravel()) % config.row_depth
            bits = np.unpackbits(self._rows[:, :, address], axis=-1, bitorder="little")
            bits = bits.reshape(self.images * config.rows, groups, words, config.planes, config.lanes)
            weight = 2.0 ** np.arange(groups * config.planes).reshape(groups, config.planes)
            codes = 2 * np.einsum("rgtpl,gp->rtl", bits, weight) - (2.0 ** (groups * config.planes) - 1)
            codes = self._a_codes[key] = codes.reshape(len(codes), -1)
        return codes

    def _weights(self, start: int, words: int, planes: int, sum_code: int) -> np.ndarray:
        """Odd integers float64 [words * lanes, columns + 1] of the filters whose lowest plane is at `start`."""
        codes = self._w_codes.get(key := (start, words, planes, sum_code))
        if codes is None:
            config = self.config
            address = (start + np.arange(planes * words)) % config.column_depth
            bits = np.unpackbits(self._columns[:, address], axis=-1, bitorder="little")
            bits = bits.reshape(config.columns, planes, words * config.lanes)
            top = (1 << planes) - 1
            codes = np.empty((words * config.lanes, config.columns + 1))
            codes[:, :-1] = 2 * np.einsum("cpl,p->lc", bits, 2.0 ** np.arange(planes)) - top
            codes[:, -1] = 2 * (sum_code & top) - top
            self._w_codes[key] = codes
        return codes

    def _exec(self, i: Instruction) -> None:
        reg, config = self._reg[Engine.EXEC], self.config
        words, groups, planes = reg[ExecReg.WORDS], reg[ExecReg.GROUPS], reg[ExecReg.PLANES]
        stride = reg[ExecReg.STRIDE]
        lowest_a = i.atop - (groups - 1) * stride
        lowest_w = i.wtop - (planes - 1) * words

        def total(groups: int, planes: int) -> np.ndarray:
            """Sum of 2^(i+j) * popcount over the lowest groups and planes: S = (D + N*A*B) / 2."""
            a = self._activations(lowest_a, words, stride, groups)
            w = self._weights(lowest_w, words, planes, reg[ExecReg.SUM_CODE])
            product = (a @ w).reshape(self._result.shape)  # integers below 2^53: exact
            levels = ((1 << groups * config.planes) - 1) * ((1 << planes) - 1)
            return (product.astype(np.int64) + words * config.lanes * levels) >> 1

        if i.first:
            self._result = np.zeros_like(self._result)
        mask, run_mask = (1 << config.acc_width) - 1, (1 << config.run_width) - 1
        exponents = config.planes * (groups - 1) + planes
        value = total(groups, planes)
        carried = self._run if i.cont else np.zeros_like(self._run)
        if i.open:
            last = total(1, 1)  # exponent 0 is the one pair of group 0 and plane 0
            self._run = (last + carried if exponents == 1 else last) & run_mask
            value = (value - last) >> 1
            exponents -= 1
        if i.cont and exponents:
            value = value + (carried << (exponents - 1))
        self._result = ((self._result << exponents) + value) & mask
        if i.drain:
            self._waiting.append(self._result)

    def _ladders_from(self, first: int) -> Ladders:
        """The ladders of a column tile, unpacked; a program uses the same ones again and again."""
        ladders = self._tile_ladders.get(first)
        if ladders is None:
            words = self._ladders[(first + np.arange(self.config.columns)) % self.config.ladder_depth]
            key = words.tobytes()
            ladders = self._unpacked.get(key)
            if ladders is None:
                ladders = self._unpacked[key] = unpack_ladder(words, self.config)
            self._tile_ladders[first] = ladders
        return ladders

    def _store(self, i: Instruction) -> None:
        if not self._waiting:
            raise _Stop(Status.STALL)
        reg, config = self._reg[Engine.STORE], self.config
        rows = min(i.rows, config.rows)
        results = self._waiting.popleft()[:, :rows]
        if not config.sum_column:
            results = results * (np.arange(config.columns + 1) < config.columns)
        self.drained.append(results if self.images > 1 else results[0])
        totals = results[..., :-1]
        if reg[StoreReg.SUM]:
            totals = (totals + results[..., -1:]) & ((1 << config.acc_width) - 1)
        at = i.tile * config.columns
        if reg[StoreReg.RAW]:
            step = 32 // config.granule
            address = reg[StoreReg.DST] + np.arange(rows) * reg[StoreReg.PIXEL_STRIDE] + at * step
            for row, granules in enumerate(address & _ADDRESS_MASK):
                first, count = int(granules) * config.granule // 8, 4 * config.columns
                if first + count > self._bytes:
                    raise _Stop(Status.ADDRESS)
                self._memory[:, first : first + count] = totals[:, row].astype("<u4").view(np.uint8)
            return
        ladders = self._ladders_from((reg[StoreReg.LADDER] & -config.columns) + at)
        codes = ladders.codes(totals, reg[StoreReg.BITS], config.acc_width, axis=2)
        if i.pool is not Pool.NONE:
            row = np.arange(rows)[:, None]
            codes = np.where((i.low <= row) & (row <= i.high), codes, 0).astype(np.uint8)
            if i.pool is not Pool.FIRST:
                codes = np.maximum(codes, self._pool[:, :rows])
            self._pool[:, :rows] = codes
        if i.pool in (Pool.NONE, Pool.LAST):
            self._write_planes(codes, ladders.valid, tile_address(config, reg[StoreReg.DST], i.tile))

    def _write_planes(self, codes: np.ndarray, valid: np.ndarray, start: int) -> None:
        """Whole groups of planes of codes [images, rows, columns], with zeros where the codes have none."""
        reg, config = self._reg[Engine.STORE], self.config
        shift = reg[StoreReg.SHIFT] if config.planes > 1 else 0
        writes = writes_of_code(config, reg[StoreReg.BITS], shift)
        strides = (reg[StoreReg.PIXEL_STRIDE], reg[StoreReg.GROUP_STRIDE])
        rows, granule = codes.shape[1], config.granule
        places = self._places.get(key := (rows, start, writes, *strides))
        if places is None:
            row, group = np.arange(rows)[:, None], np.arange(writes)
            address = (start + row * strides[0] + group * strides[1])[..., None, None] + group_granules(config)
            places = self._places[key] = _Places.of((address & _ADDRESS_MASK) * granule, granule)
        if places.end > 8 * self._bytes:
            raise _Stop(Status.ADDRESS)
        shifted = codes[:, :, None].astype(np.uint16) << shift | valid.astype(np.uint16) * shift
        planes = (shifted >> np.arange(writes * config.planes)[:, None] & 1).astype(np.uint8)
        planes = planes.reshape(-1, granule) if granule < 8 else planes
        packed = np.packbits(planes, axis=-1, bitorder="little").reshape(self.images, -1)
        for part in places.parts:
            at = places.byte[part]
            value = packed[:, part]
            if granule < 8:
                value = self._memory[:, at] & ~places.mask[part] | value << places.shift[part]
            self._memory[:, at] = value

    def _done(self, _: Instruction) -> None:
        index, self.done_count = self.done_count, self.done_count + 1
        if self.on_done is not None:
            self.on_done(index, self)
