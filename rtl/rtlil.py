"""Passes over RTLIL text, the form in which Amaranth hands a design to Yosys, that make it fit for other flows.

`parse` splits a design into modules of items (wire, memory, cell, process, connection), `render` writes it again.
The passes: `strip_initial` removes initial values of registers and memories, `legalize` gives every object a plain
Verilog name, `merge` leaves one of all modules that are equal but for the names inside. Only what Amaranth emits is
understood: one statement per line, identifiers followed by blanks.
"""

import re
from dataclasses import dataclass, field

from ..golden.errors import DipoleError
from .keywords import KEYWORDS

__all__ = [
    "ExportError",
    "Item",
    "Module",
    "drop_unused",
    "legalize",
    "merge",
    "parse",
    "render",
    "silence_checks",
    "strip_checks",
    "strip_initial",
]


class ExportError(DipoleError):
    """A design that cannot be exported; the message says why."""


_IDENTIFIER = re.compile(r"(?<!\S)[\\$][^\s]+")
_PORT = re.compile(r" (input|output|inout) (\d+) ")


@dataclass
class Item:
    """One object or statement of a module: its lines, attributes left out."""

    kind: str
    """wire, memory, cell, process or connect."""
    name: str
    type: str
    """Cells: the type; everything else "". """
    lines: list[str]


@dataclass
class Module:
    name: str
    items: list[Item] = field(default_factory=list)

    def cells(self) -> list[Item]:
        return [item for item in self.items if item.kind == "cell"]

    def ports(self) -> list[Item]:
        return [item for item in self.items if item.kind == "wire" and _PORT.search(item.lines[0])]


def parse(text: str) -> list[Module]:
    """The modules of a design in their order; attributes are dropped."""
    modules: list[Module] = []
    module: Module | None = None
    lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        words = line.split()
        if words[0] in ("attribute", "autoidx") or words[0].startswith("#"):
            continue
        if module is None:
            if words[0] != "module":
                raise ExportError(f"RTLIL: {line!r} outside of a module")
            module = Module(words[1])
            modules.append(module)
        elif words[0] == "end":
            module = None
        elif words[0] in ("wire", "memory"):
            module.items.append(Item(words[0], words[-1], "", [line]))
        elif words[0] == "connect":
            module.items.append(Item("connect", "", "", [line]))
        elif words[0] in ("cell", "process"):
            body = [line]
            depth = 1
            while depth:
                inner = lines[position]
                position += 1
                first = inner.split()[0]
                depth += (first == "switch") - (first == "end")
                if first != "attribute":
                    body.append(inner)
            kind = words[0]
            module.items.append(Item(kind, words[-1], words[1] if kind == "cell" else "", body))
        elif words[0] == "parameter":
            raise ExportError(f"RTLIL: module {module.name} has parameters")
        else:
            raise ExportError(f"RTLIL: cannot read {line!r} in module {module.name}")
    return modules


def render(modules: list[Module], *, top: str) -> str:
    """RTLIL text of the modules; `top` becomes the top module."""
    lines: list[str] = []
    for module in modules:
        if module.name == top:
            lines.append("attribute \\top 1")
        lines.append(f"module {module.name}")
        for item in module.items:
            lines += item.lines
        lines.append("end")
    return "\n".join(lines) + "\n"


def strip_checks(modules: list[Module]) -> None:
    """Remove the cells of assertions."""
    for module in modules:
        module.items = [item for item in module.items if item.type not in ("$check", "$print")]


def silence_checks(modules: list[Module]) -> None:
    """Take the messages from assertions, which would be printed for the undefined state before reset too."""
    for module in modules:
        for cell in module.cells():
            if cell.type == "$check":
                message = r"parameter \FORMAT "
                cell.lines = [f'{message}""' if line.startswith(message) else line for line in cell.lines]


def strip_initial(modules: list[Module]) -> None:
    """Remove initial contents of memories (those of registers are attributes, which `parse` has dropped)."""
    for module in modules:
        module.items = [item for item in module.items if not item.type.startswith("$meminit")]


def drop_unused(module: Module, names: set[str]) -> None:
    """Remove those wires of the names given that no statement of the module mentions."""
    used = {
        match
        for item in module.items
        if item.kind not in ("wire", "memory")
        for line in item.lines
        for match in _IDENTIFIER.findall(line)
    }
    module.items = [item for item in module.items if item.kind != "wire" or item.name not in names - used]


def _rename(item: Item, local: dict[str, str]) -> Item:
    """The item with the module's own names replaced; names of parameters, ports and cell types stay."""

    def replace(match: re.Match[str]) -> str:
        return local.get(match[0], match[0])

    lines: list[str] = []
    for index, line in enumerate(item.lines):
        word, _, rest = line.partition(" ")
        if item.kind == "cell" and index == 0:
            line = f"cell {item.type} {local.get(item.name, item.name)}"
        elif item.kind == "cell" and word == "connect":
            port, _, signal = rest.partition(" ")
            line = f"connect {port} {_IDENTIFIER.sub(replace, signal)}"
        elif item.kind == "cell":
            if r"\MEMID" in line:
                name = line.split('"')[1].replace("\\\\", "\\")
                line = rf'parameter \MEMID "{local.get(name, name)}"'.replace('"\\', '"\\\\')
        else:
            line = _IDENTIFIER.sub(replace, line)
        lines.append(line)
    return Item(item.kind, local.get(item.name, item.name), item.type, lines)


def _plain(name: str, taken: set[str]) -> str:
    """A new plain Verilog name near the RTLIL name `name`."""
    plain = re.sub(r"\W+", "_", name.lstrip("\\").replace("$", "_"), flags=re.ASCII).strip("_") or "n"
    if plain[0].isdigit():
        plain = f"n{plain}"
    if plain in KEYWORDS:
        plain += "_"
    candidate, count = plain, 2
    while candidate in taken:
        candidate, count = f"{plain}_{count}", count + 1
    taken.add(candidate)
    return candidate


def legalize(modules: list[Module], *, top: str, name: str) -> None:
    """Give modules, wires, memories and instances names of letters, digits and underscores.

    The top module becomes `name`, the others `name` and the last part of their path. Names that begin with $ in RTLIL
    are left to Yosys, which numbers them. Ports of the top module must be plain already.
    """
    ports: dict[str, dict[str, str]] = {}
    types: dict[str, str] = {}
    taken = {name}
    for module in modules:
        if module.name == top:
            types[module.name] = f"\\{name}"
        else:
            stem = re.sub(r"(_?\d+)+$", "", module.name.rpartition(".")[2].lstrip("\\")) or "block"
            types[module.name] = "\\" + _plain(f"{name}_{stem}", taken)
    for module in modules:
        taken = set()
        local: dict[str, str] = {}
        public = [item for item in module.items if item.name.startswith("\\")]
        for item in sorted(public, key=lambda item: not (item.lines[0] and _PORT.search(item.lines[0]))):
            plain = _plain(item.name, taken)
            if module.name == top and _PORT.search(item.lines[0]) and item.name != f"\\{plain}":
                raise ExportError(f"port {item.name[1:]!r} of the top module is no plain Verilog name: rename it")
            local[item.name] = f"\\{plain}"
        ports[module.name] = local
        module.items = [_rename(item, local) for item in module.items]
    for module in modules:
        for cell in module.cells():
            if cell.type in types:
                _retarget(cell, types[cell.type], ports[cell.type])
        module.name = types[module.name]
        _number_ports(module)


def _number_ports(module: Module) -> None:
    """Clock and reset first, the others in their order; from 1, as Yosys takes 0 for no number."""
    ports = sorted(module.ports(), key=lambda item: (item.name not in (r"\clk", r"\rst"), _port_number(item)))
    for number, item in enumerate(ports, 1):
        item.lines[0] = _PORT.sub(rf" \1 {number} ", item.lines[0])


def _port_number(item: Item) -> int:
    match = _PORT.search(item.lines[0])
    assert match is not None
    return int(match[2])


def _retarget(cell: Item, target: str, ports: dict[str, str]) -> None:
    """Make a cell an instance of module `target`, whose port for the old port p is ports[p]."""
    connections: list[str] = []
    for line in cell.lines[1:-1]:
        _, port, signal = line.split(" ", 2)
        connections.append(f"connect {ports[port]} {signal}")
    cell.type = target
    cell.lines = [f"cell {target} {cell.name}", *sorted(connections), "end"]


def _canonical(module: Module) -> tuple[str, dict[str, str]]:
    """The module with names replaced by numbers in the order in which its statements use them, and the numbers.

    Two modules with one canonical form are equal but for names and for the order in which wires are declared.
    """
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return numbers.setdefault(match[0], f"\\{len(numbers)}")

    statements = [item for item in module.items if item.kind not in ("wire", "memory")]
    declarations = sorted(
        (item for item in module.items if item.kind in ("wire", "memory")), key=lambda item: item.name
    )
    for item in statements:
        for index, line in enumerate(item.lines):
            if item.kind != "cell":
                _IDENTIFIER.sub(number, line)
            elif index and line.startswith("connect"):
                _IDENTIFIER.sub(number, line.split(" ", 2)[2])
            elif r"\MEMID" in line:
                numbers.setdefault(line.split('"')[1].replace("\\\\", "\\"), f"\\{len(numbers)}")
        if item.kind == "cell":
            numbers.setdefault(item.name, f"\\{len(numbers)}")
    for item in declarations:
        numbers.setdefault(item.name, f"\\{len(numbers)}")
    lines = [line for item in statements for line in _rename(item, numbers).lines]
    lines += sorted(_PORT.sub(r" \1 ", line) for item in declarations for line in _rename(item, numbers).lines)
    return "\n".join(lines), numbers


def merge(modules: list[Module]) -> list[Module]:
    """One of all modules that are equal but for the names inside; instances are moved to it, port by port."""
    by_name = {module.name: module for module in modules}
    kept: dict[str, Module] = {}
    forms: dict[str, tuple[Module, dict[str, str]]] = {}
    moved: dict[str, tuple[str, dict[str, str]]] = {}

    def visit(module: Module) -> None:
        if module.name in moved:
            return
        for cell in module.cells():
            if cell.type in by_name:
                visit(by_name[cell.type])
                target, ports = moved[cell.type]
                _retarget(cell, target, ports)
        form, numbers = _canonical(module)
        first, names = forms.setdefault(form, (module, {number: name for name, number in numbers.items()}))
        moved[module.name] = first.name, {item.name: names[numbers[item.name]] for item in module.ports()}
        kept[first.name] = first

    for module in modules:
        visit(module)
    return [module for module in modules if module.name in kept]
