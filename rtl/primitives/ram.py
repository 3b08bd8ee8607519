"""Block RAM with one write and one read port."""

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .family import family_of

__all__ = ["BlockRam"]


class BlockRam(wiring.Component):
    """Simple dual-port synchronous RAM; `read_data` follows one cycle after `read` and stays until the next one.

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

    Members
    -------
    read : In(1), read_address : In, read_data : Out(width)
    write : In(width // granule), write_address : In, write_data : In(width)
    """

    def __init__(self, *, width: int, depth: int, granule: int | None = None, read_domain: str = "sync"):
        self.width = width
        self.depth = depth
        self.granule = granule
        self.read_domain = read_domain
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
        # `no_rw_check` tells synthesis that collisions do not matter; the assertion below is why that is sound.
        # `ram_style` keeps small ones out of logic cells, but for those that are quicker in LUTs and take few of them.
        small = family_of(platform) == "ecp5" and self.depth <= 32 and self.width <= 64
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
            read.en.eq(self.read),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
        ]
        collision = Signal()
        m.d.comb += collision.eq(self.read & self.write.any() & (self.read_address == self.write_address))
        if platform is None:
            m.d[self.read_domain] += Assert(~collision, "block RAM: a word is read and written in the same cycle")
        return m
