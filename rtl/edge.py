"""What operands pass at the edge of the array, once per row or column, in front of the PEs of a family."""

from amaranth.hdl import Module, Value

from .config import Config
from .pair_sums import pair_sums
from .pe import uses_pairs
from .popcount_absorbed import stagger

__all__ = ["activation_edge", "weight_edge"]


def activation_edge(m: Module, platform: object, word: Value, config: Config, family: str, name: str) -> Value:
    """A row's word (planes * lanes bits, recoded) as its PEs take it; sums of pairs come a cycle later."""
    if uses_pairs(config, family):
        return pair_sums(m, platform, word, config, family, name)
    return _stagger(m, word, config, family, name)


def weight_edge(m: Module, word: Value, config: Config, family: str, name: str) -> Value:
    """A column's word (lanes bits, recoded) as its PEs take it."""
    return word if uses_pairs(config, family) else _stagger(m, word, config, family, name)


def _stagger(m: Module, word: Value, config: Config, family: str, name: str) -> Value:
    return stagger(m, word, config, name) if family == "ecp5" else word
