"""The way from the execute engine to buffers and array: registers, skew, and the two words of a step."""

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .control import Control, access_layout
from .delay import delay_line
from .primitives.ice40 import lut4
from .relay import Relay

__all__ = ["Feed"]


class Feed(wiring.Component):
    """Brings each step of the execute engine to the buffers' read ports, skewed, and its control to the array.

    A step passes `stages` registers. Where the array runs at the engine's clock (`Config.pump` = 1), it is at the first
    read ports then. Else it is registered in domain `fast` at the end of that cycle of `sync`, and comes in two cycles
    of `fast`: first the first word, then the second one, or nothing.

    With `Config.registered_buffers` a register more is in front of the read ports. Ports k of `a` come k cycles of the
    array behind port 0, those of `w` as their columns do, to both sides from the middle (`Config.column_skew`). Control
    and weight of the activation sums come with the words that are read.

    Parameters
    ----------
    config : Config

    Members
    -------
    last : In(1)
        `Phase.last`, with `pump` = 2.
    first, second : In(access_layout(config))
        Words of the step; with `pump` = 1 there is no second one.
    pair : In(1)
        There are two, if there is a step at all.
    control : In(Control)
        Of the step: `last` and `drain` are meant for its last word.
    a, w : Out(Signature(read : Out(1), address : Out)) per `Config.hop` rows or columns
        Read ports of row and column buffers.
    array_control : Out(Control), array_sum_weight : Out(1)
    """

    def __init__(self, config: Config):
        self.config = config
        layout = access_layout(config)
        super().__init__(
            {
                "last": In(1),
                "first": In(layout),
                "second": In(layout),
                "pair": In(1),
                "control": In(Control),
                "a": Out(_port(layout["a"].shape)).array((config.rows - 1) // config.hop + 1),
                "w": Out(_port(layout["w"].shape)).array((config.columns - 1) // config.hop + 1),
                "array_control": Out(Control),
                "array_sum_weight": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        stages, domain = config.stages, config.array_domain
        # On long ways control has no reset, as in the array: the engine does not heed what was stopped.
        far = stages > 0

        def late(value, name: str, *, reset_less: bool = True):
            return delay_line(m, value, stages, name, reset_less=reset_less)[-1]

        access, control = late(self.first, "first"), late(self.control, "step", reset_less=far)
        addresses_right = None
        if config.pump > 1:
            behind = late(self.second, "second")

            def words(first, second, name: str, *, reset_less: bool = True, turned: bool = False, apart: bool = False):
                """Both values are taken at the end of the cycle of `sync`, and shown one after the other. Whether a
                step has a second word stands in two registers that way: synthesis would make one of them, which has
                long ways, if one were not `turned` round.

                The second value has no reset: while the first one has, for a cycle of `sync`, it becomes a word that
                does nothing. With `apart` nothing is shared with others that show the same.
                """
                shown = Signal.like(first, name=f"{name}_1", reset_less=reset_less)
                waiting = Signal(Value.cast(second).shape(), name=f"{name}_2", reset_less=True)
                last = self.last
                if not stages:  # a register of its own, which changes in every cycle
                    last = Signal(name=f"{name}_last")
                    m.d.fast += last.eq(~self.last)
                with m.If(last):
                    m.d.fast += waiting.eq(~Value.cast(second) if turned else second)
                choice = Mux(last, Value.cast(first), ~waiting if turned else waiting)
                if apart:
                    choice = Cat(
                        lut4(m, platform, lambda last, a, b: (last & a) | (~last & b), last, *bits, name=f"{name}_lut")
                        for bits in zip(Value.cast(first), waiting, strict=True)
                    )
                m.d.fast += Value.cast(shown).eq(choice)
                return shown

            pair = late(self.pair, "pair")
            now, then = Signal(Control), Signal(Control)
            m.d.comb += [now.eq(control), then.eq(control), then.valid.eq(behind.read), then.first.eq(0)]
            for field in ("last", "drain"):
                m.d.comb += [now[field].eq(control[field] & ~pair), then[field].eq(control[field] & pair)]
            m.d.comb += then.fresh.eq(control.fresh & pair)
            if config.middle and not stages:
                # Columns on the right have addresses of their own; without the reset synthesis would make one of both.
                addresses_right = words(access.w, behind.w, "right", reset_less=False, apart=True)
            access, control = words(access, behind, "access"), words(now, then, "control", reset_less=far, turned=True)

        def skewed(ports, address, name: str) -> None:
            """Each port a cycle behind the one before it."""
            if not ports:
                return
            first = Cat(access.read, address)
            if config.registered_buffers:
                m.submodules[f"relay_{name}"] = relay = DomainRenamer(domain)(Relay(len(first)))
                m.d.comb += relay.i.eq(first)
                first = relay.o
            steps = delay_line(m, first, len(ports) - 1, name, reset_less=True, domain=domain)
            for port, step in zip(ports, steps, strict=True):
                m.d.comb += Cat(port.read, port.address).eq(step)

        columns, middle = [*self.w], config.middle
        skewed(self.a, access.a, "a_skewed")
        skewed(columns[:middle][::-1], access.w, "w_left")
        skewed(columns[middle:], access.w if addresses_right is None else addresses_right, "w_right")
        m.d.comb += [
            self.array_control.eq(
                delay_line(m, control, 1 + config.read_lag, "control", reset_less=far, domain=domain)[-1]
            ),
            self.array_sum_weight.eq(
                delay_line(m, access.sum, 1 + config.read_lag, "sum_weight", reset_less=True, domain=domain)[-1]
            ),
        ]
        return m


def _port(address: ShapeLike) -> wiring.Signature:
    return wiring.Signature({"read": Out(1), "address": Out(address)})
