"""PEs of every family under random control words, against the definition."""

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from dipole.rtl.config import Config
from dipole.rtl.edge import activation_edge, weight_edge
from dipole.rtl.pe import PE, pe_latency, uses_pairs
from dipole.rtl.primitives.family import FAMILIES
from dipole.rtl.recode import recode

IDLE = {"valid": 0, "first": 0, "last": 0, "fresh": 0, "drain": 0}


def random_tiles(config: Config, rng: random.Random, tiles: int) -> tuple[list, list[int]]:
    """(activation, weight, control) per cycle, and the result of every tile."""
    cycles, results = [], []

    def operands() -> tuple[int, int]:
        w = rng.getrandbits(config.lanes)
        if rng.random() < 0.2:  # no product at all, or all of them
            plane = w if rng.random() < 0.5 else ~w % (1 << config.lanes)
            return sum(plane << v * config.lanes for v in range(config.planes)), w
        return rng.getrandbits(config.planes * config.lanes), w

    for _ in range(tiles):
        result, runs = 0, rng.randint(1, 5)
        for r in range(runs):
            words, run = rng.choice([0, 1, 1, 2, 5]), 0  # no word: an exponent without a plane pair
            for t in range(max(1, words)):
                a, w = operands()
                if words:
                    planes = [a >> v * config.lanes for v in range(config.planes)]
                    mask = (1 << config.lanes) - 1
                    run += sum((~(plane ^ w) & mask).bit_count() << v for v, plane in enumerate(planes))
                last = t == max(1, words) - 1
                cycles.append((a, w, {
                    "valid": words > 0, "first": t == 0, "last": last, "fresh": r == 0, "drain": last and r == runs - 1,
                }))  # fmt: skip
                end = last and r == runs - 1
                for _ in range(1 if end else 0 if rng.random() < 0.8 else rng.randint(1, 3)):
                    cycles.append((*operands(), IDLE | {"fresh": r == 0 and not last}))
            result = 2 * result + run
        results.append(result % (1 << config.acc_width))
    return cycles, results


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("lanes", "chunk", "planes", "acc_width"),
    [(8, 8, 1, 12), (16, 8, 1, 24), (32, 16, 1, 24), (64, 32, 1, 32), (16, 8, 2, 20), (8, 8, 4, 24)],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_tiles(family: str, lanes: int, chunk: int, planes: int, acc_width: int, seed: int) -> None:
    config = Config(
        name="pe", rows=1, columns=4, lanes=lanes, chunk=chunk, planes=planes, acc_width=acc_width,
        mem_width=max(32, lanes), mem_depth=256,
    )  # fmt: skip
    cycles, results = random_tiles(config, random.Random(seed), 30)
    latency = pe_latency(config, family)
    m = Module()
    m.submodules.pe = pe = PE(config, family)
    a, w = Signal(planes * lanes), Signal(lanes)
    operands = recode(a, config, family=family)
    weights = recode(w, config, family=family)
    operands = activation_edge(m, operands, config, family, "row")
    weights = weight_edge(m, weights, config, family, "column")
    if uses_pairs(config, family):
        m.d.sync += (later := Signal(lanes)).eq(weights)
        weights = later
    m.d.comb += [pe.a.eq(operands), pe.w.eq(weights)]
    drained = []

    async def bench(ctx):
        for t in range(len(cycles) + latency + 3):
            if t < len(cycles):
                ctx.set(a, cycles[t][0])
                ctx.set(w, cycles[t][1])
            for stage, port in enumerate((pe.c_run, pe.c_result, pe.c_drain)):
                at = t - latency - stage
                ctx.set(port, cycles[at][2] if 0 <= at < len(cycles) else IDLE)
            at = t - latency - 3
            if at >= 0 and cycles[at][2]["drain"]:
                drained.append(ctx.get(pe.o))
            await ctx.tick()
        held = ctx.get(pe.o)
        await ctx.tick()
        assert ctx.get(pe.o) == held
        ctx.set(pe.behind, 0x5A5 % (1 << acc_width))
        ctx.set(pe.shift, 1)
        await ctx.tick()
        assert ctx.get(pe.o) == 0x5A5

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert drained == results
