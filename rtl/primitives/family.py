"""Families of logic fabric for which the array has a structure of its own."""

from amaranth.vendor import LatticePlatform, SiliconBluePlatform

__all__ = ["FAMILIES", "family_of"]

FAMILIES = ("portable", "ice40", "ecp5")
"""What `family_of` returns; "portable" is plain Amaranth, for simulation, ASIC and every other device."""


def family_of(platform: object) -> str:
    """Family of a platform: its attribute `family` if it has one, else by its type; None is "portable"."""
    if (family := getattr(platform, "family", None)) in FAMILIES:
        return family
    if isinstance(platform, SiliconBluePlatform):
        return "ice40"
    if isinstance(platform, LatticePlatform) and str(platform.device).upper().startswith("LFE5"):
        return "ecp5"
    return "portable"
