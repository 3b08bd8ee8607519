"""Passes over what goes from tool to tool.

`share_modules`, between Amaranth and Yosys: each distinct module once, instead of once per instance. An array of equal
PEs is then synthesized as one PE, which makes large boards affordable. Unlike `rtl.rtlil.merge`, which serves exports
without initial values, all that stands in a module is kept and compared, initial values too.

`open_carry_ends`, between Yosys and nextpnr: carry chains of ECP5 without the cells that nextpnr adds at their ends.

`add_settings`, there, too: what nextpnr reads from the netlist only.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .wiring import change_modules, top_module

__all__ = ["add_settings", "open_carry_ends", "share_modules"]

_MODULE = re.compile(r"^(?:attribute [^\n]*\n)*module (\S+)\n.*?^end\n", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"^(\s*cell )(\\\S+)( .*?^\s*end\n)", re.MULTILINE | re.DOTALL)
_IGNORED = re.compile(r"^(?:module \S+|\s*attribute \\(?:src|generator) .*)\n", re.MULTILINE)
# A port that Amaranth made of a net without a name is numbered over the whole design.
_NUMBERED = re.compile(r"\\port\$\d+\$\d+")
_NUMBERED_PORT = re.compile(r"(?<=connect )\\port\$\d+\$\d+(?= )")


def share_modules(rtlil: str, *, top: str = "top") -> str:
    """The design with one module for all that are equal in everything but their own name; only what `top` needs."""
    modules = {match[1]: match[0] for match in _MODULE.finditer(rtlil)}
    ports: dict[str, dict[str, str]] = {}
    """Module -> its numbered ports and wires -> the same counted from 0 in this module."""
    first_of: dict[str, str] = {}
    kept: dict[str, str] = {}
    resolved: dict[str, str] = {}

    def cell(match: re.Match[str]) -> str:
        head, child, body = match.groups()
        if child not in modules:
            return match[0]
        shared = resolve(child)
        return head + shared + _NUMBERED_PORT.sub(lambda port: ports[child][port[0]], body)

    def resolve(name: str) -> str:
        """The module that stands for `name`; children first, as two parents are equal only if their children are."""
        if name not in resolved:
            text = _CELL.sub(cell, modules[name])
            own = ports[name] = {}
            # Ports of children have been counted already and no longer look like those of this module.
            text = _NUMBERED.sub(lambda wire: own.setdefault(wire[0], rf"\port${len(own)}"), text)
            resolved[name] = first_of.setdefault(_IGNORED.sub("", text), name)
            if resolved[name] == name:
                kept[name] = text
        return resolved[name]

    resolve(f"\\{top}")
    return "".join(kept.values())


def open_carry_ends(netlist: str) -> str:
    """Yosys' JSON with the carry in of each ECP5 chain, and the carry out that nobody uses, not connected.

    nextpnr takes a carry cell (two LUTs) to bring a carry in into a chain, even a constant, and another one to bring
    out the last carry, even if nobody uses it. The chains of `rtl.primitives.ecp5` start with a half cell whose carry
    out does not depend on its carry in; chains that Yosys makes itself may, and keep theirs.
    """
    return change_modules(netlist, "CCU2C", _open)


def _open(module: dict[str, Any]) -> None:
    cells = module["cells"].values()
    uses = Counter(bit for cell in cells for bits in cell["connections"].values() for bit in bits)
    uses.update(bit for port in module["ports"].values() for bit in port["bits"])
    for cell in cells:
        if cell["type"] != "CCU2C":
            continue
        ports = cell["connections"]
        # The quarters of the table that C = D = 1 chooses tell whether the lower half passes its carry in on.
        passes = ports["C0"] != ["1"] or ports["D0"] != ["1"] or "1" in cell["parameters"]["INIT0"][:4]
        if not passes and ports.get("CIN") in (["0"], ["1"]):
            ports["CIN"] = ["x"]
        if "COUT" in ports and uses[ports["COUT"][0]] == 1:
            ports["COUT"] = ["x"]


def add_settings(netlist: str, settings: Mapping[str, str]) -> str:
    """Yosys' JSON with settings of nextpnr, by name."""
    if not settings:
        return netlist
    design = json.loads(netlist)
    top_module(design)["settings"] = dict(settings)
    return json.dumps(design)
