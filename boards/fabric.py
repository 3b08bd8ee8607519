"""What an ECP5 has where, and its names in nextpnr."""

from collections.abc import Sequence
from dataclasses import dataclass

from .wiring import Cell

__all__ = ["HALVES", "Fabric", "bind"]

HALVES = 8
"""Of a tile with logic: each has a LUT and a flip-flop, two of them are a slice."""


@dataclass(frozen=True)
class Fabric:
    """What an ECP5 has where."""

    columns: range
    """Columns of tiles with logic."""
    rows: Sequence[int]
    """Rows of tiles with logic."""
    memories: Sequence[tuple[int, int, str]]
    """Column, row and name within its tile of each block RAM."""
    multipliers: Sequence[tuple[int, int, str]]
    """The same of each multiplier of 18 bits."""


def bind(cell: Cell, column: int, row: int, half: int) -> None:
    """Give a flip-flop or a LUT its place, a half of a tile."""
    kind = "FF" if cell["type"] == "TRELLIS_FF" else "K"
    cell["attributes"]["BEL"] = f"X{column}/Y{row}/SLICE{'ABCD'[half // 2]}.{kind}{half % 2}"
