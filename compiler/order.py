"""Moves loads ahead of execution, as far as nobody reads what they overwrite, and spreads them.

Fetch hands out instructions in order: a load that the loader is not ready to take blocks all engines, one that comes
late starves the array. So a load of patches stands where, by a rough clock, the loader has finished the load before it,
but not before the EXECs that still read its words and not behind the EXEC that needs it. Filters and ladders of the
next layer (or of the next column tiles) are spread over the last tiles before them, where the loader has time.
"""

import numpy as np

from ..golden.isa import ExecReg, LoadReg, Op
from ..golden.timing import exec_steps
from ..rtl.config import Config
from .task import Task

__all__ = ["order"]

_SPREAD = 8
"""Tiles over which filters and ladders are spread; loops cannot fold them, as each is unlike the others."""
_FETCH = 3
"""Cycles of fetch per instruction."""


def _cycles(task: Task, config: Config) -> int:
    """Rough cycles of a LOADA or EXEC in its engine, with the ADDs around it."""
    reg = task.static
    if task.op is Op.EXEC:
        steps = exec_steps(reg[ExecReg.WORDS], reg[ExecReg.GROUPS], reg[ExecReg.PLANES], config)
        return max(steps + 1, 2 * _FETCH)
    pixels = reg[LoadReg.KW] + (task.fields["rows"] - 1) * reg[LoadReg.STEP]
    return -(-reg[LoadReg.PLANES] // config.planes) * reg[LoadReg.KH] * pixels * reg[LoadReg.UNITS] + 4


class _Reads:
    """For each buffer word, the place of the last EXEC that reads it."""

    def __init__(self, config: Config):
        self._last = {"row": np.zeros(config.row_depth, int), "column": np.zeros(config.column_depth, int)}

    def note(self, task: Task) -> None:
        for name, words in (("row", task.row), ("column", task.column)):
            self._last[name][words] = task.place

    def before(self, task: Task) -> int:
        """The place behind which a load may stand."""
        touched = (("row", task.row), ("column", task.column))
        return max(int(self._last[name][words].max(initial=0)) for name, words in touched)


def order(tasks: list[Task], config: Config) -> list[Task]:
    """The same work, loads ahead; sets `place` of each task, by which EXEC, STORE and DONE count."""
    reads = _Reads(config)
    clock = [0]  # cycles of the EXECs up to each place
    execs: list[int] = []  # places of the EXECs since the last AWAIT
    marks: list[int] = []  # of them, indices of the first ones of the tiles
    last_load = last_done = last_ahead = loader_free = 0
    at = 0
    while at < len(tasks):
        task, now = tasks[at], len(clock) - 1
        if task.ahead:
            end = at
            while end < len(tasks) and tasks[end].ahead:
                end += 1
            spots = execs[marks[-min(_SPREAD, len(marks))] :] if marks else [last_load + 1]
            for n, load in enumerate(tasks[at:end]):
                spot = spots[n * len(spots) // (end - at)] - 1
                load.place = last_ahead = max(spot, reads.before(load), last_ahead)
            at = end
            continue
        at += 1
        if task.is_load:
            place = max(last_load, reads.before(task))
            if task.op is Op.LOADA:
                while place < now and clock[place] < loader_free:
                    place += 1
                loader_free = max(loader_free, clock[place]) + _cycles(task, config)
            task.place = last_load = place
        elif task.op is Op.AWAIT:
            task.place = last_load = last_ahead = max(last_load, last_done, last_ahead)
            execs, marks = [], []
        else:
            clock.append(clock[-1] + (_cycles(task, config) if task.op is Op.EXEC else 0))
            task.place = now + 1
            if task.op is Op.EXEC:
                reads.note(task)
                if task.mark:
                    marks.append(len(execs))
                    loader_free = min(loader_free, clock[now])  # each tile alike, or loops cannot fold them
                execs.append(task.place)
            elif task.op is Op.DONE:
                last_done = task.place
    return sorted(tasks, key=lambda task: (task.place, task.is_load or task.op is Op.AWAIT))
