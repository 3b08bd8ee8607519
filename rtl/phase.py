"""The phase of the engine's clock as the faster clock of the array sees it, and the array's reset."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Phase"]


class Phase(wiring.Component):
    """Tells which of its two edges in a cycle of `sync` domain `fast` is coming.

    The clock of `fast` has twice the frequency of that of `sync`, and every rising edge of `sync` is one of `fast`.
    What goes from one domain to the other is launched and captured at edges of both, so it has a whole cycle of `sync`;
    all but the two flip-flops of `sync` in here, which meet `fast` with no more than one LUT on the way, the store
    engine's word to the drain chain (`rtl/engine.py`) and the lower halves of lines (`rtl/ladder_memory.py`).

    Members
    -------
    last : Out(1)
        In `fast`: the coming edge is one of `sync`, too. Undefined while `sync` is reset.
    clear : In(1)
        In `sync`: reset `fast`.
    reset : Out(1)
        In `fast`: 1 for a cycle of `sync`, beginning one and a half behind `clear`; and while `sync` is reset.
    """

    last: Signal
    clear: Signal
    reset: Signal

    def __init__(self) -> None:
        super().__init__({"last": Out(1), "clear": In(1), "reset": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        toggle, seen, clear = Signal(), Signal(reset_less=True), Signal(init=1)
        m.d.sync += [toggle.eq(~toggle), clear.eq(self.clear)]
        m.d.fast += [seen.eq(toggle), self.last.eq(toggle ^ seen), self.reset.eq(clear)]
        return m
