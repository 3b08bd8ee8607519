"""ULX3S with LFE5U-85F: 83640 LUT4, 208 block RAMs of 18 kbit, 156 multipliers."""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from .ulx3s import ulx3s

__all__ = ["BOARD"]

_ROWS = [y for y in range(2, 95) if y not in (10, 22, 34, 46, 58, 70, 82)]
"""Rows of tiles with LUTs; in the others are block RAMs and multipliers."""
_COLUMNS = range(2, 122)

BOARD = ulx3s(
    size="85F",
    platform=ULX3S_85F_Platform,
    config="ulx3s_85f",
    frequency=50e6,
    # With a forwarding register in every PE nets are short and many, which suits this placer, and long ways are few.
    nextpnr_opts="--tmg-ripup",
    placers=("heap",),
    # Every other row of LUTs: with 8 x 16 PEs the router needs 31 instead of 49 rounds, and each is shorter.
    reserved=tuple(f"X{x}/Y{y}/SLICE{s}.K{k}" for y in _ROWS[::2] for x in _COLUMNS for s in "ABCD" for k in (0, 1)),
)
