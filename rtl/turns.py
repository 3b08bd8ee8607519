"""The order in which the execute engine goes through the plane pairs of a tile."""

from itertools import product

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .primitives.adders import at_least, extend, ripple
from .primitives.ice40 import lut4

__all__ = ["GROUPS", "PLANES", "Turns"]

GROUPS = 16
"""GROUPS * W at most (the loader has 4 bits for the number of planes)."""
PLANES = 8
"""PLANES at most; a weight has up to 8 bits."""


class Turns(wiring.Component):
    """Runs from the highest exponent down, each through its pairs up (groups ascending) and down by turns.

    A turn goes through one pair or, with W = 1 and where `odd` asks for it, through *twins*: two neighbouring pairs of
    a run, as long as it has two. A run begins where the one before ended, or in the group *below*, so what comes behind
    a turn is a small step in group and weight plane away from its first pair:

    ===============================  =================  =================
    behind a turn                    step in group, G   in weight plane
    ===============================  =================  =================
    the next turn of a run going up  1, behind twins 2  -W * G
    of a run going down              the same down      -W * G
    a run behind one that went up    twins - below      -W * G - 1
    a run behind one that went down  -twins - below     -W * G - 1
    nothing                          0                  0
    ===============================  =================  =================

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    group_sizes, plane_sizes : list of int
        The sizes that steps have, those of 0 apart.

    Members
    -------
    top_group, top_plane, low_top, sum_code : In, odd : In(1)
        GROUPS - 1, PLANES - 1, max(PLANES, W) - 1, SUM_CODE; the number of words is odd.
    start : In(2), step_on : In(1)
        An EXEC starts, with its first turn, where both bits are 1; the last step of the turn at work: that of the next
        one comes, if it is not the last one of its EXEC.
    renew : In(1)
        No EXEC starts; 1 while one is at work, and in a cycle between the last change of what is above and a start.
    next_gap, next_twins : Out(1)
        The next turn is an exponent without a pair; goes through twins.
    gap, twins, up, last, last_run : Out(1)
        Of the turn at work: as above; it goes up; it is the last of its run; that is the last one (or none is at work).
    group_step, plane_step : Out
        What comes behind the turn at work: bit k says that the step has size k of `group_sizes` or `plane_sizes`, the
        highest bit that it goes down.
    sums : Out(2)
        Weights of the activation sums for its first and its second pair.
    """

    def __init__(self, config: Config):
        self.config = config
        group_steps, plane_steps = zip(*self._steps().values(), strict=True)
        self.group_sizes = sorted({abs(step) for step in group_steps} - {0})
        self.plane_sizes = sorted({abs(step) for step in plane_steps} - {0})
        super().__init__(
            {
                "top_group": In(range(max(2, GROUPS // config.planes))),
                "top_plane": In(range(PLANES)),
                "low_top": In(range(PLANES)),
                "sum_code": In(PLANES),
                "odd": In(1),
                "start": In(2),
                "step_on": In(1),
                "renew": In(1),
                "next_gap": Out(1),
                "next_twins": Out(1),
                "gap": Out(1),
                "twins": Out(1),
                "up": Out(1),
                "last": Out(1),
                "last_run": Out(1),
                "group_step": Out(len(self.group_sizes) + 1),
                "plane_step": Out(len(self.plane_sizes) + 1),
                "sums": Out(2),
            }
        )

    def _steps(self) -> dict[tuple[bool, ...], tuple[int, int]]:
        """The table above: behind a turn that (goes up, goes through twins, is the last of its run, has `below`)."""
        planes = self.config.planes
        both = (False, True)
        steps = {}
        for up, twins, last, below in product(both, both if planes == 1 else both[:1], both, both):
            group = (twins if last else 1 + twins) * (1 if up else -1) - (last and below)
            steps[up, twins, last, below] = group, -planes * group - last
        return steps

    def elaborate(self, platform):
        m = Module()
        shift = self.config.planes.bit_length() - 1
        last_run = Signal(init=1)
        m.d.comb += self.last_run.eq(last_run)

        # The next turn: exponent of its run, pairs of that and those left, direction, plane of its first pair.
        exponent = Signal(range(GROUPS + PLANES - 1), reset_less=True)
        pairs = Signal(range(PLANES // self.config.planes + 1), reset_less=True)
        left = Signal.like(pairs, name="left")
        up, plane = Signal(reset_less=True), Signal.like(self.top_plane, name="plane")
        # It is the last of its run; the next run begins in the group below if this one goes up, if it goes down.
        last, up_below, down_below = Signal(), Signal(), Signal()
        group, part = exponent[shift:], exponent[:shift]
        above_low = ripple(exponent, ~extend(self.low_top, len(exponent)))  # exponent - max(PLANES, W)
        m.d.comb += [
            self.next_gap.eq(~at_least(self.top_plane, part)),
            self.next_twins.eq((left > 1) & self.odd if shift == 0 else 0),
            last.eq((left == 1) | ((left == 2) & self.next_twins)),
            up_below.eq(at_least(self.top_group, group) & (part == 0)),
            down_below.eq(above_low[-1] & (above_low[:shift] == 0)),
        ]

        # What comes behind it.
        group_step, plane_step = Signal.like(self.group_step), Signal.like(self.plane_step)
        plane_by, twin_by = Signal.like(plane), Signal.like(plane)
        pairs_by, left_by = Signal.like(pairs), Signal.like(pairs)
        # Whether the exponent is 0; in a register, as much comes behind that.
        end = Signal(reset_less=True)
        here = Cat(up, self.next_twins, last, Mux(up, up_below, down_below))
        cases = {"".join("01"[bit] for bit in reversed(case)): step for case, step in self._steps().items()}
        for target, code in (
            (group_step, {case: _coded(group, self.group_sizes) for case, (group, _) in cases.items()}),
            (plane_step, {case: _coded(plane, self.plane_sizes) for case, (_, plane) in cases.items()}),
            (plane_by, {case: plane for case, (_, plane) in cases.items()}),
        ):
            # ORs, as synthesis would make choices into resets of the registers behind them, which come later.
            m.d.comb += target.eq(
                Cat(here.matches(*(case for case in cases if code[case] >> k & 1)) for k in range(len(target)))
            )
        with m.Switch(Cat(up_below, down_below, last)):
            with m.Case(0b101):
                m.d.comb += pairs_by.eq(-1)
            with m.Case(0b110):
                m.d.comb += pairs_by.eq(1)
        next_pairs = ripple(pairs, pairs_by)[:-1]
        m.d.comb += [left_by.eq(Mux(self.next_twins, -2, -1)), twin_by.eq(Mux(self.next_twins, Mux(up, -1, 1), 0))]

        # The turn at work has no reset: none is asked for before one has been taken.
        names = ("gap", "twins", "up", "last", "group_step", "plane_step", "sums")
        at_work = {name: Signal.like(getattr(self, name), name=f"{name}_now", reset_less=True) for name in names}
        m.d.comb += [getattr(self, name).eq(value) for name, value in at_work.items()]
        # Behind the last turn of an EXEC the next one is the first of another. `start` comes late: one LUT behind it.
        anew = last_run & self.renew
        take = lut4(
            m, platform, lambda may, now, on, end: (may & now) | (on & ~end), *self.start, self.step_on, last_run,
            name="take",
        )  # fmt: skip
        changes = lut4(
            m, platform, lambda may, now, other: (may & now) | other, *self.start, anew | (self.step_on & ~last_run),
            name="changes",
        )  # fmt: skip
        with m.If(changes):
            with m.If(~anew):
                m.d.sync += [
                    exponent.eq(ripple(exponent, last.replicate(len(exponent)))),
                    plane.eq(ripple(plane, plane_by)),
                    up.eq(up ^ last),
                    left.eq(ripple(left, left_by)),
                    pairs.eq(next_pairs),
                    # A LUT that synthesis does not take for an enable, which would come behind `changes`.
                    end.eq(
                        lut4(
                            m, platform, lambda last, now, before: (last & now) | (~last & before), last,
                            exponent == 1, end, name="next_end",
                        )
                    ),
                ]  # fmt: skip
                with m.If(last):
                    m.d.sync += left.eq(next_pairs)
            with m.Else():
                m.d.sync += [
                    exponent.eq((self.top_group << shift) + self.top_plane),
                    plane.eq(self.top_plane),
                    pairs.eq(1),
                    left.eq(1),
                    up.eq(1),
                    end.eq((self.top_group == 0) & (self.top_plane == 0)),
                ]
        # It has a reset, and an enable would be an OR of both.
        m.d.sync += last_run.eq(
            lut4(
                m, platform, lambda take, now, before: (take & now) | (~take & before), take, end, last_run,
                name="next_last_run",
            )
        )  # fmt: skip
        with m.If(take):
            m.d.sync += [
                Cat(at_work.values()).eq(
                    Cat(
                        self.next_gap, self.next_twins, up, last, group_step & ~end.replicate(len(group_step)),
                        plane_step & ~end.replicate(len(plane_step)),
                        *(self.sum_code.bit_select(p, 1) for p in (plane, ripple(plane, twin_by)[:-1])),
                    )
                ),
            ]  # fmt: skip
        return m


def _coded(step: int, sizes: list[int]) -> int:
    """Which of the sizes a step has, one bit each, and on top whether it goes down."""
    return sum((abs(step) == size) << k for k, size in enumerate(sizes)) | (step < 0) << len(sizes)
