"""Core: engine and link, with the main memory outside."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .engine import Engine
from .link import GAP_CYCLES, Link
from .memory import MemorySignature

__all__ = ["Core"]


class Core(wiring.Component):
    """An accelerator that a byte stream controls.

    The main memory port is the engine's while it is busy, else the link's.

    Parameters
    ----------
    config : Config
    engine : Component or None
        Anything with the ports of `rtl.engine.Engine`; None makes one.
    gap : int
        See `rtl.link.Link`.

    Members
    -------
    i : In(stream.Signature(8)), o : Out(stream.Signature(8))
        Requests and replies of `host/protocol.py`.
    line_error : In(1)
        A byte was lost in front of `i`; 0 where that cannot happen.
    busy : Out(1), error : Out(4)
        The engine's, for a lamp or an interrupt.
    mem : Out(MemorySignature(config))
    """

    i: stream.Interface
    o: stream.Interface
    line_error: Signal
    busy: Signal
    error: Signal
    mem: Any

    def __init__(self, config: Config, engine: Any = None, *, gap: int = GAP_CYCLES) -> None:
        self.config = config
        self.engine: Any = Engine(config) if engine is None else engine
        self.link = Link(config, gap=gap)
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "line_error": In(1),
                "busy": Out(1),
                "error": Out(4),
                "mem": Out(MemorySignature(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = engine = self.engine
        m.submodules.link = link = self.link
        wiring.connect(m, wiring.flipped(self.i), link.i)
        wiring.connect(m, link.o, wiring.flipped(self.o))
        # A register between the decision of the link and the engine; `entry` stays for that cycle.
        m.d.sync += engine.start.eq(link.start)
        m.d.comb += [
            engine.abort.eq(link.abort),
            link.line_error.eq(self.line_error),
            engine.entry.eq(link.entry),
            link.busy.eq(engine.busy),
            link.error.eq(engine.error),
            link.cycles.eq(engine.cycles),
            self.busy.eq(engine.busy),
            self.error.eq(engine.error),
            engine.mem.rdata.eq(self.mem.rdata),
            link.mem.rdata.eq(self.mem.rdata),
        ]
        for name in ("addr", "en", "we", "wdata", *(["waddr"] if self.config.mem_ports > 1 else [])):
            m.d.comb += getattr(self.mem, name).eq(Mux(engine.busy, getattr(engine.mem, name), getattr(link.mem, name)))
        return m
