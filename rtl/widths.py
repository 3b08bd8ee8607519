"""A pass over RTLIL that makes the operands of every operator as wide as Verilog's rules compute with.

Verilog extends operands silently, and lint tools warn wherever it happens. After `equalize` the extensions are written
out: comparisons have operands of one width, sums, products and logic operations operands of the width of the result.
"""

import re

from .rtlil import Item, Module

__all__ = ["equalize"]

_COMPARE = {"$eq", "$ne", "$lt", "$le", "$gt", "$ge"}
_ARITHMETIC = {"$add", "$sub", "$mul", "$and", "$or", "$xor", "$xnor"}
_UNARY = {"$not", "$neg", "$pos"}
_SHIFT = {"$shl", "$shr", "$sshl", "$sshr", "$shift"}
_SLICE = re.compile(r"(\S+)(?: \[(\d+)(?::(\d+))?\])?")


def _parts(signal: str) -> list[str]:
    """Elements of a concatenation, highest first; of anything else, itself."""
    if not signal.startswith("{"):
        return [signal]
    return re.findall(r"[^\s\[]+(?: \[[\d:]+\])?", signal[1:-1].strip())


def _top_bit(signal: str, widths: dict[str, int]) -> str:
    """The highest bit of a signal, as RTLIL."""
    first = _parts(signal)[0]
    if "'" in first:
        return "1'" + first.partition("'")[2][0]
    match = _SLICE.fullmatch(first)
    assert match is not None, first
    name, high = match[1], match[2]
    return f"{name} [{high if high is not None else widths[name] - 1}]"


class _Cell:
    """Parameters and connections of a cell, to be read, changed and written back."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.parameters: dict[str, str] = {}
        self.connections: dict[str, str] = {}
        for line in item.lines[1:-1]:
            word, name, value = line.split(" ", 2)
            (self.parameters if word == "parameter" else self.connections)[name] = value

    def width(self, port: str) -> int:
        return int(self.parameters[rf"\{port}_WIDTH"])

    def signed(self, port: str) -> bool:
        return self.parameters[rf"\{port}_SIGNED"] == "1"

    def extend(self, port: str, width: int, widths: dict[str, int]) -> None:
        missing = width - self.width(port)
        if missing <= 0:
            return
        signal = self.connections[rf"\{port}"]
        fill = [_top_bit(signal, widths)] * missing if self.signed(port) else [f"{missing}'" + "0" * missing]
        self.connections[rf"\{port}"] = "{ " + " ".join([*fill, *_parts(signal)]) + " }"
        self.parameters[rf"\{port}_WIDTH"] = str(width)

    def store(self) -> None:
        lines = [f"parameter {name} {value}" for name, value in self.parameters.items()]
        lines += [f"connect {name} {value}" for name, value in self.connections.items()]
        self.item.lines[1:-1] = lines


def equalize(modules: list[Module]) -> None:
    """Extend operands as the module docstring says; the values of all results stay."""
    for module in modules:
        widths: dict[str, int] = {}
        for item in module.items:
            if item.kind == "wire":
                match = re.search(r" width (\d+)", item.lines[0])
                widths[item.name] = int(match[1]) if match else 1
        added: list[Item] = []
        for item in module.cells():
            if item.type not in _COMPARE | _ARITHMETIC | _UNARY | _SHIFT:
                continue
            cell = _Cell(item)
            result = cell.width("Y")
            if item.type in _COMPARE:
                common = max(cell.width("A"), cell.width("B"))
                cell.extend("A", common, widths)
                cell.extend("B", common, widths)
            elif item.type in _SHIFT and cell.width("A") > result:
                # The shift is as wide as its operand, of which the result takes the low bits.
                name = f"$wide{len(added)}"
                width = cell.width("A")
                added.append(Item("wire", name, "", [f"wire width {width} {name}"]))
                target = cell.connections[r"\Y"]
                added.append(Item("connect", "", "", [f"connect {target} {name} [{result - 1}:0]"]))
                cell.connections[r"\Y"] = name
                cell.parameters[r"\Y_WIDTH"] = str(width)
            else:
                cell.extend("A", result, widths)
                if item.type in _ARITHMETIC:
                    cell.extend("B", result, widths)
            cell.store()
        module.items = [item for item in added if item.kind == "wire"] + module.items
        module.items += [item for item in added if item.kind == "connect"]
