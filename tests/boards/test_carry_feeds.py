"""Flip-flops in the cells that feed carry chains: still the same circuit, in fewer cells."""

import json
from pathlib import Path

import pytest
from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.hdl import Cat, Module, Signal
from packing import logic_cells, prove_equal, synthesize

from dipole.boards import load_board
from dipole.boards.carry_feeds import fill_carry_feeds
from dipole.rtl.primitives.ice40 import CarryChain


def design(*, enable: bool, same: bool) -> str:
    """Two adders with a carry in from a flip-flop, their sums registered, and three flip-flops behind one another.

    With `enable` the sums have one, and with `same` the carries, too.
    """
    m = Module()
    x, y, carry, data, on, q = Signal(6), Signal(6), Signal(2), Signal(), Signal(), Signal(16)
    platform = load_board("icebreaker").platform()
    fed = Signal(2, reset_less=True)
    with m.If(on | (not (enable and same))):
        m.d.sync += fed.eq(carry)
    sums = []
    for k in range(2):
        chain = CarryChain(m, platform, f"chain{k}")
        chain.feed(fed[k])
        sums += [*(chain.add(a, b) for a, b in zip(x, y ^ k, strict=True)), chain.top()]
    total = Signal(len(sums), reset_less=True)
    if enable:
        with m.If(on):
            m.d.sync += total.eq(Cat(sums))
    else:
        m.d.sync += total.eq(Cat(sums))
    line = Signal(2, reset_less=True)
    m.d.sync += line.eq(Cat(data, line))
    m.d.comb += q.eq(Cat(total, line))
    return rtlil.convert(m, name="top", ports=[x, y, carry, data, on, q], emit_src=False)


@pytest.mark.parametrize(("enable", "same"), [(False, True), (True, False), (True, True)])
def test_same_circuit_in_fewer_cells(enable: bool, same: bool, tmp_path: Path) -> None:
    """A cell less for each chain whose flip-flops have the enable of the one that feeds it, else none."""
    gold = synthesize(design(enable=enable, same=same), tmp_path)
    gate = fill_carry_feeds(gold)
    moved = [name for name in json.loads(gate)["modules"]["top"]["cells"] if name.endswith(".feed")]
    assert len(moved) == (2 if same else 0)
    assert logic_cells(gold, tmp_path) - logic_cells(gate, tmp_path) == len(moved)
    prove_equal(gold, gate, tmp_path)


def test_other_families_stay_as_they_are() -> None:
    netlist = json.dumps({"modules": {"top": {"cells": {"lut": {"type": "LUT4", "connections": {}}}}}})
    assert fill_carry_feeds(netlist) is netlist
