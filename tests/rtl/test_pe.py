"""PEs of every family under random control words, against the definition."""

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.sim import Simulator
from operands import pe_operands

from dipole.bench.flow import DEVICES, netlist, synthesize
from dipole.rtl.config import Config
from dipole.rtl.pe import PE, pe_latency
from dipole.rtl.primitives.family import FAMILIES

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
            words, run = rng.choice([0, 1, 1, 2, 5, 5, 25]), 0  # no word: an exponent without a plane pair
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
    [(8, 8, 1, 12), (8, 8, 1, 32), (16, 8, 1, 24), (32, 16, 1, 24), (64, 32, 1, 32), (64, 16, 1, 15), (128, 8, 1, 31),
     (256, 32, 1, 13), (16, 8, 2, 20), (8, 8, 4, 24), (16, 16, 8, 32)],
)  # fmt: skip
@pytest.mark.parametrize(("seed", "stages", "pump"), [(1, 0, 1), (2, 1, 1), (3, 0, 2)])
def test_random_tiles(
    family: str, lanes: int, chunk: int, planes: int, acc_width: int, seed: int, stages: int, pump: int
) -> None:
    config = Config(
        name="pe", rows=1, columns=4, lanes=lanes, chunk=chunk, planes=planes, acc_width=acc_width,
        mem_width=256, mem_depth=256, stages=stages, pump=pump,
    )  # fmt: skip
    rng = random.Random(seed)
    cycles, results = random_tiles(config, rng, 30)
    latency = pe_latency(config, family)
    m = Module()
    m.submodules.pe = pe = PE(config, family)
    a, w = Signal(planes * lanes), Signal(lanes)
    m.d.comb += Cat(pe.a, pe.w).eq(Cat(pe_operands(m, None, a, w, config, family)))
    # With registers of its own a PE makes the later ones itself, and shifts a cycle later.
    controls = (pe.c_ahead,) if stages else (pe.c_ahead, pe.c_run, pe.c_result, pe.c_drain)
    # Parts of a result come some cycles later, but the whole one in time for the slowest family.
    parts = [*pairwise([*pe.parts, acc_width])]
    assert pe.lags[0] == 0 and pe.lags[-1] <= config.pop_latency - latency
    numbers = iter(range(len(results)))
    drained = {t: results[next(numbers)] for t, (_, _, word) in enumerate(cycles) if word["drain"]}

    length = len(cycles) + latency + pe.lags[-1] + 4
    arriving = [[drained.get(t - latency - 2 - lag) for lag in pe.lags] for t in range(length + 1)]
    shifts = [rng.random() < 0.3 and all(part is None for part in arrived) for arrived in arriving]
    shifts[0] = False

    async def bench(ctx):
        held: list[int | None] = [None for _ in parts]
        for t in range(length):
            value = ctx.get(pe.o)
            for (low, high), bits in zip(parts, held, strict=True):
                assert bits is None or value >> low & (1 << high - low) - 1 == bits, f"cycle {t}, bits {low}.."
            if t < len(cycles):
                ctx.set(a, cycles[t][0])
                ctx.set(w, cycles[t][1])
            for k, port in enumerate(controls, -1):
                ctx.set(port, cycles[t - latency - k][2] if 0 <= t - latency - k < len(cycles) else IDLE)
            behind = rng.getrandbits(acc_width)
            ctx.set(pe.shift, shifts[t + (stages > 0)])
            ctx.set(pe.behind, behind)
            for k, (low, high) in enumerate(parts):
                taken = behind if shifts[t] else arriving[t][k]
                if taken is not None:
                    held[k] = taken >> low & (1 << high - low) - 1
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("lanes", [16, 32, 64, 128])
@pytest.mark.parametrize("planes", [1, 2, 4, 8])
def test_no_lut_has_one_signal_at_two_inputs(lanes: int, planes: int, tmp_path: Path) -> None:
    """nextpnr's router may swap the two on a device that is nearly full without ever coming to an end."""
    config = Config(
        name="pe", rows=1, columns=4, lanes=lanes, planes=planes, mem_width=256, mem_depth=256
    )  # fmt: skip
    synthesize(netlist(PE(config, "ice40"), DEVICES["up5k"]), DEVICES["up5k"], tmp_path)
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"]
    luts = {name: cell["connections"] for name, cell in cells.items() if cell["type"] == "SB_LUT4"}
    assert len(luts) > lanes * planes
    for name, ports in luts.items():
        signals = [ports[f"I{k}"][0] for k in range(4) if isinstance(ports[f"I{k}"][0], int)]
        assert len(signals) == len(set(signals)), name
