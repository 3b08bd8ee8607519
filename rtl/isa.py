"""Instruction words as hardware structures, derived from the field tables of `golden.isa`."""

from amaranth.hdl import unsigned
from amaranth.lib import data

from ..golden.isa import FIELDS, Op

__all__ = ["EXEC", "LOADA", "LOADP", "REGISTER", "REPEAT", "STORE", "layout"]


def layout(op: Op) -> data.FlexibleLayout:
    """Layout of a 32-bit word with the fields of `op` at their places, as encoded (biases not undone)."""
    return data.FlexibleLayout(32, {name: data.Field(unsigned(w), low) for name, (low, w, _) in FIELDS[op].items()})


REGISTER = layout(Op.SET)
LOADA = layout(Op.LOADA)
LOADP = layout(Op.LOADP)
EXEC = layout(Op.EXEC)
STORE = layout(Op.STORE)
REPEAT = layout(Op.REPEAT)
