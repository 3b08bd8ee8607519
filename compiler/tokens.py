"""Order between the decoupled engines: places tokens in a schedule, and checks those of a finished program.

`filled` and `freed` are counting semaphores: the n-th wait goes on after the n-th signal. Placing them is greedy: an
EXEC waits for the latest load that it needs, unless an earlier EXEC has waited for that one or a later one; a load
waits for the latest EXEC that still reads what it overwrites. Both rise along the program, so signals and waits match
one by one, and each wait is satisfied by a signal that stands before it in the program: no deadlock with any queue.
"""

import numpy as np

from ..golden.errors import DipoleError
from ..golden.isa import Engine, ExecReg, Instruction, LoadReg, Op, Pool, StoreReg
from ..golden.loadmap import LoadMap, load_key, load_map
from ..golden.tensor import tile_address, writes_of_code
from ..rtl.config import Config
from .program import Program, trace
from .task import Task, buffer_words

__all__ = ["TokenError", "check_tokens", "place_tokens"]


class TokenError(DipoleError):
    """A program whose engines could overtake one another, or wait for ever."""


def place_tokens(tasks: list[Task], config: Config) -> None:
    """Set the fields `wait` and `signal` of loads and EXECs, in program order."""
    writer = {"row": np.full(config.row_depth, -1), "column": np.full(config.column_depth, -1)}
    reader = {"row": np.full(config.row_depth, -1), "column": np.full(config.column_depth, -1)}
    loaded = read = -1  # the latest load that EXECs know to be over, and the other way round
    for index, task in enumerate(tasks):
        touched = [("row", task.row), ("column", task.column)]
        if task.op is Op.EXEC:
            needed = max(int(writer[name][words].max()) for name, words in touched)
            if needed > loaded:
                loaded = needed
                task.fields["wait"] = tasks[needed].fields["signal"] = 1
            for name, words in touched:
                reader[name][words] = index
        elif task.is_load:
            needed = max(int(reader[name][words].max(initial=-1)) for name, words in touched)
            if needed > read:
                read = needed
                task.fields["wait"] = tasks[needed].fields["signal"] = 1
            for name, words in touched:
                writer[name][words] = index


class _Checker:
    """Happens-before between the instructions of an unrolled program.

    Each engine works in order, so "load 7 is over" covers all loads before it; what an instruction knows of another
    engine is one number. Per buffer or memory word the latest writer and reader are kept.
    """

    def __init__(self, config: Config):
        self.config = config
        never = -1
        self.row_writer, self.row_reader = (np.full(config.row_depth, never) for _ in range(2))
        self.column_writer, self.column_reader = (np.full(config.column_depth, never) for _ in range(2))
        self.ladder_writer, self.ladder_reader = (np.full(config.ladder_depth, never) for _ in range(2))
        self.memory_writer, self.memory_reader = (np.full(config.mem_depth, never) for _ in range(2))
        self.loads = self.execs = self.stores = 0
        self.filled: list[int] = []
        self.freed: list[int] = []
        self.done: list[int] = []
        self.drained: list[int] = []
        self.waits = {"filled": 0, "freed": 0, "done": 0}
        self.load_knows_exec = self.load_knows_store = self.exec_knows_load = -1
        self.maps: dict[tuple[object, ...], LoadMap] = {}

    def fail(self, at: int, what: str) -> None:
        raise TokenError(f"instruction {at}: {what}; the tokens of this program are wrong, compile the network again")

    def need(self, at: int, condition: bool, what: str) -> None:
        if not condition:
            self.fail(at, what)

    def wait(self, at: int, name: str, signals: list[int]) -> int:
        """Take a token; returns the instruction of the other engine that is known to be over."""
        count = self.waits[name]
        self.need(at, count < len(signals), f"it waits for a {name} token that nothing before it signals")
        self.waits[name] += 1
        return signals[count]

    def load(self, at: int, i: Instruction, reg: list[int]) -> None:
        config = self.config
        if i.wait:
            self.load_knows_exec = max(self.load_knows_exec, self.wait(at, "freed", self.freed))
        if i.op is Op.LOADA:
            key = load_key(reg, i.rows, i.base)
            if key not in self.maps:
                self.maps[key] = load_map(config, reg, i.rows, i.base)
            memory = self.maps[key].reads(reg[LoadReg.ACT]) * config.chunk // config.mem_width
            self.overwrite(at, self.maps[key].words, self.row_writer, self.row_reader)
        elif i.op is Op.LOADW:
            count = config.columns * reg[LoadReg.WWORDS] * config.lanes
            first = reg[LoadReg.WGT] * config.chunk
            memory = np.arange(first // config.mem_width, -(-(first + count) // config.mem_width))
            self.overwrite(
                at,
                buffer_words(i.base, reg[LoadReg.WWORDS], config.column_depth),
                self.column_writer,
                self.column_reader,
            )
        else:
            first, count = reg[LoadReg.WGT] * config.chunk, i.count * config.ladder_words * 32
            memory = np.arange(first // config.mem_width, -(-(first + count) // config.mem_width))
            words = buffer_words(i.base, i.count, config.ladder_depth)
            reader = int(self.ladder_reader[words].max())
            self.need(at, reader <= self.load_knows_store, "it overwrites ladders that a STORE may still use")
            self.ladder_writer[words] = self.loads
        writer = int(self.memory_writer[memory].max(initial=-1))
        self.need(at, writer <= self.load_knows_store, "it reads memory that a STORE may not have written yet")
        self.memory_reader[memory] = self.loads
        if i.signal:
            self.filled.append(self.loads)
        self.loads += 1

    def overwrite(self, at: int, words: np.ndarray, writer: np.ndarray, reader: np.ndarray) -> None:
        late = int(reader[words].max()) <= self.load_knows_exec
        self.need(at, late, "it overwrites buffer words that an EXEC may still read")
        writer[words] = self.loads

    def exec(self, at: int, i: Instruction, reg: list[int]) -> None:
        config = self.config
        if i.wait:
            self.exec_knows_load = max(self.exec_knows_load, self.wait(at, "filled", self.filled))
        words, groups, planes = reg[ExecReg.WORDS], reg[ExecReg.GROUPS], reg[ExecReg.PLANES]
        stride = reg[ExecReg.STRIDE]
        a_low = i.atop - (groups - 1) * stride
        w_low = i.wtop - (planes - 1) * words
        for place, writer, reader in (
            (buffer_words(a_low, words, config.row_depth, groups, stride), self.row_writer, self.row_reader),
            (buffer_words(w_low, planes * words, config.column_depth), self.column_writer, self.column_reader),
        ):
            self.need(at, int(writer[place].min()) >= 0, "it reads buffer words that nothing has loaded")
            known = int(writer[place].max()) <= self.exec_knows_load
            self.need(at, known, "it reads buffer words that may not be loaded yet")
            reader[place] = self.execs
        if i.signal:
            self.freed.append(self.execs)
        if i.drain:
            self.need(at, len(self.drained) <= self.stores, "it drains a tile before the one before has a STORE")
            self.drained.append(self.exec_knows_load)
        self.execs += 1

    def store(self, at: int, i: Instruction, reg: list[int]) -> None:
        config = self.config
        self.need(at, self.stores < len(self.drained), "it stores a tile that nothing has drained")
        known = self.drained[self.stores]
        tile = i.tile * config.columns
        if not reg[StoreReg.RAW]:
            words = buffer_words((reg[StoreReg.LADDER] & -config.columns) + tile, config.columns, config.ladder_depth)
            ready = int(self.ladder_writer[words].max()) <= known and int(self.ladder_writer[words].min()) >= 0
            self.need(at, ready, "its ladders may not be loaded yet")
            self.ladder_reader[words] = self.stores
        if reg[StoreReg.RAW] or i.pool in (Pool.NONE, Pool.LAST):
            raw = reg[StoreReg.RAW]
            if raw:
                writes, size = config.columns, 32 // config.granule
                start, stride = reg[StoreReg.DST] + tile * size, size
            else:
                writes = writes_of_code(config, reg[StoreReg.BITS], reg[StoreReg.SHIFT])
                start, stride = tile_address(config, reg[StoreReg.DST], i.tile), reg[StoreReg.GROUP_STRIDE]
            first = start + np.arange(i.rows)[:, None] * reg[StoreReg.PIXEL_STRIDE] + np.arange(writes) * stride
            memory = first // config.granules_per_word
            late = int(self.memory_reader[memory].max()) <= known
            self.need(at, late, "it overwrites memory that a load may still read")
            self.memory_writer[memory] = self.stores
        self.stores += 1


def check_tokens(program: Program) -> None:
    """Raises TokenError unless every interleaving of the engines that the tokens allow gives the results of program
    order, and none waits for ever."""
    checker = _Checker(program.config)
    for at, i, registers in trace(program):
        if i.op in (Op.LOADA, Op.LOADW, Op.LOADP):
            checker.load(at, i, registers[Engine.LOAD])
        elif i.op is Op.EXEC:
            checker.exec(at, i, registers[Engine.EXEC])
        elif i.op is Op.STORE:
            checker.store(at, i, registers[Engine.STORE])
        elif i.op is Op.DONE:
            checker.done.append(checker.stores - 1)
        elif i.op is Op.AWAIT:
            known = checker.wait(at, "done", checker.done)
            checker.load_knows_store = max(checker.load_knows_store, known)
        elif i.op is Op.HALT:
            for name, signals in (("filled", checker.filled), ("freed", checker.freed), ("done", checker.done)):
                checker.need(at, checker.waits[name] == len(signals), f"{name} tokens are left over at the end")
            checker.need(at, checker.stores == len(checker.drained), "a drained tile is left over at the end")
