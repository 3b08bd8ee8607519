"""iCE40HX8K-B-EVN, Lattice's breakout board: 7680 logic cells, 32 block RAMs, 12 MHz crystal, FT2232H."""

from amaranth_boards.ice40_hx8k_b_evn import ICE40HX8KBEVNPlatform

from .board import Board

__all__ = ["BOARD"]

BOARD = Board(
    name="hx8k_evn",
    title="iCE40HX8K-B-EVN (iCE40HX8K-CT256)",
    platform=ICE40HX8KBEVNPlatform,
    config="hx8k",
    frequency=66e6,
    clock="clk12",
    pll_pad=False,
    baud=1_000_000,  # 66 cycles; the FT2232H divides 12 MHz by 12
    lamps={"busy": 0, "error": 1},
    # Ripup of nets that take detours, and all ends of paths for those that have half a cycle, as on the iCEBreaker.
    overrides={"nextpnr_opts": "--tmg-ripup --detailed-timing-report"},
    placers=("static", "heap"),
    cells={"ICESTORM_LC": "logic cells", "ICESTORM_RAM": "block RAMs"},
    bitstream="top.bin",
    loader=("-b", "ice40_generic", "-f"),  # iCE40 boots from its flash; there is nothing else to write on this board
)
