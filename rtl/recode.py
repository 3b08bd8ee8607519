"""Recoding of operand words for the prefix-parity popcount, done once when the buffers are filled."""

from amaranth.hdl import Cat, Value

from .config import Config
from .primitives.family import family_of

__all__ = ["parities", "recode", "uses_parity"]


def uses_parity(config: Config, family: str) -> bool:
    """Whether the PEs of that family take recoded operands: iCE40 with one activation plane per cycle."""
    return family == "ice40" and config.planes == 1


def parities(chunk: list) -> list:
    """Lanes of one chunk: an even lane becomes the parity of the lanes up to it, an odd lane stays.

    The number of lanes under an even lane is odd, so all ones and all zeros stay what they are: the weight of the
    activation-sum column, padding and filler need no recoding. The function of numbers and of signals.
    """
    parity, out = 0, []
    for lane, bit in enumerate(chunk):
        parity = parity ^ bit
        out.append(bit if lane % 2 else parity)
    return out


def recode(word: Value, config: Config, platform: object = None, *, family: str | None = None) -> Value:
    """A word of lanes as the row and column buffers of the family must hold it, chunk by chunk.

    Combinational, two or three levels of LUTs. `family` overrides the one of the platform.
    """
    if not uses_parity(config, family or family_of(platform)):
        return word
    lanes = [word[lane] for lane in range(config.lanes)]
    return Cat(parities(lanes[at : at + config.chunk]) for at in range(0, config.lanes, config.chunk))
