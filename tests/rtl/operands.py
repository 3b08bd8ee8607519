"""Operands as PEs of a family take them, from plain ones."""

from amaranth.hdl import Cat, Module, Value

from dipole.rtl.config import Config
from dipole.rtl.edge import activation_edge, weight_edge
from dipole.rtl.recode import recode, recode_chunk


def pe_operands(m: Module, platform: object, a: Value, w: Value, config: Config, family: str) -> tuple[Value, Value]:
    """For activations `a`, lanes of plane 0 lowest, and weights `w`: what stands in the buffers, behind their edges."""
    planes, chunk, chunks = config.planes, config.chunk, config.chunks_per_lanes
    if planes > 1:
        parts = [Cat(a.word_select(v * chunks + k, chunk) for v in range(planes)) for k in range(chunks)]
        word: Value = Cat(recode_chunk(m, platform, part, config, family) for part in parts)
    else:
        word = recode(a, config, family=family)
    return (
        activation_edge(m, word, config, family, "row"),
        weight_edge(m, recode(w, config, family=family), config, family, "column"),
    )
