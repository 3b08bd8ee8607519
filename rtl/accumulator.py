"""Run accumulator and Horner register, portable version."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .control import Control

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """Two-level shift-accumulate: popcounts to a run, runs to the result of a tile, modulo 2**acc_width.

    Nothing has a reset: a run starts with `first`, a tile with `fresh`.

    Parameters
    ----------
    config : Config
    shape : ShapeLike
        Of the popcount, which may be signed.
    slack : int
        Cycles by which bits of the result may come later than said below.

    Attributes
    ----------
    parts : list of int
        First bits of the parts of the result.
    lags : list of int
        Cycles by which each part comes later than said below.

    Members
    -------
    pop : In(shape), carry : In(1)
        Popcount of the word of `c_run`: their sum.
    c_ahead, c_run, c_result : In(Control)
        The same control word in three successive cycles.
    result : Out(acc_width)
        In the cycle behind `c_result` with `last` and before the next one: the result up to that run. In the first run
        of a tile it is undefined from the second cycle behind the last word of the tile before.
    """

    def __init__(self, config: Config, shape: ShapeLike, slack: int = 0):
        self.config = config
        self.parts = self.split(config, shape, slack)
        self.lags = self.lags_of(self.parts, slack)
        super().__init__(
            {
                "pop": In(shape),
                "carry": In(1),
                "c_ahead": In(Control),
                "c_run": In(Control),
                "c_result": In(Control),
                "result": Out(config.acc_width),
            }
        )

    @staticmethod
    def split(config: Config, shape: ShapeLike, slack: int) -> list[int]:
        """`parts` of such an accumulator."""
        return [0]

    @staticmethod
    def lags_of(parts: list[int], slack: int) -> list[int]:
        """`lags` of such an accumulator."""
        return list(range(len(parts)))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        pop = self.pop + self.carry
        run = Signal(config.run_width, reset_less=True)
        with m.If(self.c_run.first):
            m.d.sync += run.eq(Mux(self.c_run.valid, pop, 0))
        with m.Elif(self.c_run.valid):
            m.d.sync += run.eq(run + pop)

        result = Signal(config.acc_width, reset_less=True)
        m.d.comb += self.result.eq(result)
        with m.If(self.c_result.last):
            m.d.sync += result.eq(Mux(self.c_result.fresh, 0, result << 1) + run)
        return m
