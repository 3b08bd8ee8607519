"""UART, 8 data bits, no parity, one stop bit: a byte stream on two wires."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .primitives.adders import decrement, increment

__all__ = ["Uart", "UartReceiver", "UartTransmitter"]

MIN_DIVISOR = 4
"""Fewest cycles per bit: below, the synchroniser's uncertainty of a cycle is too much of a bit."""


def _check_divisor(divisor: int) -> None:
    if divisor < MIN_DIVISOR:
        raise ValueError(f"divisor is {divisor}, must be at least {MIN_DIVISOR} cycles per bit")


class UartTransmitter(wiring.Component):
    """Sends bytes, lowest bit first, start bit 0, stop bit 1; the line rests at 1.

    A byte takes 10 * `divisor` cycles, during which `i.ready` is 0; its start bit begins in the cycle after it was
    taken.

    Parameters
    ----------
    divisor : int
        Cycles per bit, from 4.

    Members
    -------
    i : In(stream.Signature(8)), tx : Out(1)
    """

    i: stream.Interface
    tx: Signal

    def __init__(self, divisor: int) -> None:
        _check_divisor(divisor)
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1)})

    def elaborate(self, platform):
        m = Module()
        timer = Signal(range(self.divisor))
        bits = Signal(4)  # bit times left behind the one going on
        shift = Signal(9, init=0x1FF)
        ready = Signal(init=1)
        m.d.comb += [self.i.ready.eq(ready), self.tx.eq(shift[0])]
        with m.If(ready):
            m.d.sync += timer.eq(self.divisor - 1)
            with m.If(self.i.valid):
                m.d.sync += [shift.eq(Cat(Const(0, 1), self.i.payload)), bits.eq(9), ready.eq(0)]
        with m.Elif(timer == 0):
            m.d.sync += [
                timer.eq(self.divisor - 1),
                shift.eq(Cat(shift[1:], Const(1, 1))),
                bits.eq(decrement(m, platform, bits, name="bits_next")),
                ready.eq(bits == 0),
            ]
        with m.Else():
            m.d.sync += timer.eq(decrement(m, platform, timer, name="timer_next"))
        return m


class UartReceiver(wiring.Component):
    """Receives bytes; each bit is sampled once, in its middle, behind two synchroniser stages.

    A start bit that is over before its middle is taken for noise. A stop bit of 0 (wrong speed, noise, break) drops
    the byte with one `line_error`, and the receiver waits for the line to rest. A byte waits on `o` until the first
    data bit of the next one is sampled, 1.5 bit times after that one's start; then it is dropped with a `line_error`.
    With 16 cycles per bit or more, senders up to 3 % faster or slower are understood.

    Parameters
    ----------
    divisor : int
        Cycles per bit, from 4.

    Members
    -------
    rx : In(1), o : Out(stream.Signature(8))
    line_error : Out(1)
        One cycle per byte that was dropped.
    """

    rx: Signal
    o: stream.Interface
    line_error: Signal

    def __init__(self, divisor: int) -> None:
        _check_divisor(divisor)
        self.divisor = divisor
        super().__init__({"rx": In(1), "o": Out(stream.Signature(8)), "line_error": Out(1)})

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        timer = Signal(range(self.divisor))
        bits = Signal(range(9))
        tick = timer == 0
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        m.d.sync += timer.eq(decrement(m, platform, timer, name="timer_next"))
        with m.If(tick):
            m.d.sync += timer.eq(self.divisor - 1)
        with m.FSM():
            with m.State("REST"):
                # The cycle in which the start bit is seen is the first after its edge.
                m.d.sync += [timer.eq(self.divisor // 2 - 1), bits.eq(0)]
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                with m.If(tick):
                    m.next = "DATA"
                with m.If(line):
                    m.next = "REST"
            with m.State("DATA"), m.If(tick):
                m.d.comb += self.line_error.eq(self.o.valid & ~self.o.ready)
                m.d.sync += [
                    self.o.payload.eq(Cat(self.o.payload[1:], line)),
                    self.o.valid.eq(0),
                    bits.eq(increment(m, platform, bits, name="bits_next")),
                ]
                with m.If(bits == 7):
                    m.next = "STOP"
            with m.State("STOP"), m.If(tick):
                m.d.comb += self.line_error.eq(~line)
                m.d.sync += self.o.valid.eq(line)
                m.next = "REST"
                with m.If(~line):
                    m.next = "BREAK"
            with m.State("BREAK"), m.If(line):
                m.next = "REST"
        return m


class Uart(wiring.Component):
    """Transmitter and receiver.

    Parameters
    ----------
    divisor : int
        Cycles per bit, from 4.

    Members
    -------
    rx : In(1), tx : Out(1)
        The wires, not yet synchronised.
    i : In(stream.Signature(8)), o : Out(stream.Signature(8))
        Bytes to send, bytes received.
    line_error : Out(1)
        One cycle per received byte that was damaged or not taken in time.
    """

    rx: Signal
    tx: Signal
    i: stream.Interface
    o: stream.Interface
    line_error: Signal

    def __init__(self, divisor: int) -> None:
        _check_divisor(divisor)
        self.divisor = divisor
        super().__init__(
            {
                "rx": In(1),
                "tx": Out(1),
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "line_error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.transmitter = transmitter = UartTransmitter(self.divisor)
        m.submodules.receiver = receiver = UartReceiver(self.divisor)
        wiring.connect(m, wiring.flipped(self.i), transmitter.i)
        wiring.connect(m, receiver.o, wiring.flipped(self.o))
        m.d.comb += [
            self.tx.eq(transmitter.tx),
            receiver.rx.eq(self.rx),
            self.line_error.eq(receiver.line_error),
        ]
        return m
