"""What a pass over the netlist of an iCE40 design does: its cells, and a proof that it is still the same circuit."""

import re
from pathlib import Path

from cell_models import cell_models

from dipole.boards.toolchain import run_tool

__all__ = ["logic_cells", "prove_equal", "synthesize"]

_PROVE = (
    "".join(
        f"""
read_json {name}.json
delete =A:blackbox
rename top {name}
read_verilog cells.v
hierarchy -check -top {name}
proc
flatten
opt_clean
design -stash {name}
"""
        for name in ("gold", "gate")
    )
    + """
design -copy-from gold -as gold gold
design -copy-from gate -as gate gate
equiv_make gold gate equiv
hierarchy -top equiv
opt_clean
equiv_simple
equiv_induct
equiv_status -assert
"""
)


def synthesize(text: str, directory: Path) -> str:
    (directory / "top.il").write_text(text)
    run_tool(
        "yosys",
        ["-p", "read_rtlil top.il; synth_ice40 -top top -json gold.json"],
        directory=directory,
        log=directory / "log",
    )
    return (directory / "gold.json").read_text()


def logic_cells(netlist: str, directory: Path) -> int:
    (directory / "cells.json").write_text(netlist)
    arguments = ["--up5k", "--package", "sg48", "--json", "cells.json", "--pack-only", "--pcf-allow-unconstrained"]
    run_tool("nextpnr-ice40", arguments, directory=directory, log=directory / "pack.log")
    found = re.search(r"ICESTORM_LC:\s*(\d+)/", (directory / "pack.log").read_text())
    assert found is not None
    return int(found[1])


def prove_equal(gold: str, gate: str, directory: Path) -> None:
    """Both netlists do the same, whatever state they start in."""
    (directory / "gold.json").write_text(gold)
    (directory / "gate.json").write_text(gate)
    flip_flops = ["SB_DFF", "SB_DFFE", "SB_DFFESR"]
    (directory / "cells.v").write_text(cell_models("ice40", ["SB_LUT4", "SB_CARRY", *flip_flops]))
    (directory / "prove.ys").write_text(_PROVE)
    run_tool("yosys", ["-l", "prove.log", "prove.ys"], directory=directory, log=directory / "out")
    assert "Equivalence successfully proven" in (directory / "prove.log").read_text()
