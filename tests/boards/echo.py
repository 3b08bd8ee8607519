"""A small design with a UART's two wires, to try the flow with."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Echo(wiring.Component):
    """A block RAM and an adder of `width` bits between rx and tx; `copies` of a register row make it large.

    With `pump` = 2 the RAM is read, and what it gives registered, in domain `fast`.
    """

    pump: int
    rx: Signal
    tx: Signal
    busy: Signal
    error: Signal

    def __init__(self, *, width: int = 32, copies: int = 0, pump: int = 1) -> None:
        self.width = width
        self.copies = copies
        self.pump = pump
        super().__init__({"rx": In(1), "tx": Out(1), "busy": Out(1), "error": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, total = Signal(self.width), Signal(self.width)
        m.d.sync += [bits.eq(Cat(self.rx, bits)), total.eq(total + bits)]
        m.submodules.memory = memory = Memory(shape=16, depth=256, init=[])
        domain = "fast" if self.pump > 1 else "sync"
        write, read = memory.write_port(), memory.read_port(domain=domain)
        word = Signal(16)
        m.d[domain] += word.eq(read.data)
        m.d.comb += [write.addr.eq(bits), write.data.eq(total), write.en.eq(bits[9]), read.addr.eq(bits >> 8)]
        last = total[-1]
        for n in range(self.copies):
            row = Signal(self.width, name=f"row_{n}")
            m.d.sync += row.eq(row + Cat(last, row))
            last = row[-1]
        m.d.sync += self.tx.eq(word.xor() ^ last)
        m.d.comb += [self.busy.eq(bits[0]), self.error.eq(bits[:4])]
        return m
