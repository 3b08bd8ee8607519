"""Processing element: popcount, two-level shift-accumulate, drain register."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .popcount import Popcount

__all__ = ["PE", "Control"]


class Control(data.Struct):
    """What a PE does with the popcount of one word. All zero: nothing."""

    valid: 1
    """The popcount counts."""
    first: 1
    """First word of a run: the run accumulator starts anew (at zero if not valid)."""
    last: 1
    """Last word of a run: result <- 2 * result + run."""
    fresh: 1
    """With last: the first run of a tile, result <- run."""
    drain: 1
    """With last: the last run of a tile, the result goes to the drain register."""


class PE(wiring.Component):
    """Shift-accumulate of weighted popcounts over the runs of a tile (Horner's rule), modulo 2**acc_width.

    One word per cycle, no flow control. The three control inputs are the same control word at its three stages, so that
    the array keeps one delay line for all PEs: `c_run` belongs to the popcount that leaves the tree in this cycle, that
    is `pop_latency` cycles after its operands, `c_result` comes one and `c_drain` two cycles later. The drain register
    holds the tile's result one cycle after `c_drain`; `shift` replaces it by the one of the row above.
    Nothing has a reset: a run starts with `first`, a tile with `fresh`.

    Members
    -------
    a, w : In
        Operands, see `Popcount`.
    c_run, c_result, c_drain : In(Control)
    shift : In(1)
        Take over `above`; never together with `c_drain.drain`.
    above : In(acc_width)
        Drain register of the next row (the one that leaves the array later).
    o : Out(acc_width)
        The drain register.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "a": In(config.planes * config.lanes),
                "w": In(config.lanes),
                "c_run": In(Control),
                "c_result": In(Control),
                "c_drain": In(Control),
                "shift": In(1),
                "above": In(config.acc_width),
                "o": Out(config.acc_width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.popcount = popcount = Popcount(config)
        m.d.comb += [popcount.a.eq(self.a), popcount.w.eq(self.w)]

        run = Signal(config.run_width, reset_less=True)
        with m.If(self.c_run.first):
            m.d.sync += run.eq(Mux(self.c_run.valid, popcount.o, 0))
        with m.Elif(self.c_run.valid):
            m.d.sync += run.eq(run + popcount.o)

        result = Signal(config.acc_width, reset_less=True)
        with m.If(self.c_result.last):
            m.d.sync += result.eq(Mux(self.c_result.fresh, 0, result << 1) + run)

        drain = Signal(config.acc_width, reset_less=True)
        with m.If(self.c_drain.drain):
            m.d.sync += drain.eq(result)
        with m.Elif(self.shift):
            m.d.sync += drain.eq(self.above)
        m.d.comb += self.o.eq(drain)
        return m
