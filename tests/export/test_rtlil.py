"""Passes over RTLIL text: merging, names, operand widths."""

import pytest

from dipole.rtl import rtlil, widths
from dipole.rtl.rtlil import ExportError

LEAF = r"""
attribute \top 1
module \top.{name}
  attribute \init 1'0
  wire width 1 output 2 \{q}
  wire width 4 input 0 \{a}
  wire width 1 input 1 \{clk}
  wire width 1 $1
  cell ${op} $2
    parameter \A_SIGNED 0
    parameter \A_WIDTH 4
    parameter \Y_WIDTH 1
    connect \A \{a} [3:0]
    connect \Y $1
  end
  cell $dff $3
    parameter \WIDTH 1
    parameter \CLK_POLARITY 1
    connect \D $1
    connect \CLK \{clk} [0]
    connect \Q \{q}
  end
end
"""
TOP = r"""
module \top
  wire width 4 input 0 \value
  wire width 1 input 1 \clk
  wire width 1 output 2 \one
  wire width 1 output 3 \two
  cell \top.leaf_0 \leaf_0
    connect \a \value [3:0]
    connect \clk \clk
    connect \q \one
  end
  cell \top.leaf_1 \leaf_1
    connect \begin \value [3:0]
    connect \c$1 \clk
    connect \reg \two
  end
end
"""


def design(op: str = "reduce_or", *, clk: str = "c$1") -> list[rtlil.Module]:
    one = LEAF.format(name="leaf_0", a="a", clk="clk", q="q", op="reduce_or")
    two = LEAF.format(name="leaf_1", a="begin", clk=clk, q="reg", op=op)
    return rtlil.parse(TOP + one + two)


def test_equal_modules_merge_up_to_names() -> None:
    modules = rtlil.merge(design())
    assert [module.name for module in modules] == [r"\top", r"\top.leaf_0"]
    first, second = modules[0].cells()
    assert first.type == second.type == r"\top.leaf_0"
    assert second.lines[1:-1] == [r"connect \a \value [3:0]", r"connect \clk \clk", r"connect \q \two"]


def test_different_modules_stay() -> None:
    assert len(rtlil.merge(design("reduce_and"))) == 3


def test_names_become_plain() -> None:
    modules = design()
    rtlil.legalize(modules, top=r"\top", name="chip")
    assert [module.name for module in modules] == [r"\chip", r"\chip_leaf", r"\chip_leaf_2"]
    assert [item.name for item in modules[2].ports()] == [r"\reg_", r"\begin_", r"\c_1"]
    assert r"connect \begin_ \value [3:0]" in modules[0].cells()[1].lines
    text = rtlil.render(modules, top=r"\chip")
    assert "init" not in text and text.count("attribute") == 1
    assert [module.name for module in rtlil.parse(text)] == [module.name for module in modules]


def test_names_that_collide_get_numbers() -> None:
    text = "module \\t\n" + "".join(f"wire width 1 \\{name}\n" for name in ("a$1", "a_1", "a.1", "module", "1")) + "end"
    modules = rtlil.parse(text)
    rtlil.legalize(modules, top=r"\t", name="t")
    names = [item.name for item in modules[0].items]
    assert names == [r"\a_1", r"\a_1_2", r"\a_1_3", r"\module_", r"\n1"]


def test_top_ports_must_be_plain() -> None:
    modules = rtlil.parse("module \\t\nwire width 1 input 0 \\reg\nend")
    with pytest.raises(ExportError, match="port 'reg' of the top module"):
        rtlil.legalize(modules, top=r"\t", name="t")


@pytest.mark.parametrize(
    ("text", "message"),
    [("wire", "outside of a module"), ("module \\a\nfoo\nend", "cannot read 'foo'"), ("module \\a\nparameter \\p\nend",
     "has parameters")],
)  # fmt: skip
def test_what_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        rtlil.parse(text)


def cell(kind: str, a: str, b: str, y: int, sizes: tuple[int, int], signed: int) -> list[str]:
    text = f"""module \\m
wire width 4 \\a
wire width 7 \\b
wire width {y} \\y
cell {kind} $1
parameter \\A_SIGNED {signed}
parameter \\B_SIGNED {signed}
parameter \\A_WIDTH {sizes[0]}
parameter \\B_WIDTH {sizes[1]}
parameter \\Y_WIDTH {y}
connect \\A {a}
connect \\B {b}
connect \\Y \\y
end
end"""
    modules = rtlil.parse(text)
    widths.equalize(modules)
    return [line.removeprefix("connect ") for item in modules[0].items for line in item.lines if "connect" in line]


def test_operands_get_one_width() -> None:
    assert cell("$eq", r"\a", r"\b", 1, (4, 7), 0)[0] == r"\A { 3'000 \a }"
    assert cell("$lt", r"\a", r"\b", 1, (4, 7), 1)[0] == r"\A { \a [3] \a [3] \a [3] \a }"
    assert cell("$add", r"\a [2:1]", r"\b", 8, (2, 7), 1)[:2] == [
        r"\A { \a [2] \a [2] \a [2] \a [2] \a [2] \a [2] \a [2:1] }",
        r"\B { \b [6] \b }",
    ]
    assert cell("$sub", r"{ \a [1] 2'10 }", r"\b", 7, (3, 7), 1)[0] == (
        r"\A { \a [1] \a [1] \a [1] \a [1] \a [1] 2'10 }"
    )
    assert cell("$add", "2'10", r"\b", 7, (2, 7), 1)[0] == r"\A { 1'1 1'1 1'1 1'1 1'1 2'10 }"


def test_shifts_keep_their_operand() -> None:
    lines = cell("$shr", r"\b", r"\a", 2, (7, 4), 0)
    assert lines == [r"\A \b", r"\B \a", r"\Y $wide0", r"\y $wide0 [1:0]"]
