"""Where the store engine puts the planes of a column tile: in main memory `planes` bit planes stand side by side.

docs/architecture.md, "Tensors in main memory", specifies the layout; granules are addresses of `Config.granule` bits.
"""

import numpy as np

from .loadmap import Sizes

__all__ = ["group_granules", "tile_address", "writes_of_code"]


def _shifts(config: Sizes) -> tuple[int, int]:
    """Bits of a granule address below and in the number of the plane."""
    return (config.chunk // config.granule).bit_length() - 1, config.planes.bit_length() - 1


def tile_address(config: Sizes, pixel: int, tile: int) -> int:
    """Granule address of plane 0 of column tile `tile` in the pixel at `pixel`; the carry leaps over the planes."""
    low, planes = _shifts(config)
    channels = tile * (config.columns // config.granule)
    offset = channels >> low << low + planes | channels & ((1 << low) - 1)
    gap = (config.planes - 1) << low
    return ((pixel | gap) + offset) & ~gap


def group_granules(config: Sizes) -> np.ndarray:
    """Offsets of the granules of a column tile from its address, int64 [planes, columns / granule]."""
    low, planes = _shifts(config)
    return (np.arange(config.planes)[:, None] << low) + (np.arange(config.columns // config.granule) << planes)


def writes_of_code(config: Sizes, bits: int, shift: int) -> int:
    """Groups of planes that codes of `bits` bits take, from plane `shift` on (0 with one plane per cycle)."""
    return -(-(bits + (shift if config.planes > 1 else 0)) // config.planes)
