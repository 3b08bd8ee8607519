"""Block RAM with registers on both sides: the portable body and DP16KD cells against a list of words."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth.hdl import Cat, Elaboratable, Fragment, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator

from dipole.rtl.primitives import ram
from dipole.rtl.primitives.ram import BlockRam


class Dp16kd(Elaboratable):
    """DP16KD as Lattice describes it, port A writing and port B reading, in place of the vendor cell.

    An address counts single bits of 16 or 8 in a word; in words of two bytes the two lowest bits enable writing them.
    """

    made = 0

    def __init__(self, kind: str, **ports: Any) -> None:
        assert kind == "DP16KD"
        Dp16kd.made += 1
        self.ports = ports
        self.width = ports["p_DATA_WIDTH_A"]
        assert ports["p_DATA_WIDTH_B"] == self.width and self.width in (9, 18)
        assert (ports["p_REGMODE_B"], ports["i_OCEB"], ports["i_WEB"], ports["i_RSTB"]) == ("OUTREG", 1, 0, 0)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p, width = self.ports, self.width
        depth, low = (1024, 4) if width == 18 else (2048, 3)
        m.submodules.data = data = Memory(shape=width, depth=depth, init=[])
        write, read = data.write_port(granularity=9), data.read_port(domain=p["i_CLKB"].domain)
        assert p["i_CLKA"].domain == "sync"
        written, shown = Signal(18), Signal(18)
        m.d[p["i_CLKB"].domain] += shown.eq(read.data)
        enables = (1, 1) if width == 9 else (p["i_ADA0"], p["i_ADA1"])
        m.d.comb += [
            Cat(written[k] for k in range(width)).eq(Cat(p.get(f"i_DIA{k}", 0) for k in range(width))),
            write.addr.eq(Cat(p[f"i_ADA{k}"] for k in range(low, 14))),
            write.data.eq(written),
            write.en.eq(Mux(p["i_WEA"], Cat(enables[: width // 9]), 0)),
            read.addr.eq(Cat(p[f"i_ADB{k}"] for k in range(low, 14))),
            read.en.eq(p["i_CEB"]),
        ]
        m.d.comb += [p[f"o_DOB{k}"].eq(shown[k]) for k in range(18) if f"o_DOB{k}" in p]
        return m


@pytest.mark.parametrize(
    ("width", "depth", "granule", "cells"),
    [(64, 512, 16, 4), (64, 1024, None, 4), (32, 2048, 8, 4), (16, 16, None, 1), (72, 256, 36, 4), (20, 2048, None, 3)],
)
@pytest.mark.parametrize("family", ["portable", "ecp5"])
def test_registered(
    width: int, depth: int, granule: int | None, cells: int, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ram, "Instance", Dp16kd)
    Dp16kd.made = 0
    seed = width * depth
    pick = random.Random(seed)
    dut = BlockRam(width=width, depth=depth, granule=granule, registered=True)
    near = sorted({0, 1, depth // 2, depth - 1, *(pick.randrange(depth) for _ in range(8))})
    words: dict[int, int] = {}
    checked = 0

    async def bench(ctx: Any) -> None:
        nonlocal checked
        asked: list[int | None] = [None] * 3  # the latest first; the RAM itself reads two cycles later
        read: int | None = None
        shown: int | None = None
        for cycle in range(1000):
            filling = cycle < len(near)
            asked = [None if filling or pick.random() < 0.3 else pick.choice(near), *asked[:2]]
            others = [place for place in near if place != asked[2]]
            address = near[cycle] if filling else pick.choice(others)
            mask = ~(~0 << len(dut.write)) if filling else pick.getrandbits(len(dut.write))
            data = pick.getrandbits(width)
            ctx.set(dut.write, mask)
            ctx.set(dut.write_address, address)
            ctx.set(dut.write_data, data)
            ctx.set(dut.read, asked[0] is not None)
            ctx.set(dut.read_address, pick.choice(near) if asked[0] is None else asked[0])
            if shown is not None:
                checked += 1
                assert ctx.get(dut.read_data) == shown, f"seed {seed}"
            await ctx.tick()
            shown = read
            if (reading := asked[2]) is not None:
                read = words[reading]
            size = granule or width
            bits = sum((~(~0 << size)) << k * size for k in range(len(dut.write)) if mask >> k & 1)
            words[address] = (words.get(address, 0) & ~bits) | (data & bits)

    simulator = Simulator(Fragment.get(dut, SimpleNamespace(family=family)))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert checked > 900
    assert Dp16kd.made == (cells if family == "ecp5" else 0)
