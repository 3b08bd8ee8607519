"""Processing element: popcount, two-level shift-accumulate, drain register."""

from itertools import pairwise

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .accumulator import Accumulator
from .accumulator_ecp5 import Ecp5Accumulator
from .accumulator_ice40 import Ice40Accumulator
from .config import Config
from .control import Control
from .delay import delay_line
from .popcount import Popcount
from .popcount_absorbed import AbsorbedPopcount
from .popcount_pairs import PairPopcount
from .popcount_parity import ParityPopcount
from .popcount_weighted import WeightedPopcount
from .recode import chunk_width

__all__ = ["ACCUMULATORS", "PE", "Control", "accumulator_of", "pe_latency", "popcount_of"]

ACCUMULATORS = {"portable": Accumulator, "ice40": Ice40Accumulator, "ecp5": Ecp5Accumulator}
"""Class of accumulator in the PEs of each family."""

_Popcount = Popcount | AbsorbedPopcount | PairPopcount | ParityPopcount | WeightedPopcount
_STEPS = ("c_run", "c_result", "c_drain")


def _popcount_class(config: Config, family: str) -> type[_Popcount]:
    if family == "ice40":
        return ParityPopcount if config.planes == 1 else PairPopcount
    if family == "ecp5":
        return AbsorbedPopcount if config.planes == 1 else WeightedPopcount
    return Popcount


def popcount_of(config: Config, family: str) -> _Popcount:
    """The popcount in the PEs of a family."""
    return _popcount_class(config, family)(config)


def pe_latency(config: Config, family: str) -> int:
    """Cycles from the operands of the array to their popcount in a PE of the family; `config.pop_latency` at most."""
    return _popcount_class(config, family).latency(config)


def accumulator_of(config: Config, family: str, shape: ShapeLike) -> Accumulator:
    """The accumulator in the PEs of a family, for popcounts of that shape."""
    slack = config.pop_latency - pe_latency(config, family) if config.levels == 1 else 0
    return ACCUMULATORS[family](config, shape, slack=slack)


class PE(wiring.Component):
    """Shift-accumulate of weighted popcounts over the runs of a tile (Horner's rule), modulo 2**acc_width.

    One word per cycle, no flow control. The control inputs are the same control word in successive cycles, so that the
    array keeps one delay line for all PEs: `c_run` belongs to the popcount that leaves the tree in this cycle, that is
    `pe_latency` cycles after its operands, `c_ahead` comes one cycle before it, `c_result` one and `c_drain` two cycles
    later. The drain register holds part k of the tile's result lags[k] + 1 cycles after `c_drain`, the whole one in
    time for a popcount that takes `config.pop_latency`; `shift` replaces it by the one behind it in the drain chain.
    Nothing has a reset: a run starts with `first`, a tile with `fresh`, at the earliest two cycles behind the last word
    of the tile before.

    Where `Config.stages` is not 0, the PE has `c_run`, `c_result` and `c_drain` in registers of its own and hands the
    first of them on, so that control goes from PE to PE as operands do.

    The structure depends on the family of the fabric, the function does not, but for the operands: they are what
    `recode`, in front of the buffers, and `edge`, behind them, make for that family. Vendor cells appear only on a
    platform of the family; elsewhere the same structure is made of equations.

    Parameters
    ----------
    config : Config
    family : str
        One of `primitives.family.FAMILIES`.
    early : bool
        `shift` passes a register and comes a cycle earlier. Always so with `Config.stages`.

    Members
    -------
    a, w : In
        Operands, see `Popcount`.
    c_ahead : In(Control)
    c_run, c_result, c_drain : In(Control)
        Not with `Config.stages`.
    c_next : Out(Control)
        With `Config.stages`: `c_ahead` a cycle ago.
    shift : In(1)
        Take over `behind`; not while a result comes.
    behind : In(acc_width)
        Drain register of the PE behind this one in the drain chain; its result leaves the array later.
    o : Out(acc_width)
        The drain register.

    Attributes
    ----------
    parts, lags : list of int
        First bits of the parts of a result, and when they come, see `Accumulator`.
    """

    def __init__(self, config: Config, family: str = "portable", *, early: bool = False):
        self.config = config
        self.family = family
        self.early = early or config.stages > 0
        self._popcount = popcount_of(config, family)
        self._accumulator = accumulator_of(config, family, self._popcount.o.shape())
        self.parts, self.lags = self._accumulator.parts, self._accumulator.lags
        steps = dict.fromkeys(_STEPS, In(Control))
        super().__init__(
            {
                "a": In(chunk_width(config, family) * config.chunks_per_lanes),
                "w": In(config.lanes),
                "c_ahead": In(Control),
                "shift": In(1),
                "behind": In(config.acc_width),
                "o": Out(config.acc_width),
            }
            | ({"c_next": Out(Control)} if config.stages else steps)
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.popcount = popcount = self._popcount
        m.submodules.accumulator = accumulator = self._accumulator
        if config.stages:
            c_run, c_result, c_drain = delay_line(m, self.c_ahead, 3, "control", reset_less=True)[1:]
            m.d.comb += self.c_next.eq(c_run)
        else:
            c_run, c_result, c_drain = (getattr(self, step) for step in _STEPS)
        m.d.comb += [
            popcount.a.eq(self.a),
            popcount.w.eq(self.w),
            accumulator.pop.eq(popcount.o),
            accumulator.carry.eq(popcount.carry),
            accumulator.c_ahead.eq(self.c_ahead),
            accumulator.c_run.eq(c_run),
            accumulator.c_result.eq(c_result),
        ]
        drain = Signal(config.acc_width, reset_less=True)
        ahead, take = c_result.drain, c_drain.drain
        for part, (low, high) in enumerate(pairwise([*self.parts, config.acc_width])):
            if part:
                lag = self.lags[part] - self.lags[part - 1]
                ahead, take = delay_line(m, take, lag, f"take{part}", reset_less=True)[-2:]
            if self.early:
                moves = delay_line(m, ahead | self.shift, 1, f"moves{part}", reset_less=True)[-1]
            elif config.pump > 1:
                # A register apart from `take`, which drives a LUT per bit all over the array, can stand where enables
                # come from. It is inverted, as synthesis makes one of two that are equal.
                stays = delay_line(m, ~ahead, 1, f"stays{part}", reset_less=True)[-1]
                moves = ~stays | self.shift
            else:
                moves = take | self.shift
            with m.If(moves):
                m.d.sync += drain[low:high].eq(Mux(take, accumulator.result[low:high], self.behind[low:high]))
        m.d.comb += self.o.eq(drain)
        return m
