"""What an ECP5 has where, and its names in nextpnr."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["HALVES", "Fabric", "bel"]

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


def bel(column: int, row: int, half: int, *, flip_flop: bool) -> str:
    """nextpnr's name for the LUT or the flip-flop of a half of a tile."""
    return f"X{column}/Y{row}/SLICE{'ABCD'[half // 2]}.{'FF' if flip_flop else 'K'}{half % 2}"
