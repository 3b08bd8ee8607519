"""What PEs with several activation planes take instead of activations: sums and differences of pairs of lanes."""

from amaranth.hdl import Cat, Const, Module, Value

from .primitives import ice40

__all__ = ["pair_sums", "sums_width"]


def sums_width(lanes: int, planes: int) -> int:
    """Bits of what `pair_sums` makes of so many lanes."""
    return (2 * planes + 1) * lanes // 2


def _difference(low: Value, high: Value) -> Value:
    """(low + ~high) >> 1."""
    bits, carry = [], Const(0)
    for k, (x, y) in enumerate(zip(low, ~high, strict=True)):
        if k:
            bits.append(x ^ y ^ carry)
        carry = (x & y) | ((x | y) & carry)
    return Cat(*bits, carry)


def pair_sums(m: Module, platform: object, a: Value, planes: int, family: str) -> Value:
    """For activations `a`, the lanes of plane 0 lowest, what PEs of the family take instead. Combinational.

    With A0 and A1 the W-bit activation codes of lanes 2k and 2k + 1, u = A0 + A1 and v = A0 + ~A1, of W + 1 bits each:
    for every pair u, then the bits of v from 1 on; the lowest one is the complement of that of u.

    On iCE40 all bits of u but the lowest are complements. In place of bit 1 of v there is the lowest one of A0, of
    which and bit 1 of u it is the XNOR. Every other pair has, in place of the lowest bit of u, its XOR with that of the
    pair before.
    """
    lanes = len(a) // planes
    sums: list[Value] = []
    for lane in range(0, lanes, 2):
        low, high = (Cat(a[v * lanes + k] for v in range(planes)) for k in (lane, lane + 1))
        if family == "ice40":
            parity = a[lane // 4 * 4 : lane + 2].xor()
            sums += [parity, *_ice40_sums(m, platform, low, high, f"sums{lane}")]
        else:
            sums += [*(low + high), *_difference(low, high)]
    return Cat(sums)


def _ice40_sums(m: Module, platform: object, low: Value, high: Value, name: str) -> list[Value]:
    """What `pair_sums` has of a pair on iCE40, but for the lowest bit.

    A carry takes no complements but those that are signals. So v comes from ~u, whose bits the LUTs of the first chain
    give as well: u + v = 2 * A0 + 2**W - 1, so v = 2 * A0 + ~u - 2**W, and v >> 1 has a carry neither in nor out.
    """
    zero = Const(0)
    chain = ice40.CarryChain(m, platform, f"{name}_plus")
    plus = [chain.bit(x, y, function=lambda i0, x, y, carry: ~(x ^ y ^ carry)) for x, y in zip(low, high, strict=True)]
    plus.append(chain.bit(zero, zero, function=lambda i0, x, y, carry: ~carry))
    chain = ice40.CarryChain(m, platform, f"{name}_minus")
    minus = [chain.add(x, y) for x, y in zip(low[:-1], plus[1:-1], strict=True)]
    minus.append(chain.bit(low[-1], plus[-1], function=lambda i0, x, y, carry: ~(x ^ y ^ carry)))
    return [*plus[1:], low[0], *minus[1:]]
