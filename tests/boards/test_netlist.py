"""Passes over the netlists of a board: equal modules shared, ends of carry chains open."""

import json
import re
from pathlib import Path

import pytest
from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dipole.boards.netlist import open_carry_ends, share_modules
from dipole.boards.toolchain import run_tool


class Counter(wiring.Component):
    i: Signal
    o: Signal

    def __init__(self, step: int, init: int) -> None:
        self.step, self.init = step, init
        super().__init__({"i": In(4), "o": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(4, init=self.init, reset_less=True)
        m.d.sync += count.eq(count + self.step * self.i)
        m.d.comb += self.o.eq(count)
        return m


class Wrapper(wiring.Component):
    i: Signal
    o: Signal

    def __init__(self, **inner: int) -> None:
        self.inner = inner
        super().__init__({"i": In(4), "o": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = Counter(**self.inner)
        m.d.comb += [inner.i.eq(self.i), self.o.eq(inner.o)]
        return m


def design(*parts: dict[str, int]) -> str:
    m = Module()
    i, o = Signal(4), Signal(4 * len(parts))
    outputs = []
    for n, part in enumerate(parts):
        m.submodules[f"part_{n}"] = wrapper = Wrapper(**part)
        m.d.comb += wrapper.i.eq(i)
        outputs.append(wrapper.o)
    m.d.comb += o.eq(Cat(outputs))
    return rtlil.convert(m, name="top", ports=[i, o], emit_src=False)


def modules(text: str) -> list[str]:
    return re.findall(r"^module (\S+)$", text, re.MULTILINE)


def cells(text: str) -> list[str]:
    return re.findall(r"^\s*cell (\\\S+) ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        ([{"step": 1, "init": 0}], 3),
        ([{"step": 1, "init": 0}] * 5, 3),
        ([{"step": 1, "init": 0}, {"step": 2, "init": 0}, {"step": 1, "init": 0}], 5),
        # Registers without reset differ in nothing but the attribute with the initial value.
        ([{"step": 1, "init": 0}, {"step": 1, "init": 7}], 5),
    ],
)
def test_equal_modules_are_shared(parts: list[dict[str, int]], count: int) -> None:
    before = design(*parts)
    after = share_modules(before)
    assert len(modules(before)) == 1 + 2 * len(parts)
    assert len(modules(after)) == count
    # Every instance is still there, and what it names exists.
    assert len([cell for cell in cells(after) if "part_" in cell]) >= len({str(part) for part in parts})
    assert set(cells(after)) <= set(modules(after))
    top = after[after.index("module \\top\n") :]
    assert len(cells(top)) == len(parts)
    initial = [set(re.findall(r"attribute \\init .*", text)) for text in (before, after)]
    assert initial[0] == initial[1] and len(initial[0]) >= len({part["init"] for part in parts})


NUMBERED = r"""
module \inner_{n}
  wire input 0 \clk
  wire input 1 \port${a}$0
  wire input 2 \port${b}$0
  wire output 3 \q
  wire $1
  cell $lt $2
    parameter \A_SIGNED 0
    parameter \A_WIDTH 1
    parameter \B_SIGNED 0
    parameter \B_WIDTH 1
    parameter \Y_WIDTH 1
    connect \A \port${a}$0
    connect \B \port${b}$0
    connect \Y $1
  end
  cell $dff $3
    parameter \WIDTH 1
    parameter \CLK_POLARITY 1
    connect \CLK \clk
    connect \D $1
    connect \Q \q
  end
end
module \outer_{n}
  wire input 0 \clk
  wire input 1 \x
  wire input 2 \port${a}$0
  wire output 3 \q
  cell \inner_{n} \inner
    connect \clk \clk
    connect \port${a}$0 \x
    connect \port${b}$0 \port${a}$0
    connect \q \q
  end
end
"""
"""A block with an inner one (x < y), whose unnamed ports are numbered over the design, as Amaranth does."""

NUMBERED_TOP = r"""
attribute \top 1
module \top
  wire input 0 \clk
  wire width 2 input 1 \x
  wire width 2 input 2 \y
  wire width 2 output 3 \q
  cell \outer_0 \first
    connect \clk \clk
    connect \x \x [0]
    connect \port$10$0 \y [0]
    connect \q \q [0]
  end
  cell \outer_1 \second
    connect \clk \clk
    connect \x \x [1]
    connect \port$20$0 \y [1]
    connect \q \q [1]
  end
end
"""


def test_numbered_ports_of_unnamed_nets(tmp_path: Path) -> None:
    blocks = "".join(NUMBERED.format(n=n, a=10 * (n + 1), b=10 * (n + 1) + 1) for n in range(2))
    before = blocks + NUMBERED_TOP
    after = share_modules(before)
    assert len(modules(before)) == 5 and len(modules(after)) == 3
    for name, text in (("gold", before), ("gate", after)):
        (tmp_path / f"{name}.il").write_text(text)
    load = "read_rtlil {0}.il; hierarchy -check -top top; flatten; rename top {0}; design -stash {0}; "
    copy = "design -copy-from {0} -as {0} {0}; "
    script = "".join(step.format(name) for step in (load, copy) for name in ("gold", "gate"))
    script += "equiv_make gold gate equiv; hierarchy -top equiv; equiv_simple; equiv_induct; equiv_status -assert"
    run_tool("yosys", ["-p", script], directory=tmp_path, log=tmp_path / "log")
    assert "Equivalence successfully proven" in (tmp_path / "log").read_text()


def test_a_design_of_distinct_modules_stays_as_it_is() -> None:
    before = design({"step": 1, "init": 0}, {"step": 3, "init": 1})
    assert sorted(modules(share_modules(before))) == sorted(modules(before))


def carry(init0: str, cin: list, cout: int, c0: list | None = None) -> dict:
    connections = {"CIN": cin, "COUT": [cout], "C0": c0 or ["1"], "D0": ["1"], "S0": [100 + cout]}
    return {"type": "CCU2C", "parameters": {"INIT0": init0}, "connections": connections}


def test_ends_of_carry_chains_are_open() -> None:
    """Where a carry in cannot matter and a carry out is not used, and nowhere else."""
    separator, adder = "0000000000001001", "1001011010101010"
    cells = {
        "first": carry(separator, ["0"], 2), "last": carry(adder, [2], 3), "sum": carry(adder, ["1"], 4),
        "by_c": carry(separator, ["0"], 5, c0=[7]), "user": {"type": "LUT4", "connections": {"A": [4]}},
    }  # fmt: skip
    module = {"ports": {"o": {"bits": [5]}}, "cells": cells}
    done = json.loads(open_carry_ends(json.dumps({"modules": {"top": module}})))["modules"]["top"]["cells"]
    ends = {name: (cell["connections"]["CIN"], cell["connections"]["COUT"]) for name, cell in list(done.items())[:4]}
    assert ends == {
        "first": (["x"], [2]), "last": ([2], ["x"]), "sum": (["1"], [4]), "by_c": (["0"], [5])
    }  # fmt: skip
