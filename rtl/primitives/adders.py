"""Adders that do something else besides, in one iCE40 logic cell per bit, where synthesis takes two or three."""

from amaranth.hdl import Cat, Const, Module, Mux, Value

from .family import family_of
from .ice40 import CarryChain

__all__ = ["add_or_load", "add_turned", "at_least", "decrement", "extend", "increment", "ripple"]

_RIPPLE = 5
"""Bits up to which a counter is smaller in LUTs than with a carry chain."""


def extend(value: Value, bits: int) -> Value:
    """The value with zeros on top."""
    return Cat(value, Const(0, bits - len(value)))


def ripple(x: Value, y: Value, carry: Value | int = 0) -> Value:
    """x + y + carry, carry out on top; a few bits are shorter in LUTs than through a carry chain."""
    bits = []
    for p, q in zip(x, y, strict=True):
        bits.append(p ^ q ^ carry)
        carry = (p & q) | ((p | q) & carry)
    return Cat(*bits, carry)


def at_least(x: Value, y: Value) -> Value:
    """x >= y, of a few bits."""
    bits = max(len(x), len(y))
    return ripple(extend(x, bits), ~extend(y, bits), 1)[-1]


def increment(m: Module, platform: object, value: Value, *, name: str) -> Value:
    """`value + 1`, modulo its width. Synthesis makes a cell more, which takes the lowest bit into the carry chain."""
    if family_of(platform) != "ice40":
        return (value + 1)[: len(value)]
    if len(value) <= _RIPPLE:
        return Cat(value[k] ^ value[:k].all() for k in range(len(value)))
    chain = CarryChain(m, platform, name)
    first = chain.start(value[0])
    return Cat(first, *(chain.add(bit, Const(0)) for bit in value[1:]))


def decrement(m: Module, platform: object, value: Value, *, name: str) -> Value:
    """`value - 1`, modulo its width, without a carry chain where it is short."""
    if family_of(platform) != "ice40" or len(value) > _RIPPLE:
        return (value - 1)[: len(value)]
    return ~increment(m, platform, ~value, name=name)


def add_or_load(
    m: Module, platform: object, value: Value, addend: Value, carry: Value, add: Value, *, name: str
) -> Value:
    """`value + addend + carry` if `add`, else `addend`, modulo the width of `value`."""
    if family_of(platform) != "ice40":
        return Mux(add, (Cat(1, value) + Cat(carry, addend))[1 : len(value) + 1], addend)
    chain = CarryChain(m, platform, name)
    chain.feed(carry)
    return Cat(
        chain.bit(x, y, add, lambda add, x, y, ci: y ^ (add & (x ^ ci))) for x, y in zip(value, addend, strict=True)
    )


def add_turned(m: Module, platform: object, x: Value, y: Value, turn: Value, *, name: str) -> Value:
    """`x + y`, modulo the width of `x`, complemented if `turn`."""
    if family_of(platform) != "ice40":
        return (x + y)[: len(x)] ^ turn.replicate(len(x))
    chain = CarryChain(m, platform, name)
    return Cat(
        chain.bit(p, q, turn, lambda turn, p, q, ci: turn ^ p ^ q ^ ci) for p, q in zip(x, y[: len(x)], strict=True)
    )
