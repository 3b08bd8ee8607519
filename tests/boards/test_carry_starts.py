"""Lowest bits of counters in their carry chains: still the same circuit, in a cell less."""

import json
from pathlib import Path

import pytest
from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.hdl import Module, Signal
from packing import logic_cells, prove_equal, synthesize

from dipole.boards import load_board
from dipole.boards.carry_starts import join_carry_starts
from dipole.rtl.primitives.adders import increment

BITS = 8


def counter(*, load: bool) -> str:
    """A counter with an enable, which clears it or, with `load`, has a LUT choose another value."""
    m = Module()
    platform = load_board("icebreaker").platform()
    value, on, again, data = Signal(BITS, reset_less=True), Signal(), Signal(), Signal(BITS)
    with m.If(on):
        m.d.sync += value.eq(increment(m, platform, value, name="next"))
        with m.If(again):
            m.d.sync += value.eq(data if load else 0)
    return rtlil.convert(m, name="top", ports=[on, again, data, value], emit_src=False)


@pytest.mark.parametrize("load", [False, True])
def test_same_circuit_in_fewer_cells(load: bool, tmp_path: Path) -> None:
    """With `load` synthesis makes no second LUT: it has the choice invert the bit."""
    gold = synthesize(counter(load=load), tmp_path)
    gate = join_carry_starts(gold)
    assert logic_cells(gold, tmp_path) - logic_cells(gate, tmp_path) == (0 if load else 1)
    prove_equal(gold, gate, tmp_path)


def test_other_families_stay_as_they_are() -> None:
    netlist = json.dumps({"modules": {"top": {"cells": {"lut": {"type": "LUT4", "connections": {}}}}}})
    assert join_carry_starts(netlist) is netlist
