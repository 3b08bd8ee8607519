"""Registers in a row."""

from amaranth.hdl import Module, Signal

__all__ = ["delay_line"]


def delay_line(m: Module, source, length: int, name: str, *, reset_less: bool = False, domain: str = "sync") -> list:
    """`source` and its `length` delayed copies, one cycle of the clock domain apart."""
    taps = [source]
    for stage in range(length):
        tap = Signal.like(source, name=f"{name}_{stage + 1}", reset_less=reset_less)
        m.d[domain] += tap.eq(taps[-1])
        taps.append(tap)
    return taps
