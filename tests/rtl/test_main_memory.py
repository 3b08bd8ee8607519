"""Main memory: the portable body and the one of SPRAM blocks against a list of words."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.hdl import Elaboratable, Fragment, Module, Signal
from amaranth.sim import Simulator

from dipole.boards.toolchain import run_tool
from dipole.rtl.config import Config, ConfigError
from dipole.rtl.presets import PRESETS
from dipole.rtl.primitives import main_memory
from dipole.rtl.primitives.family import FAMILIES
from dipole.rtl.primitives.main_memory import MainMemory


def config(**fields: int) -> Config:
    sizes: dict[str, Any] = {"rows": 1, "columns": 4, "lanes": 8, "mem_width": 32, "mem_depth": 256} | fields
    return Config(name="memory", **sizes)


class Up5k:
    """A platform as far as a primitive looks at it."""

    device = "iCE40UP5K"


class Spram(Elaboratable):
    """SB_SPRAM256KA as Lattice describes it, in place of the vendor cell; junk on the output after a write."""

    made = 0

    def __init__(self, kind: str, **ports: Any) -> None:
        assert kind == "SB_SPRAM256KA"
        self.ports = ports
        Spram.made += 1
        assert len(ports["i_ADDRESS"]) == 14 and len(ports["i_DATAIN"]) == len(ports["o_DATAOUT"]) == 16
        assert len(ports["i_MASKWREN"]) == 4

    def elaborate(self, platform):
        from amaranth.lib.memory import Memory

        m = Module()
        p = self.ports
        m.submodules.data = data = Memory(shape=16, depth=16384, init=[])
        write, read = data.write_port(granularity=4), data.read_port()
        selected = p["i_CHIPSELECT"] & p["i_POWEROFF"] & ~p["i_SLEEP"] & ~p["i_STANDBY"]
        wrote = Signal()
        m.d.comb += [
            write.addr.eq(p["i_ADDRESS"]), read.addr.eq(p["i_ADDRESS"]), write.data.eq(p["i_DATAIN"]),
            read.en.eq(selected & ~p["i_WREN"]),
            p["o_DATAOUT"].eq(read.data ^ wrote.replicate(16)),
        ]  # fmt: skip
        m.d.sync += wrote.eq((wrote | (selected & p["i_WREN"])) & ~(selected & ~p["i_WREN"]))
        m.d.comb += write.en.eq(p["i_MASKWREN"] & (selected & p["i_WREN"]).replicate(4))
        return m


def exercise(config: Config, dut: Any, platform: object, seed: int, cycles: int = 1500) -> None:
    """Random accesses with gaps; `rdata` must come with the configuration's lag and hold until the next access."""
    pick = random.Random(seed)
    words: dict[int, int] = {}
    near = [0, 1, config.mem_depth - 1, config.mem_depth // 2, *(pick.randrange(config.mem_depth) for _ in range(12))]
    bus, two = dut.bus, config.mem_ports > 1
    checked = 0

    async def bench(ctx) -> None:
        nonlocal checked
        expected: int | None = None
        later: list[int | None] = [None] * config.memory_lag
        for address in near:  # nothing is defined before it is written
            word = words[address] = pick.getrandbits(config.mem_width)
            ctx.set(bus.en, not two)
            if two:
                ctx.set(bus.waddr, address)
            ctx.set(bus.we, ~0)
            ctx.set(bus.addr, address)
            ctx.set(bus.wdata, word)
            await ctx.tick()
        for _ in range(cycles):
            later.append(expected)
            if (now := later.pop(0)) is not None:
                checked += 1
                assert ctx.get(bus.rdata) == now, f"seed {seed}"
            enable, address = pick.random() < 0.7, pick.choice(near)
            written = pick.choice(near) if two else address
            we = pick.getrandbits(config.granules_per_word) if pick.random() < 0.4 else 0
            wdata = pick.getrandbits(config.mem_width)
            ctx.set(bus.en, enable)
            ctx.set(bus.addr, address)
            if two:
                ctx.set(bus.waddr, written)
            ctx.set(bus.we, we)
            ctx.set(bus.wdata, wdata)
            await ctx.tick()
            if enable:
                expected = None if we and written == address else words[address]
            if two or enable:
                for g in range(config.granules_per_word):
                    if we >> g & 1:
                        mask = ((1 << config.granule) - 1) << g * config.granule
                        words[written] = words[written] & ~mask | wdata & mask

    simulator = Simulator(Fragment.get(dut, platform))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert checked > cycles // 4


@pytest.mark.parametrize(
    "fields", [{}, {"columns": 8}, {"mem_width": 64, "columns": 8}, {"mem_depth": 1024}, {"mem_ports": 2}]
)
def test_portable(fields: dict[str, int]) -> None:
    sizes = config(**fields)
    exercise(sizes, MainMemory(sizes), None, seed=len(fields))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lag", [1, 2, 3, 4])
@pytest.mark.parametrize("ports", [1, 2])
def test_lag(family: str, lag: int, ports: int) -> None:
    sizes = config(columns=8, mem_width=64, memory_lag=lag, mem_ports=ports)
    exercise(sizes, MainMemory(sizes), SimpleNamespace(family=family), seed=lag)


@pytest.mark.parametrize(
    ("fields", "blocks"),
    [
        ({"mem_depth": 32768}, 4), ({"mem_depth": 16384}, 2), ({"mem_depth": 256}, 2),
        ({"mem_width": 64, "mem_depth": 16384}, 4), ({"mem_depth": 32768, "columns": 8}, 4),
        ({"mem_depth": 32768, "columns": 16, "lanes": 16, "chunk": 16}, 4), ({"mem_depth": 32768, "memory_lag": 1}, 4),
    ],
)  # fmt: skip
def test_spram(fields: dict[str, int], blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_memory, "Instance", Spram)
    monkeypatch.setattr(Spram, "made", 0)
    sizes = config(**fields)
    exercise(sizes, MainMemory(sizes), Up5k(), seed=blocks, cycles=400)
    assert Spram.made == blocks


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mem_depth": 65536}, r"mem_depth 65536 x mem_width 32 needs 8 SPRAM blocks, a UP5K has 4"),
        ({"mem_depth": 256, "mem_width": 128}, r"needs 8 SPRAM blocks"),
        ({"mem_depth": 256, "mem_ports": 2}, r"mem_ports is 2, the SPRAM of a UP5K has one port: make it 1"),
    ],
)
def test_spram_limits(fields: dict[str, int], message: str) -> None:
    sizes = config(**fields)
    with pytest.raises(ConfigError, match=message):
        Fragment.get(MainMemory(sizes), Up5k())


def test_spram_synthesis(tmp_path: Path) -> None:
    """Yosys knows the cell and its ports, and nothing but four blocks holds data."""
    memory = MainMemory(PRESETS["icebreaker"])
    (tmp_path / "memory.il").write_text(rtlil.convert(memory, platform=Up5k(), name="memory", emit_src=False))
    script = "read_rtlil memory.il; synth_ice40 -device u -top memory; tee -o stat.txt stat"
    run_tool("yosys", ["-q", "-p", script], directory=tmp_path, log=tmp_path / "yosys.log")
    cells = dict(line.split()[::-1] for line in (tmp_path / "stat.txt").read_text().splitlines() if " SB_" in line)
    assert cells["SB_SPRAM256KA"] == "4"
    assert not [cell for cell in cells if cell.startswith("SB_RAM")]
