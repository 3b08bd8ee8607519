"""Top: core and main memory, controlled by a byte stream or, over a UART, by two wires."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .core import Core
from .link import GAP_CYCLES
from .primitives.main_memory import MainMemory
from .queue import Queue
from .uart import Uart

__all__ = ["Top"]


class Top(wiring.Component):
    """A whole accelerator, with a domain `fast` where `Config.pump` is 2.

    Parameters
    ----------
    config : Config
    engine, gap
        See `rtl.core.Core`.
    clocks_per_bit : int or None
        Cycles per bit of the UART, from 4; None: no UART, byte streams.

    Members
    -------
    rx : In(1), tx : Out(1)
        With a UART.
    i, o, line_error
        Without, see `rtl.core.Core`.
    busy, error
        See `rtl.core.Core`.
    """

    rx: Signal
    tx: Signal
    i: stream.Interface
    o: stream.Interface
    line_error: Signal
    busy: Signal
    error: Signal

    def __init__(
        self,
        config: Config,
        engine: Any = None,
        *,
        clocks_per_bit: int | None = None,
        gap: int = GAP_CYCLES,
    ) -> None:
        self.config = config
        self.pump = config.pump
        self.core = Core(config, engine, gap=gap)
        self.memory = MainMemory(config)
        self.uart = None if clocks_per_bit is None else Uart(clocks_per_bit)
        streams = {"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "line_error": In(1)}
        wires = {"rx": In(1), "tx": Out(1)}
        super().__init__({**(streams if self.uart is None else wires), "busy": Out(1), "error": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = self.core
        m.submodules.memory = self.memory
        wiring.connect(m, core.mem, self.memory.bus)
        m.d.comb += [self.busy.eq(core.busy), self.error.eq(core.error)]
        if self.uart is None:
            wiring.connect(m, wiring.flipped(self.i), core.i)
            wiring.connect(m, core.o, wiring.flipped(self.o))
            m.d.comb += core.line_error.eq(self.line_error)
        else:
            m.submodules.uart = uart = self.uart
            wiring.connect(m, uart.o, core.i)
            to_uart = core.o
            if self.config.stages:  # they may stand far apart
                m.submodules.sending = sending = Queue(8, 2)
                wiring.connect(m, core.o, sending.i)
                to_uart = sending.o
            wiring.connect(m, to_uart, uart.i)
            m.d.comb += [uart.rx.eq(self.rx), self.tx.eq(uart.tx), core.line_error.eq(uart.line_error)]
        return m
