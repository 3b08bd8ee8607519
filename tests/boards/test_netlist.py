"""Sharing of equal modules in the RTLIL of a design."""

import re

import pytest
from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dipole.boards.netlist import share_modules


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


def test_a_design_of_distinct_modules_stays_as_it_is() -> None:
    before = design({"step": 1, "init": 0}, {"step": 3, "init": 1})
    assert sorted(modules(share_modules(before))) == sorted(modules(before))
