"""ULX3S with LFE5U-85F: 83640 LUT4, 208 block RAMs of 18 kbit, 156 multipliers."""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from .fabric import Fabric
from .ulx3s import ulx3s

__all__ = ["BOARD"]

_FABRIC = Fabric(
    columns=range(2, 122),
    # Between them are rows of multipliers and of block RAMs. nextpnr's static placer takes nothing in row 94.
    rows=[y for y in range(2, 94) if y not in range(10, 83, 12)],
    # Four block RAMs to nine columns of tiles, with a gap in the middle.
    memories=[
        (9 * block + step + 2 * (block > 6), y, f"EBR{k}")
        for y in (22, 46, 70, 82)
        for block in range(13)
        for k, step in enumerate((4, 6, 8, 10))
    ],
)

BOARD = ulx3s(
    size="85F",
    platform=ULX3S_85F_Platform,
    config="ulx3s_85f",
    frequency=60e6,
    fabric=_FABRIC,
)
