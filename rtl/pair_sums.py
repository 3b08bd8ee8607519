"""What PEs with several activation planes take instead of activations: sums and differences of pairs of lanes."""

from amaranth.hdl import Cat, Const, Module, Value

from .primitives import ice40

__all__ = ["pair_sums", "sums_width"]


def sums_width(lanes: int, planes: int) -> int:
    """Bits of what `pair_sums` makes of so many lanes."""
    return (2 * planes + 1) * lanes // 2


def pair_sums(m: Module, platform: object, a: Value, planes: int) -> Value:
    """For activations `a`, the lanes of plane 0 lowest, what PEs take instead. Combinational.

    With A0 and A1 the W-bit activation codes of lanes 2k and 2k + 1, u = A0 + A1 and v = A0 + ~A1, of W + 1 bits each:
    for every pair the lowest bit of u, of every other pair XORed with that of the pair before; the complements of the
    others; the lowest bit of A0, whose XNOR with bit 1 of u is bit 1 of v; and the bits of v from 2 on. The lowest one
    of v is the complement of that of u.

    A carry takes no complements but those that are signals. So v comes from ~u, whose bits the LUTs of the first chain
    give as well: u + v = 2 * A0 + 2**W - 1, so v = 2 * A0 + ~u - 2**W, and v >> 1 has a carry neither in nor out.
    """
    lanes, zero = len(a) // planes, Const(0)
    sums: list[Value] = []
    for lane in range(0, lanes, 2):
        low, high = (Cat(a[v * lanes + k] for v in range(planes)) for k in (lane, lane + 1))
        parity = a[lane // 4 * 4 : lane + 2].xor()
        chain = ice40.CarryChain(m, platform, f"sums{lane}_plus")
        plus = [
            chain.bit(x, y, function=lambda i0, x, y, carry: ~(x ^ y ^ carry)) for x, y in zip(low, high, strict=True)
        ]
        plus.append(chain.bit(zero, zero, function=lambda i0, x, y, carry: ~carry))
        chain = ice40.CarryChain(m, platform, f"sums{lane}_minus")
        minus = [chain.add(x, y) for x, y in zip(low[:-1], plus[1:-1], strict=True)]
        minus.append(chain.bit(low[-1], plus[-1], function=lambda i0, x, y, carry: ~(x ^ y ^ carry)))
        sums += [parity, *plus[1:], low[0], *minus[1:]]
    return Cat(sums)
