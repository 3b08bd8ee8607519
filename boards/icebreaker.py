"""iCEBreaker: iCE40UP5K (5280 logic cells, 30 block RAMs, 4 SPRAMs), 12 MHz crystal, FT2232H as UART and programmer."""

from amaranth_boards.icebreaker import ICEBreakerPlatform

from .board import Board
from .mapping import SMALL

__all__ = ["BOARD"]

_NEXTPNR = "--tmg-ripup --detailed-timing-report"

BOARD = Board(
    name="icebreaker",
    title="iCEBreaker (iCE40UP5K-SG48)",
    platform=ICEBreakerPlatform,
    config="icebreaker",
    frequency=33e6,
    frequencies={"up5k": 48e6, "up5k_w1": 39e6},
    clock="clk12",
    baud=1_000_000,  # 33 cycles; the FT2232H divides 12 MHz by 12
    lamps={"busy": 1, "error": 0},  # green, red
    # Timing-driven ripup is what full devices need: no net takes a detour of 20 ns any more, and every seed routes. It
    # wants the default router. The static placer needs an eighth less wire than the default one on full devices.
    # Flip-flops that share their enable with no two others have none: a tile for each would be far away, as few are
    # free on a full device.
    # The report has all ends of paths, as some have half a cycle (boards/report.py).
    # No -dsp: its pass (ice40_dsp) takes the clock off multipliers that the design instantiates (primitives/dsp.py).
    overrides={"synth_opts": "-device u -dffe_min_ce_use 3", "nextpnr_opts": _NEXTPNR},
    # Single cells on the latest paths are moved once more behind the placer.
    preset_overrides={"up5k": {"nextpnr_opts": f"{_NEXTPNR} --opt-timing"}},
    mappings={"icebreaker": SMALL, "up5k": SMALL, "up5k_w1": SMALL},
    placers=("static", "heap"),
    cells={
        "ICESTORM_LC": "logic cells",
        "ICESTORM_RAM": "block RAMs",
        "ICESTORM_SPRAM": "SPRAMs",
        "ICESTORM_DSP": "DSPs",
    },
    bitstream="top.bin",
    loader=("-b", "ice40_generic", "-f"),  # iCE40 boots from its flash; there is nothing else to write on this board
)
