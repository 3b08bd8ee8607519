"""States of one bit each against a table of their ways, and that there is never more than one."""

import random

from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from dipole.rtl.onehot import OneHot

WAYS: dict[str, list[tuple[int, str | None]]] = {
    "one": [(0, "two"), (1, "three")],
    "two": [(2, "two"), (0, "three"), (1, None)],
    "three": [(3, "one")],
}
"""State -> ways out: the bit of the input that opens it, and where it leads. A way into "one" from none: bit 0."""


def after(state: str | None, bits: int) -> str | None:
    if state is None:
        return "one" if bits & 1 else None
    return next((target for bit, target in WAYS[state] if bits >> bit & 1), state)


def test_takes_the_first_way_that_is_open() -> None:
    m = Module()
    bits, lost = Signal(4), Signal()
    states = OneHot(*WAYS, prefix="at_")
    for state, ways in WAYS.items():
        states.leave(state, *((bits[bit], target) for bit, target in ways))
    m.d.comb += lost.eq(~(states["one"] | states["two"] | states["three"]))
    states.enter("one", lost & bits[0])
    states.done(m)
    pick = random.Random(7)
    seen: set[tuple[str | None, str | None]] = set()

    async def bench(ctx) -> None:
        state: str | None = "one"
        for _ in range(500):
            found = [name for name, signal in states.items() if ctx.get(signal)]
            assert found == ([] if state is None else [state])
            value = pick.randrange(16)
            ctx.set(bits, value)
            await ctx.tick()
            seen.add((state, after(state, value)))
            state = after(state, value)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    ways = {(state, target) for state, exits in WAYS.items() for _, target in exits}
    assert seen >= ways | {(None, "one"), (None, None)}
