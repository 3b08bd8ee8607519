"""The queue against a list, at every depth."""

import random

import pytest
from amaranth.sim import Simulator

from dipole.rtl.queue import Queue


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 8])
def test_random_traffic(depth: int) -> None:
    dut = Queue(8, depth)
    rng = random.Random(depth)

    async def bench(ctx) -> None:
        held: list[int] = []
        for t in range(600):
            valid, ready, payload = rng.random() < 0.6, rng.random() < 0.4 + 0.3 * (t > 300), rng.randrange(256)
            ctx.set(dut.i.valid, valid)
            ctx.set(dut.i.payload, payload)
            for o_ready in (not ready, ready):  # no path from there to the input
                ctx.set(dut.o.ready, o_ready)
                assert ctx.get(dut.i.ready) == (len(held) < depth)
            assert ctx.get(dut.o.valid) == bool(held)
            if held:
                assert ctx.get(dut.o.payload) == held[0]
            pushed = valid and len(held) < depth
            if held and ready:
                del held[0]
            if pushed:
                held.append(payload)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
