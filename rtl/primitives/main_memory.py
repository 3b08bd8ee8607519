"""Main memory: a RAM of one or two ports, portable, or the four single-port RAM blocks of an iCE40 UP5K.

SB_SPRAM256KA (Lattice FPGA-TN-02022): 16384 words of 16 bits, a write enable per 4 bits, registered output that holds
while not selected, contents undefined after configuration. No tool infers it with these write enables.
"""

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import Config, ConfigError
from ..delay import delay_line
from ..memory import MemorySignature
from .family import family_of

__all__ = ["MainMemory"]

_SPRAM_DEPTH = 16384
_SPRAM_WIDTH = 16
_SPRAM_COUNT = 4
_SPRAM_GRANULE = 4
"""Bits; `Config.granule` is a multiple of it."""
_SLICE = 4
"""Block RAMs that share a register for their address."""
_BLOCK_DEPTH = 16384
"""Words of a block RAM of one bit on ECP5."""


class MainMemory(wiring.Component):
    """`mem_depth` words of `mem_width` bits, written by granules; contents undefined until written.

    Of `memory_lag` registers the odd ones stand in front of the memory, the even ones behind it. On ECP5, where a large
    memory takes block RAMs from all over the device, the last one in front is there once per `_SLICE` block RAMs.

    This component is what an ASIC flow replaces by its SRAM macro.

    Parameters
    ----------
    config : Config

    Members
    -------
    bus : In(MemorySignature(config))
    """

    bus: Any

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__({"bus": In(MemorySignature(config))})

    def elaborate(self, platform):
        m = Module()
        config, bus = self.config, self.bus
        behind = config.memory_lag // 2
        in_front = config.memory_lag - behind
        sliced = family_of(platform) == "ecp5" and in_front > 1
        late = delay_line(m, Cat(bus.en, bus.we), in_front - sliced, "access")[-1]
        places = Cat(bus.addr, bus.waddr if config.mem_ports > 1 else bus.addr)
        word = delay_line(m, Cat(places, bus.wdata), in_front - sliced, "word", reset_less=True)[-1]
        en, we = late[0], late[1:]
        address, write_address = word[: len(bus.addr)], word[len(bus.addr) : len(places)]
        data = word[len(places) :]
        if config.mem_ports == 1:  # an access writes or reads
            read, write = en & ~we.any(), we & en.replicate(len(we))
        else:
            read, write = en, we
        if getattr(platform, "device", None) == "iCE40UP5K":
            rdata = self._spram(m, en, we, address, data)
        elif sliced:
            rdata = Signal(config.mem_width)
            width = min(config.granule, _SLICE * max(1, _BLOCK_DEPTH // config.mem_depth))
            for k in range(config.mem_width // width):
                m.submodules[f"slice_{k}"] = part = _Slice(config, width)
                m.d.comb += [
                    Cat(part.read, part.addr).eq(Cat(read, address)),
                    Cat(part.write, part.waddr).eq(Cat(write[k * width // config.granule], write_address)),
                    part.wdata.eq(data.word_select(k, width)),
                    rdata.word_select(k, width).eq(part.rdata),
                ]
        else:
            rdata = _ram(m, config.mem_width, config.mem_depth, read, address, write, write_address, data)
        m.d.comb += bus.rdata.eq(delay_line(m, rdata, behind, "rdata", reset_less=True)[-1])
        return m

    def _spram(self, m: Module, en: Value, we: Value, addr: Value, wdata: Value) -> Value:
        config = self.config
        columns = config.mem_width // _SPRAM_WIDTH
        banks = max(1, config.mem_depth // _SPRAM_DEPTH)
        if config.mem_ports > 1:
            raise ConfigError(
                f"configuration {config.name!r}: mem_ports is {config.mem_ports}, the SPRAM of a UP5K has one port: "
                "make it 1"
            )
        if columns * banks > _SPRAM_COUNT:
            raise ConfigError(
                f"configuration {config.name!r}: mem_depth {config.mem_depth} x mem_width {config.mem_width} needs "
                f"{columns * banks} SPRAM blocks, a UP5K has {_SPRAM_COUNT}: make mem_depth or mem_width smaller"
            )
        nibbles = Signal(config.mem_width // _SPRAM_GRANULE)
        m.d.comb += nibbles.eq(Cat(we[n * _SPRAM_GRANULE // config.granule] for n in range(len(nibbles))))
        address, rdata = Signal(exact_log2(_SPRAM_DEPTH)), Signal(config.mem_width)
        bank, bank_read = Signal(max(1, exact_log2(banks))), Signal(max(1, exact_log2(banks)))
        m.d.comb += [address.eq(addr), bank.eq(addr >> len(address))]
        with m.If(en & ~we.any()):
            m.d.sync += bank_read.eq(bank)
        for b in range(banks):
            words = Signal(config.mem_width, name=f"rdata_{b}")
            for c in range(columns):
                m.submodules[f"spram_{b}_{c}"] = Instance(
                    "SB_SPRAM256KA",
                    i_ADDRESS=address,
                    i_DATAIN=wdata.word_select(c, _SPRAM_WIDTH),
                    i_MASKWREN=nibbles.word_select(c, _SPRAM_WIDTH // _SPRAM_GRANULE),
                    i_WREN=we.any(),
                    i_CHIPSELECT=en & (bank == b),
                    i_CLOCK=ClockSignal(),
                    i_STANDBY=Const(0, 1),
                    i_SLEEP=Const(0, 1),
                    i_POWEROFF=Const(1, 1),  # active low
                    o_DATAOUT=words.word_select(c, _SPRAM_WIDTH),
                )
            with m.If(bank_read == b):
                m.d.comb += rdata.eq(words)
        return rdata


def _ram(
    m: Module, width: int, depth: int, read: Value, addr: Value, write: Value, waddr: Value, wdata: Value
) -> Value:
    """A RAM with a port to read and one to write, with a write enable per part of the width; returns the word read."""
    # Nobody reads a word that is written in the same cycle, which `no_rw_check` tells synthesis.
    attributes: Any = {"no_rw_check": 1}
    m.submodules.data = data = Memory(shape=width, depth=depth, init=[], attrs=attributes)
    writer, reader = data.write_port(granularity=width // len(write)), data.read_port()
    m.d.comb += [
        Cat(writer.addr, writer.data, writer.en).eq(Cat(waddr, wdata, write)),
        Cat(reader.addr, reader.en).eq(Cat(addr, read)),
    ]
    return reader.data


class _Slice(wiring.Component):
    """The RAM of a part of all words, behind a register of its own."""

    def __init__(self, config: Config, width: int) -> None:
        self.config = config
        self.width = width
        address = exact_log2(config.mem_depth)
        super().__init__(
            {
                "read": In(1),
                "addr": In(address),
                "write": In(1),
                "waddr": In(address),
                "wdata": In(width),
                "rdata": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()

        def late(value: Value, name: str) -> Value:
            return delay_line(m, value, 1, name, reset_less=True)[-1]

        read, write = late(self.read, "read"), late(self.write, "write")
        addr, wdata = late(self.addr, "addr"), late(self.wdata, "wdata")
        waddr = late(self.waddr, "waddr") if self.config.mem_ports > 1 else addr
        m.d.comb += self.rdata.eq(_ram(m, self.width, self.config.mem_depth, read, addr, write, waddr, wdata))
        return m
