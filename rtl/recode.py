"""The form in which row and column buffers hold operands for the PEs of a family, made once when they are filled."""

from amaranth.hdl import Cat, Module, Value

from .config import Config
from .pair_sums import pair_sums, sums_width
from .primitives.family import family_of

__all__ = ["chunk_width", "parities", "recode", "recode_chunk", "uses_pairs", "uses_parity"]


def uses_parity(config: Config, family: str) -> bool:
    """Whether the PEs of that family take parities: iCE40 with one activation plane per cycle."""
    return family == "ice40" and config.planes == 1


def uses_pairs(config: Config, family: str) -> bool:
    """Whether the PEs of that family take sums of pairs of lanes: iCE40 with several activation planes."""
    return family == "ice40" and config.planes > 1


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
    """A word of lanes as the buffers of the family must hold it, chunk by chunk: weights, and activations of one plane.

    Combinational, two or three levels of LUTs. `family` overrides the one of the platform.
    """
    if not uses_parity(config, family or family_of(platform)):
        return word
    lanes = [word[lane] for lane in range(config.lanes)]
    return Cat(parities(lanes[at : at + config.chunk]) for at in range(0, config.lanes, config.chunk))


def chunk_width(config: Config, family: str) -> int:
    """Bits of a chunk of all planes in a row buffer of the family."""
    return sums_width(config.chunk, config.planes) if uses_pairs(config, family) else config.planes * config.chunk


def recode_chunk(m: Module, platform: object, chunk: Value, config: Config, family: str) -> Value:
    """A chunk of each of several planes as the row buffers of the family must hold it. Combinational."""
    return pair_sums(m, platform, chunk, config.planes) if uses_pairs(config, family) else chunk
