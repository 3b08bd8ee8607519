"""Instructions of a task list: registers set only where they change, and repetitions folded into loops."""

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from ..golden.isa import Engine, Instruction, LoadReg, Op, Pool, StoreReg, encode
from ..rtl.config import Config
from .task import Task

__all__ = ["assemble", "fold"]

_ENGINES = {Op.LOADA: Engine.LOAD, Op.LOADW: Engine.LOAD, Op.LOADP: Engine.LOAD,
            Op.EXEC: Engine.EXEC, Op.STORE: Engine.STORE}  # fmt: skip
_ADDABLE = {
    (Engine.LOAD, LoadReg.ACT), (Engine.LOAD, LoadReg.IY), (Engine.LOAD, LoadReg.IX), (Engine.STORE, StoreReg.DST),
}  # fmt: skip
_WRAP = 1 << 21
_MAX_COUNT = 1 << 13
_MAX_BACK = (1 << 14) - 1
_PERIODS = (1, 2, 4, 8, 16, 48)

_Item = TypeVar("_Item", bound=Hashable)


class _Registers:
    """Register values of the engines while instructions are made."""

    def __init__(self, config: Config):
        self.config = config
        self.known: dict[tuple[Engine, int], int] = {}
        self.static: dict[Engine, Mapping[int, int]] = {}

    def bring(self, engine: Engine, reg: int, value: int) -> list[int]:
        """Instructions that give a register its value: none, ADD where the register can, else SET."""
        before = self.known.get((engine, reg))
        if before == value:
            return []
        self.known[engine, reg] = value
        if before is not None and (engine, reg) in _ADDABLE:
            delta = (value - before + _WRAP // 2) % _WRAP - _WRAP // 2
            return [encode(Instruction(op=Op.ADD, engine=engine, reg=reg, value=delta))]
        return [encode(Instruction(op=Op.SET, engine=engine, reg=reg, value=value))]

    def task(self, task: Task) -> list[int]:
        code: list[int] = []
        engine = _ENGINES.get(task.op)
        if engine is not None:
            if self.static.get(engine) is not task.static:
                self.static[engine] = task.static
                for reg, value in task.static.items():
                    code += self.bring(engine, reg, value)
            for reg, value in task.moving:
                code += self.bring(engine, reg, value)
        fields = dict(task.fields)
        if "pool" in fields:
            fields["pool"] = Pool(fields["pool"])
        code.append(encode(Instruction(op=task.op, **fields)))  # type: ignore[arg-type]
        config = self.config
        if task.op is Op.LOADW:
            advance = config.columns * task.static[LoadReg.WWORDS] * config.chunks_per_lanes
            self.known[Engine.LOAD, LoadReg.WGT] += advance
        elif task.op is Op.LOADP:
            self.known[Engine.LOAD, LoadReg.WGT] += task.fields["count"] * config.ladder_words * 32 // config.chunk
        return code


def fold(items: list[_Item], size: Callable[[_Item], int], longest: int) -> list[tuple[int, tuple[_Item, ...]]]:
    """Items as (count, body) pairs that repeat `body`; greedy, with periods up to `longest` items."""
    folded: list[tuple[int, tuple[_Item, ...]]] = []
    at = 0
    while at < len(items):
        best, best_period, best_count = 0, 1, 1
        for period in range(1, min(longest, (len(items) - at) // 2) + 1):
            body = items[at : at + period]
            if items[at] != items[at + period]:
                continue
            count = 1
            while count < _MAX_COUNT and items[at + count * period : at + (count + 1) * period] == body:
                count += 1
            if count == 1:
                continue
            words = sum(size(item) for item in body)
            saved = (count - 1) * words - 1
            if words <= _MAX_BACK and saved > best:
                best, best_period, best_count = saved, period, count
        folded.append((best_count, tuple(items[at : at + best_period])))
        at += best_count * best_period
    return folded


def _loop(words: list[int], count: int, slot: int) -> list[int]:
    return [*words, encode(Instruction(op=Op.REPEAT, slot=slot, count=count, back=len(words)))]


def _shortest(segments: list[tuple[int, ...]]) -> list[int]:
    """Segments folded twice (two loop counters), with the inner period that gives the shortest program."""
    names = {segment: n for n, segment in enumerate(dict.fromkeys(segments))}
    texts = list(names)
    sequence = [names[segment] for segment in segments]
    best: list[int] | None = None
    for longest in _PERIODS:
        inner = fold(sequence, lambda n: len(texts[n]), longest)
        outer = fold(inner, lambda loop: sum(len(texts[n]) for n in loop[1]) + (loop[0] > 1), _PERIODS[-1])
        words: list[int] = []
        for count, loops in outer:
            body: list[int] = []
            for repeat, part in loops:
                text = [word for n in part for word in texts[n]]
                body += _loop(text, repeat, 0) if repeat > 1 else text
            words += _loop(body, count, 1) if count > 1 else body
        if best is None or len(words) < len(best):
            best = words
    return best or []


def assemble(tasks: list[Task], config: Config) -> list[int]:
    """Instruction words of a program."""
    registers = _Registers(config)
    segments: list[list[int]] = [[]]
    for task in tasks:
        if task.mark:
            segments.append([])
        segments[-1] += registers.task(task)
    return _shortest([tuple(segment) for segment in segments])
