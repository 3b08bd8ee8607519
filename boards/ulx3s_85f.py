"""ULX3S with LFE5U-85F: 83640 LUT4, 208 block RAMs of 18 kbit, 156 multipliers."""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from .fabric import Fabric
from .ulx3s import ulx3s

__all__ = ["BOARD"]


def _sites(rows: tuple[int, ...], steps: dict[int, str]) -> list[tuple[int, int, str]]:
    """Column, row and name: four to nine columns of tiles, with a gap in the middle."""
    blocks = [9 * block + 2 * (block > 6) for block in range(13)]
    return [(block + step, y, name) for y in rows for block in blocks for step, name in steps.items()]


_FABRIC = Fabric(
    columns=range(2, 122),
    # Between them are rows of multipliers and of block RAMs. nextpnr's static placer takes nothing in row 94.
    rows=[y for y in range(2, 94) if y not in range(10, 83, 12)],
    memories=_sites((22, 46, 70, 82), {4: "EBR0", 6: "EBR1", 8: "EBR2", 10: "EBR3"}),
    multipliers=_sites((10, 34, 58), {4: "MULT18_0", 5: "MULT18_1", 8: "MULT18_4", 9: "MULT18_5"}),
)

BOARD = ulx3s(
    size="85F",
    platform=ULX3S_85F_Platform,
    config="ulx3s_85f",
    frequency=70e6,
    fabric=_FABRIC,
)
