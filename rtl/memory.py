"""The main memory port: an address or two, a read, a write or both per cycle, write enables per granule."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config

__all__ = ["MemorySignature"]


class MemorySignature(wiring.Signature):
    """Main memory port, seen from the side that asks (engine, link, core).

    A cycle with `en` = 1 is an access to word `addr`: with `we` = 0 a read, whose word is on `rdata` 1 + `memory_lag`
    cycles later and stays there until that of the next access; otherwise a write of the granules whose `we` bit is 1,
    behind which `rdata` is undefined, as it is before the first read. There is no flow control: a port accepts an
    access in every cycle, and accesses take effect in their order.

    With two ports `en` = 1 is a read of word `addr`, and in each cycle the granules of word `waddr` are written whose
    `we` bit is 1. A read of the word that the same cycle writes gives an undefined word.

    Parameters
    ----------
    config : Config
        Sizes: `mem_depth` words of `mem_width` bits, `granules_per_word` write enables; `memory_lag`, `mem_ports`.

    Members
    -------
    addr : Out(log2(mem_depth))
        Word address.
    en : Out(1)
        Access in this cycle.
    we : Out(granules_per_word)
        Write enables; bit g covers wdata[g*granule : (g+1)*granule]. With one port meaningful with `en` only.
    waddr : Out(log2(mem_depth))
        Word address of the write; only with `mem_ports` = 2.
    wdata : Out(mem_width)
        Word to write.
    rdata : In(mem_width)
        Word read.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        address = config.mem_depth.bit_length() - 1
        super().__init__(
            {
                "addr": Out(address),
                "en": Out(1),
                "we": Out(config.granules_per_word),
                "wdata": Out(config.mem_width),
                "rdata": In(config.mem_width),
                **({"waddr": Out(address)} if config.mem_ports > 1 else {}),
            }
        )
