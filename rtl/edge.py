"""What operands pass between the buffers and the PEs of a family, once per row or column."""

from amaranth.hdl import Cat, Module, Value

from .config import Config
from .popcount_absorbed import stagger
from .recode import uses_pairs

__all__ = ["activation_edge", "weight_edge"]


def activation_edge(m: Module, word: Value, config: Config, family: str, name: str) -> Value:
    """A word of a row buffer, chunk by chunk with all planes of each, as the PEs of the row take it."""
    planes, chunk = config.planes, config.chunk
    if planes > 1 and not uses_pairs(config, family):
        return Cat(word.word_select(k * planes + v, chunk) for v in range(planes) for k in range(config.lanes // chunk))
    return weight_edge(m, word, config, family, name)


def weight_edge(m: Module, word: Value, config: Config, family: str, name: str) -> Value:
    """A column's word (lanes bits, recoded) as its PEs take it."""
    return stagger(m, word, config, name) if family == "ecp5" and config.planes == 1 else word
