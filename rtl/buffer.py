"""A block RAM far from who fills it and from who reads it: with registers of its own on both ways."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .delay import delay_line
from .primitives.ram import BlockRam

__all__ = ["Buffer"]


class Buffer(wiring.Component):
    """`BlockRam` whose words come `behind` cycles later, and whose writes take place one less than `stages` later, if
    any: the first register on their way is one that several buffers share.

    Parameters
    ----------
    width, depth, granule
        See `BlockRam`.
    stages : int
        Registers on the way of writes, the shared one included.
    behind : int
        Registers on the way of words read; as many, if not given.
    registered : bool
        See `BlockRam`.
    read_domain : str
        Clock domain of reading; that of writing is `sync`.
    copies : int
        `write_data` stands so many times in the width.

    Members
    -------
    read : In(1), read_address : In, read_data : Out(width)
    write : In(width // granule), write_address : In, write_data : In(width // copies)
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        stages: int,
        behind: int | None = None,
        registered: bool = False,
        granule: int | None = None,
        copies: int = 1,
        read_domain: str = "sync",
    ):
        self.ram = BlockRam(width=width, depth=depth, granule=granule, read_domain=read_domain, registered=registered)
        self.stages = stages
        self.behind = stages if behind is None else behind
        self.copies = copies
        members = dict(self.ram.signature.members)
        super().__init__(members | {"write_data": In(width // copies), "read_data": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = self.ram

        def late(value, name: str):
            return delay_line(m, value, max(0, self.stages - 1), name, reset_less=True)[-1]

        behind = delay_line(m, ram.read_data, self.behind, "read_data", reset_less=True, domain=ram.read_domain)
        m.d.comb += [
            ram.read.eq(self.read),
            ram.read_address.eq(self.read_address),
            self.read_data.eq(behind[-1]),
            ram.write.eq(late(self.write, "write")),
            ram.write_address.eq(late(self.write_address, "write_address")),
        ]
        m.d.comb += ram.write_data.eq(late(self.write_data, "write_data").replicate(self.copies))
        return m
