"""ULX3S with LFE5U-85F: 83640 LUT4, 208 block RAMs of 18 kbit, 156 multipliers."""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from .ulx3s import ulx3s

__all__ = ["BOARD"]

BOARD = ulx3s(size="85F", platform=ULX3S_85F_Platform, config="ulx3s_85f", frequency=60e6)
