"""A task: one instruction to be, and the buffer words that it touches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from ..golden.isa import Op

__all__ = ["Task", "buffer_words"]

_LOADS = {Op.LOADA, Op.LOADW, Op.LOADP}
_NOTHING = np.arange(0)


@cache
def buffer_words(base: int, count: int, depth: int, groups: int = 1, stride: int = 0) -> np.ndarray:
    """Addresses of `count` words from `base` on, and as many in `groups` - 1 more places, `stride` words apart."""
    return (base + np.add.outer(np.arange(groups) * stride, np.arange(count)).ravel()) % depth


@dataclass(eq=False)
class Task:
    """One instruction to be, with the register values that it needs."""

    op: Op
    fields: dict[str, int] = field(default_factory=dict)
    static: Mapping[int, int] = field(default_factory=dict)
    """Registers that are the same in many tasks; the same object where all are the same."""
    moving: tuple[tuple[int, int], ...] = ()
    """Registers that go from task to task."""
    row: np.ndarray = field(default_factory=lambda: _NOTHING)
    """Row buffer words written (LOADA) or read (EXEC)."""
    column: np.ndarray = field(default_factory=lambda: _NOTHING)
    """Column buffer words written (LOADW) or read (EXEC)."""
    ahead: bool = False
    """A load of filters or ladders that may stand between the tiles of the layer or column tiles before."""
    mark: bool = False
    """The first task of a pixel tile: loops are sought between marks."""
    place: int = 0

    @property
    def is_load(self) -> bool:
        return self.op in _LOADS
