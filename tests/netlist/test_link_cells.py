"""Size of link and UART on an iCE40 UP5K: `pytest -s tests/netlist/test_link_cells.py` prints it."""

import re
from pathlib import Path

import pytest
from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from dipole.boards.toolchain import run_tool
from dipole.rtl.config import Config
from dipole.rtl.link import Link
from dipole.rtl.memory import MemorySignature
from dipole.rtl.presets import PRESETS
from dipole.rtl.uart import Uart

PORTS = {"start": 1, "entry": 20, "abort": 1}
INPUTS = {"busy": 1, "error": 4, "cycles": 32}
LIMIT = 520
"""Cells with main memory of 32 bits: a tenth of the device."""


class SerialLink(wiring.Component):
    """What a board carries besides engine and memory."""

    rx: Signal
    tx: Signal

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "rx": In(1),
                "tx": Out(1),
                "mem": Out(MemorySignature(config)),
                **{name: Out(width) for name, width in PORTS.items()},
                **{name: In(width) for name, width in INPUTS.items()},
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = Link(self.config)
        m.submodules.uart = uart = Uart(12)
        wiring.connect(m, uart.o, link.i)
        wiring.connect(m, link.o, uart.i)
        wiring.connect(m, link.mem, wiring.flipped(self.mem))  # pyright: ignore[reportAttributeAccessIssue]
        m.d.comb += [uart.rx.eq(self.rx), self.tx.eq(uart.tx), link.line_error.eq(uart.line_error)]
        m.d.comb += [getattr(self, name).eq(getattr(link, name)) for name in PORTS]
        m.d.comb += [getattr(link, name).eq(getattr(self, name)) for name in INPUTS]
        return m


@pytest.mark.slow
def test_cells(tmp_path: Path) -> None:
    (tmp_path / "top.il").write_text(rtlil.convert(SerialLink(PRESETS["up5k"]), name="top", emit_src=False))
    script = "read_rtlil top.il; synth_ice40 -device u -top top -json top.json"
    run_tool("yosys", ["-q", "-p", script], directory=tmp_path, log=tmp_path / "yosys.log")
    pack = ["--up5k", "--json", "top.json", "--pack-only"]
    run_tool("nextpnr-ice40", pack, directory=tmp_path, log=tmp_path / "pack.log")
    used = re.search(r"ICESTORM_LC:\s*(\d+)/", (tmp_path / "pack.log").read_text())
    assert used is not None
    print(f"link and UART: {used[1]} of 5280 cells")
    assert int(used[1]) <= LIMIT
