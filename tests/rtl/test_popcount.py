"""Popcounts of every family: simulated, and the mapped netlists proved equal to a plain sum for all operands."""

import random
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.sim import Simulator
from cell_models import cell_models
from operands import pe_operands

from dipole.boards.toolchain import find_tool
from dipole.rtl.config import Config
from dipole.rtl.pe import pe_latency, popcount_of
from dipole.rtl.primitives.family import FAMILIES, family_of
from dipole.rtl.recode import parities


def config(lanes: int, chunk: int = 8, planes: int = 1, levels: int = 1, pump: int = 1) -> Config:
    return Config(
        name="popcount",
        rows=1,
        columns=4,
        lanes=lanes,
        chunk=chunk,
        planes=planes,
        levels=levels,
        pump=pump,
        mem_width=256,
        mem_depth=256,
    )


def expected(config: Config, a: int, w: int) -> int:
    mask = (1 << config.lanes) - 1
    planes = [a >> v * config.lanes & mask for v in range(config.planes)]
    return sum((~(plane ^ w) & mask).bit_count() << v for v, plane in enumerate(planes))


def simulate(config: Config, family: str, words: list[tuple[int, int]]) -> list[int]:
    """`o + carry`, one word per cycle, of operands recoded for the family."""
    m = Module()
    m.submodules.dut = dut = popcount_of(config, family)
    a, w = Signal(config.lanes * config.planes), Signal(config.lanes)
    m.d.comb += Cat(dut.a, dut.w).eq(Cat(pe_operands(m, None, a, w, config, family)))
    sums = []

    async def bench(ctx):
        for t in range(len(words) + dut.LATENCY):
            if t < len(words):
                ctx.set(a, words[t][0])
                ctx.set(w, words[t][1])
            if t >= dut.LATENCY:
                sums.append(ctx.get(dut.o) + ctx.get(dut.carry))
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return sums


@pytest.mark.parametrize("family", FAMILIES)
def test_all_activations(family: str) -> None:
    """Every activation word of 8 lanes; in random order, so that a lane that is late or early shows."""
    rng = random.Random(8)
    words = [(a, rng.getrandbits(8)) for a in range(256) for _ in range(8)]
    rng.shuffle(words)
    c = config(8)
    assert simulate(c, family, words) == [expected(c, a, w) for a, w in words]


SHAPES = [
    (8, 8, 1), (16, 8, 1), (16, 16, 1), (32, 8, 1), (32, 16, 1), (32, 32, 1), (64, 8, 1), (64, 16, 1), (64, 32, 1),
    (128, 16, 1), (256, 32, 1), (8, 8, 2), (16, 16, 2), (32, 8, 4), (16, 8, 8), (64, 32, 2), (8, 8, 4),
    (8, 8, 8), (32, 16, 8), (64, 16, 4), (128, 16, 4), (256, 16, 2),
]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize(("lanes", "chunk", "planes"), SHAPES)
def test_random(family: str, lanes: int, chunk: int, planes: int, levels: int) -> None:
    check_random(family, config(lanes, chunk, planes, levels))


@pytest.mark.parametrize(("lanes", "chunk", "planes"), [shape for shape in SHAPES if shape[2] > 1])
def test_random_in_carry_chains(lanes: int, chunk: int, planes: int) -> None:
    """Lowest bits of pairs are added in carry chains where the array has a clock of its own."""
    check_random("ice40", config(lanes, chunk, planes, pump=2))


def check_random(family: str, c: Config) -> None:
    lanes, planes = c.lanes, c.planes
    rng = random.Random(lanes * 1000 + c.chunk * 10 + planes)
    words = []
    for _ in range(30):
        a, w = rng.getrandbits(lanes * planes), rng.getrandbits(lanes)
        if rng.random() < 0.3:  # all products equal, all but a few: the ends of the range
            a = sum((w if rng.random() < 0.5 else ~w) % (1 << lanes) << v * lanes for v in range(planes))
            a ^= 1 << rng.randrange(lanes * planes) if rng.random() < 0.5 else 0
        words.append((a, w))
    assert simulate(c, family, words) == [expected(c, a, w) for a, w in words]


@pytest.mark.parametrize("planes", [1, 2, 4, 8])
@pytest.mark.parametrize("lanes", [8, 16, 32, 64, 128, 256])
def test_latency_is_within_the_configuration(lanes: int, planes: int) -> None:
    for chunk in (8, 16, 32):
        if chunk <= lanes:
            for levels in (1, 2, 3):
                c = config(lanes, chunk, planes, levels)
                for family in FAMILIES:
                    assert 1 <= pe_latency(c, family) <= c.pop_latency


def test_constant_words_stay_as_they_are_when_recoded() -> None:
    assert parities([0] * 16) == [0] * 16
    assert [bit & 1 for bit in parities([1] * 16)] == [1] * 16
    assert parities([1, 1, 0, 1, 0, 0, 1, 1]) == [1, 1, 0, 1, 1, 0, 0, 1]


def test_family_of_platform() -> None:
    from amaranth_boards.icebreaker import ICEBreakerPlatform
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    assert family_of(None) == "portable"
    assert family_of(ICEBreakerPlatform()) == "ice40"
    assert family_of(ULX3S_85F_Platform()) == "ecp5"
    assert family_of(SimpleNamespace(family="ice40")) == "ice40"


# A popcount is a pipeline without feedback, so its function is what is left when flip-flops are wires; that no path has
# another length than `LATENCY` is what the simulations above check.
_MAPPED = {
    "ice40": ("synth_ice40", "SB_DFF", "D", ["SB_LUT4", "SB_CARRY"]),
    # The few gates beside the carry cells stay gates: on so small a rest ABC ends Yosys 0.70 from PyPI without a word.
    "ecp5": ("synth_ecp5 -nowidelut -run begin:map_luts", "TRELLIS_FF", "DI", ["LUT2", "CCU2C"]),
}


class Total(Elaboratable):
    """A popcount behind what recodes its operands, as one sum."""

    def __init__(self, config: Config, family: str):
        self.config, self.family = config, family
        self.popcount = popcount_of(config, family)
        self.a, self.w = Signal(config.planes * config.lanes, name="a"), Signal(config.lanes, name="w")
        self.o, self.carry = Signal(len(self.popcount.o), name="o"), Signal(name="carry")

    def elaborate(self, platform):
        m = Module()
        m.submodules.popcount = popcount = self.popcount
        m.d.comb += [
            Cat(popcount.a, popcount.w).eq(Cat(pe_operands(m, platform, self.a, self.w, self.config, self.family))),
            self.o.eq(popcount.o),
            self.carry.eq(popcount.carry),
        ]
        return m


@pytest.mark.parametrize("family", ["ice40", "ecp5"])
@pytest.mark.parametrize(
    ("lanes", "chunk", "planes", "pump"),
    [(8, 8, 1, 1), (16, 8, 1, 1), (8, 8, 2, 1), (8, 8, 2, 2), pytest.param(16, 16, 1, 1, marks=pytest.mark.slow)],
)
def test_mapped_netlist_is_the_popcount(
    family: str, lanes: int, chunk: int, planes: int, pump: int, tmp_path: Path
) -> None:
    c = config(lanes, chunk, planes, pump=pump)
    design = Total(c, family)
    platform = SimpleNamespace(family=family)
    ports = [design.a, design.w, design.o, design.carry]
    (tmp_path / "gate.il").write_text(
        rtlil.convert(design, platform=platform, name="gate", ports=ports, emit_src=False)
    )
    synthesize, flip_flop, d, cells = _MAPPED[family]
    top, bits = lanes - 1, len(design.o)
    sign = f"o[{bits - 1}]" if design.popcount.o.shape().signed else "1'b0"
    (tmp_path / "check.v").write_text(f"""
module reference(input [{planes * lanes - 1}:0] a, input [{top}:0] w, output reg [{bits}:0] sum);
  integer k, v;
  always @* begin
    sum = 0;
    for (v = 0; v < {planes}; v = v + 1)
      for (k = 0; k <= {top}; k = k + 1) sum = sum + ((a[v * {lanes} + k] == w[k]) << v);
  end
endmodule
module miter(input clk, input [{planes * lanes - 1}:0] a, input [{top}:0] w);
  wire [{bits}:0] sum;
  wire [{bits - 1}:0] o;
  wire carry;
  reference r(.a(a), .w(w), .sum(sum));
  gate g(.a(a), .w(w), .o(o), .carry(carry), .clk(clk), .rst(1'b0));
  always @* assert (sum == {{{sign}, o}} + carry);
endmodule
""")
    (tmp_path / "cells.v").write_text(cell_models(family, cells))
    (tmp_path / "wire.v").write_text(f"""
module {flip_flop}(input C, input CLK, input LSR, input CE, input {d}, output Q);
  parameter GSR = "", CEMUX = "", CLKMUX = "", LSRMUX = "", REGSET = "", SRMODE = "";
  assign Q = {d};
endmodule
""")
    (tmp_path / "prove.ys").write_text(f"""
read_rtlil gate.il
{synthesize} -top gate
select -assert-min {lanes // 2} t:{"SB_LUT4" if family == "ice40" else "CCU2C"}
techmap -map wire.v
select -assert-none t:{flip_flop}
write_verilog -noattr mapped.v
design -reset
read_verilog -formal mapped.v cells.v check.v
prep -top miter -flatten
async2sync
sat -verify -prove-asserts miter
""")
    run = subprocess.run([*find_tool("yosys"), "prove.ys"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
