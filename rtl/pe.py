"""Processing element: popcount, two-level shift-accumulate, drain register."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .accumulator import Accumulator
from .accumulator_ecp5 import Ecp5Accumulator
from .accumulator_ice40 import Ice40Accumulator
from .config import Config
from .control import Control
from .popcount import Popcount
from .popcount_absorbed import AbsorbedPopcount
from .popcount_parity import ParityPopcount
from .primitives.family import family_of
from .recode import uses_parity

__all__ = ["PE", "Control", "pe_latency", "popcount_of"]

_ACCUMULATORS = {"portable": Accumulator, "ice40": Ice40Accumulator, "ecp5": Ecp5Accumulator}


def popcount_of(config: Config, family: str) -> type[Popcount] | type[ParityPopcount] | type[AbsorbedPopcount]:
    """The class of popcount in the PEs of a family."""
    if uses_parity(config, family):
        return ParityPopcount
    return AbsorbedPopcount if family == "ecp5" and config.planes == 1 else Popcount


def pe_latency(config: Config, family: str) -> int:
    """Cycles from the operands at a PE of the family to their popcount; `config.pop_latency` at most."""
    return popcount_of(config, family).latency(config)


class PE(wiring.Component):
    """Shift-accumulate of weighted popcounts over the runs of a tile (Horner's rule), modulo 2**acc_width.

    One word per cycle, no flow control. The three control inputs are the same control word at its three stages, so that
    the array keeps one delay line for all PEs: `c_run` belongs to the popcount that leaves the tree in this cycle, that
    is `pe_latency` cycles after its operands, `c_result` comes one and `c_drain` two cycles later. The drain register
    holds the tile's result one cycle after `c_drain`; `shift` replaces it by the one of the row above.
    Nothing has a reset: a run starts with `first`, a tile with `fresh`, at the earliest two cycles behind the last word
    of the tile before.

    The structure depends on the family of the fabric, the function does not, but for the operands: they are what
    `recode.recode` makes of a word for that family. Vendor cells appear only on a platform of the family; elsewhere the
    same structure is made of equations.

    Parameters
    ----------
    config : Config
    family : str or None
        One of `primitives.family.FAMILIES`; None: that of the platform.

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

    def __init__(self, config: Config, family: str | None = None):
        self.config = config
        self.family = family
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
        family = self.family or family_of(platform)
        m.submodules.popcount = popcount = popcount_of(config, family)(config)
        m.submodules.accumulator = accumulator = _ACCUMULATORS[family](config, len(popcount.o))
        m.d.comb += [
            popcount.a.eq(self.a),
            popcount.w.eq(self.w),
            accumulator.pop.eq(popcount.o),
            accumulator.carry.eq(popcount.carry),
            accumulator.c_run.eq(self.c_run),
            accumulator.c_result.eq(self.c_result),
        ]
        drain = Signal(config.acc_width, reset_less=True)
        with m.If(self.c_drain.drain):
            m.d.sync += drain.eq(accumulator.result)
        with m.Elif(self.shift):
            m.d.sync += drain.eq(self.above)
        m.d.comb += self.o.eq(drain)
        return m
