"""A small design with a UART's two wires, to try the flow with."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Echo(wiring.Component):
    """A block RAM and an adder of `width` bits between rx and tx; `copies` of a register row make it large."""

    pump = 1
    rx: Signal
    tx: Signal
    busy: Signal
    error: Signal

    def __init__(self, *, width: int = 32, copies: int = 0) -> None:
        self.width = width
        self.copies = copies
        super().__init__({"rx": In(1), "tx": Out(1), "busy": Out(1), "error": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, total = Signal(self.width), Signal(self.width)
        m.d.sync += [bits.eq(Cat(self.rx, bits)), total.eq(total + bits)]
        m.submodules.memory = memory = Memory(shape=16, depth=256, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [write.addr.eq(bits), write.data.eq(total), write.en.eq(bits[9]), read.addr.eq(bits >> 8)]
        last = total[-1]
        for n in range(self.copies):
            row = Signal(self.width, name=f"row_{n}")
            m.d.sync += row.eq(row + Cat(last, row))
            last = row[-1]
        m.d.sync += self.tx.eq(read.data.xor() ^ last)
        m.d.comb += [self.busy.eq(bits[0]), self.error.eq(bits[:4])]
        return m
