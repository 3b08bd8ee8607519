"""The first difference between two integer tensors or drain traces, in words of the network."""

from dataclasses import dataclass

import numpy as np

from ..compiler.layout import RawLayout
from ..compiler.program import Program, trace
from ..golden.isa import Engine, Op, StoreReg

__all__ = ["Difference", "DrainedRow", "compare_tensors", "drained_rows"]


@dataclass(frozen=True)
class Difference:
    """Two stages disagree; this is the first place."""

    image: int
    stages: tuple[str, str]
    layer: str
    what: str
    """"accumulator", "code", "pooled code", "drained word", "cycle", ..."""
    place: str
    """Channel and pixel."""
    values: tuple[int, int]

    def __str__(self) -> str:
        return (
            f"image {self.image}: {self.stages[0]} and {self.stages[1]} differ first in layer {self.layer!r}, "
            f"{self.what}, {self.place}: {self.values[0]} against {self.values[1]}"
        )


def compare_tensors(
    image: int, stages: tuple[str, str], layer: str, what: str, a: np.ndarray, b: np.ndarray
) -> Difference | None:
    """The first difference of two tensors [channels, height, width] in that order, or None."""
    if a.shape != b.shape:
        return Difference(
            image, stages, layer, f"number of {what}s", f"shapes {a.shape} and {b.shape}", (a.size, b.size)
        )
    different = np.argwhere(np.asarray(a, np.int64) != np.asarray(b, np.int64))
    if not len(different):
        return None
    c, y, x = (int(k) for k in different[0])
    return Difference(image, stages, layer, what, f"channel {c}, pixel ({y}, {x})", (int(a[c, y, x]), int(b[c, y, x])))


@dataclass(frozen=True)
class DrainedRow:
    """What a row of the drain trace holds: results of neighbouring channels at one pixel."""

    layer: int
    channel: int
    """Of column 0."""
    y: int
    x: int
    visit: int
    """0 without pooling; else which position of the pooling window, counted from 0. (y, x) is then the pooled pixel."""

    def place(self, column: int, columns: int) -> str:
        channel = "activation-sum column" if column == columns else f"channel {self.channel + column}"
        return f"{channel}, pixel ({self.y}, {self.x})" + (f", window position {self.visit}" if self.visit else "")


def drained_rows(program: Program) -> list[DrainedRow]:
    """The place in the network of every row that the program drains, in the order of the drain trace."""
    config = program.config
    rows: list[DrainedRow] = []
    ends = [layer.done_index for layer in program.layers]
    layer = done = 0
    visits: dict[tuple[int, int], int] = {}
    for _, i, registers in trace(program):
        if i.op is Op.DONE:
            if done == ends[layer]:
                layer, visits = layer + 1, {}
            done += 1
        if i.op is not Op.STORE:
            continue
        layout = program.layers[layer].layout
        bits = layout.stride * 32 if isinstance(layout, RawLayout) else layout.pixel_bits
        pixel_granules = bits // config.granule
        reg = registers[Engine.STORE]
        # A layer in groups of column tiles starts each group behind the channels before it.
        first, inside = divmod(reg[StoreReg.DST] - layout.address * config.granules_per_word, pixel_granules)
        channel = inside * config.granule // (32 if isinstance(layout, RawLayout) else 1) + i.tile * config.columns
        visit = visits.get((first, channel), 0)
        visits[first, channel] = visit + 1
        for r in range(i.rows):
            y, x = divmod(first + r, layout.width)
            rows.append(DrainedRow(layer, channel, y, x, visit))
    return rows
