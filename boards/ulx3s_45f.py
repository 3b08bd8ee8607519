"""ULX3S with LFE5U-45F: 43848 LUT4, 108 block RAMs of 18 kbit, 72 multipliers."""

from amaranth_boards.ulx3s import ULX3S_45F_Platform

from .ulx3s import ulx3s

__all__ = ["BOARD"]

BOARD = ulx3s(size="45F", platform=ULX3S_45F_Platform, config="ulx3s_45f", frequency=60e6)
