"""Tiles of an ECP5: the places in them, and what may stand in those that are free.

What nextpnr wants of a tile: one clock and one reset; of a slice: one enable, and no carry cell beside another LUT.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

from .fabric import HALVES
from .wiring import Cell, Wiring

__all__ = ["ControlSet", "Place", "Room"]


class Place(NamedTuple):
    """A half of a tile."""

    column: int
    row: int
    half: int

    @property
    def tile(self) -> tuple[int, int]:
        return self.column, self.row

    @property
    def slice(self) -> tuple[int, int, int]:
        return self.column, self.row, self.half // 2


class ControlSet(NamedTuple):
    """What flip-flops of a slice have in common."""

    clock: int | None
    reset: int | None
    modes: tuple[str | None, ...]
    enable: int | None

    @classmethod
    def of(cls, flip_flop: str, cells: Mapping[str, Cell], wiring: Wiring) -> "ControlSet":
        parameters = cells[flip_flop]["parameters"]
        enable = wiring.bit(flip_flop, "CE") if parameters.get("CEMUX") == "CE" else None
        reset = wiring.bit(flip_flop, "LSR")
        modes = ("CLKMUX", "GSR", *(("LSRMUX", "SRMODE") if reset else ()))
        return cls(wiring.bit(flip_flop, "CLK"), reset, tuple(parameters.get(mode) for mode in modes), enable)

    @property
    def of_tile(self) -> "ControlSet":
        """What those of a tile have in common."""
        return self._replace(enable=None)

    @property
    def together(self) -> int:
        """Halves that go to such flip-flops at once, as others could not use what they leave."""
        return HALVES if self.reset is not None else 2 if self.enable is not None else 1


class Room:
    """Which halves of some tiles are taken, and what may stand in the others."""

    def __init__(self, columns: Sequence[int], rows: Sequence[int]) -> None:
        self._halves = [Place(*at) for at in product(columns, rows, range(HALVES))]
        self._flip_flops: set[Place] = set()
        self._luts: set[Place] = set()
        self._carries: set[tuple[int, int, int]] = set()
        self._tiles: dict[tuple[int, int], ControlSet] = {}
        self._slices: dict[tuple[int, int, int], ControlSet] = {}

    def take_lut(self, place: Place, *, carry: bool) -> None:
        self._luts.add(place)
        if carry:
            self._carries.add(place.slice)

    def take_flip_flop(self, place: Place, control: ControlSet) -> None:
        self._flip_flops.add(place)
        self._slices[place.slice] = control
        self._tiles[place.tile] = control.of_tile

    def sites(self, control: ControlSet, size: int = 1, *, with_luts: bool = False) -> list[tuple[Place, ...]]:
        """Free halves side by side, `size` of them, for flip-flops of this control set, with LUTs or without."""
        sites = zip(*(self._halves[k::size] for k in range(size)), strict=True)
        return [site for site in sites if all(self._is_free(place, control, with_luts) for place in site)]

    def _is_free(self, place: Place, control: ControlSet, with_lut: bool) -> bool:
        return (
            place not in self._flip_flops
            and self._tiles.get(place.tile, control.of_tile) == control.of_tile
            and self._slices.get(place.slice, control) == control
            and not (with_lut and (place in self._luts or place.slice in self._carries))
        )
