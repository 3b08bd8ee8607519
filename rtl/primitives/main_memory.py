"""Main memory: a single-port RAM, portable, or the four single-port RAM blocks of an iCE40 UP5K.

SB_SPRAM256KA (Lattice FPGA-TN-02022): 16384 words of 16 bits, a write enable per 4 bits, registered output that holds
while not selected, contents undefined after configuration. No tool infers it with these write enables.
"""

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from ..config import Config, ConfigError
from ..memory import MemorySignature

__all__ = ["MainMemory"]

_SPRAM_DEPTH = 16384
_SPRAM_WIDTH = 16
_SPRAM_COUNT = 4
_SPRAM_GRANULE = 4
"""Bits; `Config.granule` is a multiple of it."""


class MainMemory(wiring.Component):
    """`mem_depth` words of `mem_width` bits, written by granules; contents undefined until written.

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
        self.data: Memory | None = None
        """The portable body's memory, for test benches to look into; None before elaboration and on a UP5K."""
        super().__init__({"bus": In(MemorySignature(config))})

    def elaborate(self, platform):
        if getattr(platform, "device", None) == "iCE40UP5K":
            return self._elaborate_spram()
        return self._elaborate_portable()

    def _elaborate_portable(self) -> Module:
        m = Module()
        config, bus = self.config, self.bus
        # One access per cycle: a read and a write cannot collide, which `no_rw_check` tells synthesis.
        attributes: Any = {"no_rw_check": 1}
        m.submodules.data = self.data = data = Memory(
            shape=config.mem_width, depth=config.mem_depth, init=[], attrs=attributes
        )
        write = data.write_port(granularity=config.granule)
        read = data.read_port()
        m.d.comb += [
            write.addr.eq(bus.addr),
            write.data.eq(bus.wdata),
            write.en.eq(bus.we & bus.en.replicate(config.granules_per_word)),
            read.addr.eq(bus.addr),
            read.en.eq(bus.en & ~bus.we.any()),
            bus.rdata.eq(read.data),
        ]
        return m

    def _elaborate_spram(self) -> Module:
        config, bus = self.config, self.bus
        columns = config.mem_width // _SPRAM_WIDTH
        banks = max(1, config.mem_depth // _SPRAM_DEPTH)
        if columns * banks > _SPRAM_COUNT:
            raise ConfigError(
                f"configuration {config.name!r}: mem_depth {config.mem_depth} x mem_width {config.mem_width} needs "
                f"{columns * banks} SPRAM blocks, a UP5K has {_SPRAM_COUNT}: make mem_depth or mem_width smaller"
            )
        m = Module()
        nibbles = Signal(config.mem_width // _SPRAM_GRANULE)
        m.d.comb += nibbles.eq(Cat(bus.we[n * _SPRAM_GRANULE // config.granule] for n in range(len(nibbles))))
        address = Signal(exact_log2(_SPRAM_DEPTH))
        bank, bank_read = Signal(max(1, exact_log2(banks))), Signal(max(1, exact_log2(banks)))
        m.d.comb += [address.eq(bus.addr), bank.eq(bus.addr >> len(address))]
        with m.If(bus.en & ~bus.we.any()):
            m.d.sync += bank_read.eq(bank)
        for b in range(banks):
            words = Signal(config.mem_width, name=f"rdata_{b}")
            for c in range(columns):
                m.submodules[f"spram_{b}_{c}"] = Instance(
                    "SB_SPRAM256KA",
                    i_ADDRESS=address,
                    i_DATAIN=bus.wdata.word_select(c, _SPRAM_WIDTH),
                    i_MASKWREN=nibbles.word_select(c, _SPRAM_WIDTH // _SPRAM_GRANULE),
                    i_WREN=bus.we.any(),
                    i_CHIPSELECT=bus.en & (bank == b),
                    i_CLOCK=ClockSignal(),
                    i_STANDBY=Const(0, 1),
                    i_SLEEP=Const(0, 1),
                    i_POWEROFF=Const(1, 1),  # active low
                    o_DATAOUT=words.word_select(c, _SPRAM_WIDTH),
                )
            with m.If(bank_read == b):
                m.d.comb += bus.rdata.eq(words)
        return m
