"""ULX3S with LFE5U-25F: 24288 LUT4, 56 block RAMs of 18 kbit, 28 multipliers."""

from amaranth_boards.ulx3s import ULX3S_25F_Platform

from .ulx3s import ulx3s

__all__ = ["BOARD"]

BOARD = ulx3s(size="25F", platform=ULX3S_25F_Platform, config="ulx3s_25f", frequency=60e6)
