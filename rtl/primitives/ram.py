"""Block RAM with one write and one read port, for fast clocks with registers around the latter.

DP16KD (Lattice FPGA-TN-02204): 1024 words of 18 bits or 2048 of 9, among others; one port writes, one reads.
Without its output register a word comes 5.8 ns behind the clock (nextpnr, speed grade 6), with it 1.0 ns. No tool
infers the register, and words of 36 bits take the outputs of both ports, so only half as wide ones have it here.
"""

from typing import Any

from amaranth.hdl import Assert, Cat, ClockSignal, DomainRenamer, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..delay import delay_line
from ..relay import Relay
from .family import family_of

__all__ = ["BlockRam"]

_SHAPES = ((1024, 18, 4), (2048, 9, 3))
"""Words, bits and lowest address bit of a DP16KD."""
_ADDRESS = 14
_PART = 32
"""Bits that share a register for their read address, two cells, where it divides a granule; else a granule."""
_GROUP = 4
"""Such parts that share the register in front of it."""


class BlockRam(wiring.Component):
    """Simple dual-port synchronous RAM; `read_data` follows one cycle after `read` and stays until the next one, both
    three cycles later if it is `registered`.

    Reading and writing one word in the same cycle is forbidden (asserted in simulation): that is what lets the tools
    leave out the collision logic of block RAMs. Contents are undefined until written.

    Parameters
    ----------
    width, depth : int
        Bits and words.
    granule : int or None
        Bits per write enable; None: the whole word.
    read_domain : str
        Clock domain of the read port; that of the write port is `sync`.
    registered : bool
        With two registers in front of the read port and one at the output. On ECP5 the former are there several times,
        as the cells of a wide memory may stand far apart, and the latter are those of the cells.

    Members
    -------
    read : In(1), read_address : In, read_data : Out(width)
    write : In(width // granule), write_address : In, write_data : In(width)
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        granule: int | None = None,
        read_domain: str = "sync",
        registered: bool = False,
    ):
        self.width = width
        self.depth = depth
        self.granule = granule
        self.read_domain = read_domain
        self.registered = registered
        address = max(1, (depth - 1).bit_length())
        super().__init__(
            {
                "read": In(1),
                "read_address": In(address),
                "read_data": Out(width),
                "write": In(width // (granule or width)),
                "write_address": In(address),
                "write_data": In(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if family_of(platform) == "ecp5" and self.registered:
            granule = self.granule or self.width
            width = granule if granule % _PART else _PART
            access = Cat(self.read, self.read_address)
            for k in range(self.width // width):
                if k % _GROUP == 0:
                    m.submodules[f"access_{k}"] = relay = DomainRenamer(self.read_domain)(Relay(len(access)))
                    m.d.comb += relay.i.eq(access)
                m.submodules[f"part_{k}"] = part = _Cells(width, self.depth, self.read_domain)
                m.d.comb += [
                    Cat(part.read, part.read_address).eq(relay.o),
                    self.read_data.word_select(k, width).eq(part.read_data),
                    Cat(part.write, part.write_address).eq(Cat(self.write[k * width // granule], self.write_address)),
                    part.write_data.eq(self.write_data.word_select(k, width)),
                ]
            return m
        read, address = _access(m, self, 2 * self.registered)
        self._memory(m, platform, read, address)
        collision = Signal()
        m.d.comb += collision.eq(read & self.write.any() & (address == self.write_address))
        if platform is None:
            m.d[self.read_domain] += Assert(~collision, "block RAM: a word is read and written in the same cycle")
        return m

    def _memory(self, m: Module, platform: object, enable: Value, address: Value) -> None:
        # `no_rw_check` tells synthesis that collisions do not matter; the assertion above is why that is sound.
        # `ram_style` keeps small ones out of logic cells, but for those that are quicker in LUTs and take few of them.
        small = family_of(platform) == "ecp5" and self.depth <= 64 and self.width <= 64
        attributes = {"no_rw_check": 1, "ram_style": "distributed" if small else "block"}
        m.submodules.memory = memory = Memory(
            shape=self.width,
            depth=max(2, self.depth),
            init=[],
            attrs=attributes,  # type: ignore[arg-type]
        )
        write = memory.write_port(granularity=self.granule)
        read = memory.read_port(domain=self.read_domain)
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(enable),
            read.addr.eq(address),
        ]
        late = delay_line(m, read.data, self.registered, "read_data", reset_less=True, domain=self.read_domain)
        m.d.comb += self.read_data.eq(late[-1])


class _Cells(BlockRam):
    """One of one write enable, of an ECP5's cells with their output registers; one is in front of the read port."""

    def __init__(self, width: int, depth: int, read_domain: str):
        super().__init__(width=width, depth=depth, read_domain=read_domain, registered=True)

    def elaborate(self, platform):
        m = Module()
        read, address = _access(m, self, 1)
        bits, low = next((bits, low) for words, bits, low in _SHAPES if self.depth <= words)
        for at in range(0, self.width, bits):
            part = slice(at, min(at + bits, self.width))
            ports: dict[str, Any] = {
                "i_CLKA": ClockSignal(), "i_CEA": 1, "i_WEA": self.write, "i_OCEA": 0,
                "i_CLKB": ClockSignal(self.read_domain), "i_CEB": read, "i_WEB": 0, "i_OCEB": 1,
                "i_RSTA": 0, "i_RSTB": 0,
            }  # fmt: skip
            ports |= {f"i_CS{port}{k}": 0 for port in "AB" for k in range(3)}
            for k in range(_ADDRESS):
                at_bit = low <= k < low + len(address)
                # Words of two bytes have their write enables in the lowest bits.
                ports[f"i_ADA{k}"] = self.write_address[k - low] if at_bit else int(low == 4 and k < 2)
                ports[f"i_ADB{k}"] = address[k - low] if at_bit else 0
            ports |= {f"i_DIA{k}": bit for k, bit in enumerate(self.write_data[part])}
            ports |= {f"o_DOB{k}": bit for k, bit in enumerate(self.read_data[part])}
            m.submodules[f"cell_{at}"] = Instance("DP16KD", **_parameters(bits), **ports)
        return m


def _access(m: Module, ram: BlockRam, registers: int) -> tuple[Value, Value]:
    """`read` and `read_address`, behind that many registers."""
    both = Cat(ram.read, ram.read_address)
    late = delay_line(m, both, registers, "read_access", reset_less=True, domain=ram.read_domain)[-1]
    return late[0], late[1:]


def _parameters(bits: int) -> dict[str, Any]:
    """Port A writes words of that many bits, port B reads them through its output register."""
    return {
        "p_DATA_WIDTH_A": bits, "p_WRITEMODE_A": "NORMAL", "p_REGMODE_A": "NOREG", "p_CSDECODE_A": "0b000",
        "p_DATA_WIDTH_B": bits, "p_WRITEMODE_B": "NORMAL", "p_REGMODE_B": "OUTREG", "p_CSDECODE_B": "0b000",
        "p_CLKAMUX": "CLKA", "p_CLKBMUX": "CLKB", "p_RESETMODE": "SYNC", "p_ASYNC_RESET_RELEASE": "SYNC",
        "p_GSR": "DISABLED",
    }  # fmt: skip
