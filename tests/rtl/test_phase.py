"""Where the faster clock stands in a cycle of the slower, from the first cycle behind the reset on."""

from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from dipole.rtl.phase import Phase


def test_phase_and_reset() -> None:
    m = Module()
    m.domains.fast = ClockDomain("fast", reset_less=True)
    m.domains.sync = sync = ClockDomain("sync")
    m.submodules.dut = dut = Phase()
    simulator = Simulator(m)
    simulator.add_clock(2e-6, phase=1e-6)
    simulator.add_clock(1e-6, phase=1e-6, domain="fast")
    seen: list[tuple[int, int]] = []

    async def drive(ctx) -> None:
        for cycle in range(40):
            ctx.set(sync.rst, cycle < 4 or cycle == 20)
            ctx.set(dut.clear, cycle == 10)
            await ctx.tick()

    async def watch(ctx) -> None:
        while True:
            _, _, last, reset = await ctx.tick("fast").sample(dut.last, dut.reset)
            seen.append((last, reset))

    simulator.add_testbench(drive)
    simulator.add_testbench(watch, background=True)
    simulator.run()

    # Edge 2 * t of `fast` is the one that ends cycle t of `sync`.
    for edge, (last, reset) in enumerate(seen):
        if 10 <= edge <= 40 or edge >= 44:
            assert last == (edge % 2 == 0), edge
        if edge >= 4:
            assert reset == (edge in (*range(4, 10), 22, 23, 42, 43)), edge
