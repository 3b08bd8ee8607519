"""ULX3S with an ECP5 of any size: 25 MHz crystal, FT231X as UART and programmer; what its boards have in common."""

from collections.abc import Callable

from amaranth.build import TemplatedPlatform

from .board import Board
from .fabric import Fabric

__all__ = ["ulx3s"]


def ulx3s(
    *,
    size: str,
    platform: Callable[[], TemplatedPlatform],
    config: str,
    frequency: float,
    fabric: Fabric | None = None,
) -> Board:
    """The board file of a ULX3S of that size ("85F")."""
    return Board(
        name=f"ulx3s_{size.lower()}",
        title=f"ULX3S (LFE5U-{size}-6BG381C)",
        platform=platform,
        config=config,
        frequency=frequency,
        clock="clk25",
        baud=1_000_000,  # the FT231X divides 24 MHz by 24
        serial_pins=("rx", "tx", "rts", "dtr"),
        lamps={"busy": 0, "error": 1},
        # Wide LUT multiplexers inflate popcounts on ECP5. The static placer needs a third less wire than the default
        # one where operands are nets to several PEs (hop > 1), and the second router ends within minutes where the
        # first has most wires left. Single wires take detours then, which it finds again if told to heed the clock.
        overrides={"synth_opts": "-nowidelut", "nextpnr_opts": "--router router2 --tmg-ripup"},
        # A wire with two nets becomes dearer with each round by a quarter of nextpnr's default. With that, nets that
        # are late soon take any detour rather than share a wire, and those that are not late keep it for ever.
        settings={"router2/currCongWeightMult": "0.5"},
        fabric=fabric,
        by_block=True,
        cells={
            "TRELLIS_COMB": "LUT4",
            "TRELLIS_FF": "flip-flops",
            "DP16KD": "block RAMs",
            "MULT18X18D": "multipliers",
        },
        bitstream="top.bit",
        loader=("-b", "ulx3s", "-m"),
    )
