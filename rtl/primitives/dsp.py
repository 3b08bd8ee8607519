"""Arithmetic that fits the multipliers of an iCE40 UP5K, where they save logic cells; equations everywhere else.

SB_MAC16 (Lattice FPGA-TN-02007): two 16-bit factors A and B, an adder of 32 bits behind the product with C (high) and D
(low) as its other operand, and registers, each of which may be passed by: one per input, H behind the product, Q and S
at the output. There are 8 of them. The registers alone save logic cells, too, where 32 bits would stand in cells
without logic.
"""

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value

from ..delay import delay_line

__all__ = ["PRODUCT", "counter", "held", "multiply_add", "shift_right"]

PRODUCT = 2
"""Cycles of `multiply_add`; three more if it is deep."""
_WIDTH = 16


def _has_dsp(platform: object) -> bool:
    return getattr(platform, "device", None) == "iCE40UP5K"


def _mac(m: Module, name: str, parameters: dict[str, int], *, domain: str = "sync", **inputs: Any) -> Signal:
    """One SB_MAC16 with the registers and multiplexers of `parameters`; what is not given is 0."""
    o = Signal(2 * _WIDTH, name=f"{name}_o")
    data = {k: Cat(inputs.pop(k, Const(0, 0)), Const(0, _WIDTH))[:_WIDTH] for k in "ABCD"}
    controls = [f"{k}HOLD" for k in "ABCD"]
    controls += [k + half for k in ("IRST", "ORST", "OLOAD", "OHOLD", "ADDSUB") for half in ("TOP", "BOT")]
    ports = {**data, **{k: Const(0, 1) for k in [*controls, "CI", "ACCUMCI", "SIGNEXTIN"]}, **inputs}
    m.submodules[name] = Instance(
        "SB_MAC16",
        i_CLK=ClockSignal(domain),
        i_CE=Const(1, 1),
        o_O=o,
        **{f"p_{k}": Const(v, 2 if k.endswith(("SELECT", "LOWERINPUT")) else 1) for k, v in parameters.items()},
        **{f"i_{k}": v for k, v in ports.items()},
    )
    return o


_REGISTERED = {"TOPOUTPUT_SELECT": 1, "BOTOUTPUT_SELECT": 1}
_SUM_32 = {**_REGISTERED, "TOPADDSUB_CARRYSELECT": 2}
_PRODUCT_PLUS_CD = {"TOPADDSUB_LOWERINPUT": 2, "TOPADDSUB_UPPERINPUT": 1, "BOTADDSUB_LOWERINPUT": 2,
                    "BOTADDSUB_UPPERINPUT": 1, **_SUM_32}  # fmt: skip


def multiply_add(m: Module, platform: object, a: Value, b: Value, c: Value, *, name: str, deep: bool = False) -> Signal:
    """a * b + c, `PRODUCT` cycles after `a`; `b` and `c` come a cycle before `a`. One result per cycle.

    `deep` takes three cycles more: factors on their way to products of 18 bits, as the multipliers of an ECP5 make
    them, these on their way to two sums, and their sum.

    On a UP5K three SB_MAC16 for factors up to 32 x 16 bits: the lower half of a with b and c, the upper half (if any),
    whose product the next cycle adds, and a register for the bits that are complete by then.
    """
    width = max(len(a) + len(b), len(c)) + 1
    o = Signal(width, name=name, reset_less=True)
    if _has_dsp(platform) and len(a) <= 2 * _WIDTH and len(b) <= _WIDTH and len(c) <= _WIDTH:
        low = _mac(m, f"{name}_low", {"B_REG": 1, "D_REG": 1, **_PRODUCT_PLUS_CD}, A=a[:_WIDTH], B=b, D=c)
        high = _mac(
            m, f"{name}_high", {"B_REG": 1, "PIPELINE_16x16_MULT_REG2": 1, **_PRODUCT_PLUS_CD},
            A=a[_WIDTH:], B=b, D=low[_WIDTH:],
        )  # fmt: skip
        done = _mac(m, f"{name}_done", _REGISTERED, D=low[:_WIDTH], OLOADBOT=Const(1, 1))
        m.d.comb += o.eq(Cat(done[:_WIDTH], high))
        return o
    if deep:
        near = delay_line(m, a, 1, f"{name}_a", reset_less=True)[-1]
        factor = delay_line(m, b, 2, f"{name}_b", reset_less=True)[-1]
        summand = delay_line(m, c, 4, f"{name}_c", reset_less=True)[-1]
        sums: list[Value] = []
        for i in range(0, len(a), 18):
            total = Value.cast(0) if i else summand
            for j in range(0, len(b), 18):
                product = near[i : i + 18] * factor[j : j + 18]
                total = total + (delay_line(m, product, 2, f"{name}_product{i}_{j}", reset_less=True)[-1] << j)
            sums.append(delay_line(m, total, 1, f"{name}_sum{i}", reset_less=True)[-1] << i)
        m.d.sync += o.eq(sum(sums[1:], sums[0]))
        return o
    factor = Signal(len(b), name=f"{name}_b", reset_less=True)
    product = Signal(len(a) + len(b), name=f"{name}_product", reset_less=True)
    summands = [Signal(len(c), name=f"{name}_c{k}", reset_less=True) for k in range(2)]
    m.d.sync += [
        factor.eq(b),
        summands[0].eq(c),
        summands[1].eq(summands[0]),
        product.eq(a * factor),
        o.eq(product + summands[1]),
    ]
    return o


def shift_right(m: Module, platform: object, value: Value, shift: Value, *, name: str) -> Signal:
    """`value` (16 bits) >> `shift` (3 bits), two cycles later; one result per cycle. A product on a UP5K."""
    o = Signal(_WIDTH, name=name, reset_less=True)
    if _has_dsp(platform):
        power = Cat(Const(0, 1), (shift == 7 - k for k in range(8)))  # 2**(8 - shift)
        parameters = {"A_REG": 1, "B_REG": 1, "PIPELINE_16x16_MULT_REG2": 1, "TOPOUTPUT_SELECT": 3,
                      "BOTOUTPUT_SELECT": 3}  # fmt: skip
        product = _mac(m, f"{name}_mac", parameters, A=value, B=power)
        m.d.comb += o.eq(product[8:])
        return o
    held, by = Signal(_WIDTH, name=f"{name}_held", reset_less=True), Signal(3, name=f"{name}_by", reset_less=True)
    m.d.sync += [held.eq(value), by.eq(shift), o.eq(held >> by)]
    return o


def counter(m: Module, platform: object, enable: Value, clear: Value, *, name: str) -> Signal:
    """32 bits: 0 in the cycle after `clear`, one more in the cycle after `enable` without it. Starts at 0."""
    count = Signal(2 * _WIDTH, name=name)
    if _has_dsp(platform):
        hold = ~(enable | clear)
        o = _mac(
            m, f"{name}_mac", {"BOTADDSUB_CARRYSELECT": 1, **_SUM_32},
            OLOADTOP=clear, OLOADBOT=clear, OHOLDTOP=hold, OHOLDBOT=hold,
        )  # fmt: skip
        m.d.comb += count.eq(o)
        return count
    with m.If(clear | enable):
        m.d.sync += count.eq(Mux(clear, 0, count + 1))
    return count


def held(m: Module, platform: object, *registers: tuple[Value, Value], name: str, domain: str = "sync") -> list[Value]:
    """Per value and enable, the value of the last cycle with enable. No reset.

    On a UP5K one SB_MAC16 holds one register of at most 32 bits, or the lower 16 bits of each of two.
    """
    out: list[Value] = []
    halves: list[tuple[Value, Value]] = []
    for k, (value, enable) in enumerate(registers):
        inside = 2 * _WIDTH // len(registers) if _has_dsp(platform) else 0
        kept = Signal(max(0, len(value) - inside), name=f"{name}{k}", reset_less=True)
        with m.If(enable):
            m.d[domain] += kept.eq(value[inside:])
        out.append(kept)
        halves += [(value[at : at + _WIDTH], enable) for at in range(0, inside, _WIDTH)]
    if halves:
        (low, takes_low), (high, takes_high) = halves
        o = _mac(
            m, f"{name}_mac", _REGISTERED, domain=domain, C=high, D=low, OLOADTOP=Const(1, 1), OLOADBOT=Const(1, 1),
            OHOLDTOP=~takes_high, OHOLDBOT=~takes_low,
        )  # fmt: skip
        inside = 2 * _WIDTH // len(registers)
        out = [
            Cat(o[k * inside :][: min(inside, len(value))], kept)
            for k, ((value, _), kept) in enumerate(zip(registers, out, strict=True))
        ]
    return out
