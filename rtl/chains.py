"""Adders of the popcounts of ECP5, several to a carry chain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, Value

from .primitives.ecp5 import CarryChain

__all__ = ["Adder", "add_adders"]

_HALVES = 24
"""Half cells of a chain, three tiles: static timing sees a path through all of them."""


@dataclass(frozen=True)
class Adder:
    """One adder of a chain, by what takes the next half cells of it."""

    carry: Callable[[CarryChain], Signal]
    """The separator, whose function is the carry in; returns the carry from below."""
    bits: Callable[[CarryChain], Sequence[Value]]
    """A half cell per bit; returns all of the sum but the highest bit, which is the carry out."""
    total: Sequence[Signal] | Signal
    """The sum."""


def add_adders(m: Module, platform: object, name: str, adders: Sequence[Adder]) -> None:
    """Adders, of which no path leads from one to another, on as few chains as first fit finds, largest first.

    What a chain loses is the half cell at its end for the carry out of its top adder, so adders of several levels of a
    tree may mix.
    """
    chains: list[list[Adder]] = []
    left: list[int] = []
    for adder in sorted(adders, key=lambda adder: -len(adder.total)):
        size = len(adder.total)
        at = next((at for at, free in enumerate(left) if size <= free), None)
        if at is None:
            chains.append([])
            left.append(max(_HALVES - 1, size))
            at = len(chains) - 1
        chains[at].append(adder)
        left[at] -= size
    for number, members in enumerate(chains):
        chain = CarryChain(m, platform, f"{name}_{number}")
        below = None
        for adder in members:
            top = adder.carry(chain)
            if below is not None:
                m.d.comb += below.eq(top)
            m.d.comb += Cat(adder.total[:-1]).eq(Cat(adder.bits(chain)))
            below = adder.total[-1]
        assert below is not None
        m.d.comb += below.eq(chain.top())
        chain.done()
