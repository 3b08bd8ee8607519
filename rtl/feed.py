"""The way from the execute engine to buffers and array: registers, skew, and the two words of a step."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .control import Control
from .delay import delay_line
from .primitives.adders import increment

__all__ = ["Feed"]


class Feed(wiring.Component):
    """Brings each step of the execute engine to the buffers' read ports, skewed, and its control to the array.

    A step passes `stages` registers. Where the array runs at the engine's clock (`Config.pump` = 1), it is at the first
    read ports then. Else it is registered in domain `fast` at the end of that cycle of `sync`, and comes in two cycles
    of `fast`: first the word at the addresses, then, or nothing, that behind it.

    Ports k of `a` and `w` come k cycles of the array behind ports 0, and all of `w` `w_lag` more. Control and weight of
    the activation sums come 1 + `stages` cycles of the array behind port 0 of `a`: with the words that are read.

    Parameters
    ----------
    config : Config
    w_lag : int

    Members
    -------
    last : In(1)
        `Phase.last`, with `pump` = 2.
    read, second : In(1), a_address, w_address : In
        A step reads; two words.
    control : In(Control), sum_weight : In(1)
        Of the step: `last` and `drain` are meant for its last word.
    a, w : Out(Signature(read : Out(1), address : Out)) per register of skew, and one
        Read ports of row and column buffers.
    array_control : Out(Control), array_sum_weight : Out(1)
    """

    def __init__(self, config: Config, *, w_lag: int):
        self.config = config
        self.w_lag = w_lag
        a_bits, w_bits = (config.row_depth - 1).bit_length(), (config.column_depth - 1).bit_length()
        super().__init__(
            {
                "last": In(1),
                "read": In(1),
                "second": In(1),
                "a_address": In(a_bits),
                "w_address": In(w_bits),
                "control": In(Control),
                "sum_weight": In(1),
                "a": Out(_port(a_bits)).array((config.rows - 1) // config.hop + 1),
                "w": Out(_port(w_bits)).array((config.columns - 1) // config.hop + 1),
                "array_control": Out(Control),
                "array_sum_weight": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        stages, domain = config.stages, config.array_domain

        def late(value, name: str, *, reset_less: bool = True):
            return delay_line(m, value, stages, name, reset_less=reset_less)[-1]

        read, a, w = late(self.read, "read"), late(self.a_address, "a"), late(self.w_address, "w")
        control, sum_weight = late(self.control, "step", reset_less=False), late(self.sum_weight, "sum_step")
        if config.pump > 1:
            second = late(self.second, "second")

            def words(first, second, name: str, *, reset_less: bool = True):
                """Both values are taken at the end of the cycle of `sync`, and shown one after the other."""
                shown, waiting = (Signal.like(first, name=f"{name}_{n}", reset_less=reset_less) for n in (1, 2))
                with m.If(self.last):
                    m.d.fast += [shown.eq(first), waiting.eq(second)]
                with m.Else():
                    m.d.fast += shown.eq(waiting)
                return shown

            a_next, w_next = increment(m, platform, a, name="a_next"), increment(m, platform, w, name="w_next")
            now, then = Signal(Control), Signal(Control)
            m.d.comb += [now.eq(control), then.eq(control), then.valid.eq(second), then.first.eq(0)]
            for field in ("last", "drain"):
                m.d.comb += [now[field].eq(control[field] & ~second), then[field].eq(control[field] & second)]
            m.d.comb += then.fresh.eq(control.fresh & second)
            read, a, w = words(read, second, "read"), words(a, a_next, "a"), words(w, w_next, "w")
            control = words(now, then, "control", reset_less=False)
            sum_weight = words(sum_weight, sum_weight, "sum_weight")

        def skewed(ports, address, lag: int, name: str) -> None:
            steps = delay_line(m, Cat(read, address), lag + len(ports) - 1, name, reset_less=True, domain=domain)
            for port, step in zip(ports, steps[lag:], strict=True):
                m.d.comb += Cat(port.read, port.address).eq(step)

        skewed(self.a, a, 0, "a_skewed")
        skewed(self.w, w, self.w_lag, "w_skewed")
        m.d.comb += [
            self.array_control.eq(delay_line(m, control, 1 + stages, "control", domain=domain)[-1]),
            self.array_sum_weight.eq(
                delay_line(m, sum_weight, 1 + stages, "sum_weight", reset_less=True, domain=domain)[-1]
            ),
        ]
        return m


def _port(bits: int) -> wiring.Signature:
    return wiring.Signature({"read": Out(1), "address": Out(bits)})
