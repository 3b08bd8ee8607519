"""Where the words that the loader brings stand in the row buffers, the column buffers and the ladder memory."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import Config
from .primitives.adders import increment

__all__ = ["BufferWrite", "Placer", "step_layout"]


class BufferWrite(wiring.Signature):
    """Write port of a row buffer: `address` (word), `enable` (per chunk, of all planes of a word)."""

    def __init__(self, config: Config):
        super().__init__({"address": Out(range(config.row_depth)), "enable": Out(config.chunks_per_lanes)})


def step_layout(config: Config) -> data.StructLayout:
    """What a step of the loader does to the buffers."""
    return data.StructLayout(
        {
            "act": 1,
            "weight": 1,
            "ladder": 1,
            "first": 1,
            "alone": 1,  # no load starts while it reads
            "taken": config.rows,
            "end": 1,  # of a group of planes, column, ladder
            "filled": 1,
        }
    )


class Placer(wiring.Component):
    """Keeps one place per row buffer and one for columns and ladders; what comes in a cycle is written in the next.

    Members
    -------
    coming : In(step_layout)
        The step whose word comes.
    first : In(1)
        The step that reads is the first one of its load: places are cleared. All steps of the load before have come
        (asserted in simulation).
    base : In
        Buffer address of the load, with its first step coming.
    unit_mask, skip : In
        LOADA: chunks per unit - 1; words to leave out behind a group.
    row : Out(BufferWrite) per row
    column_enable : Out(columns), column_address : Out
    ladder_enable : Out(ladder_words), ladder_address : Out
    filled : Out(1)
        With the last write of a load that signals.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "coming": In(step_layout(config)),
                "first": In(1),
                "base": In(range(max(config.row_depth, config.column_depth, config.ladder_depth))),
                "unit_mask": In(max(1, exact_log2(config.chunks_per_lanes))),
                "skip": In(range(config.row_depth)),
                "row": Out(BufferWrite(config)).array(config.rows),
                "column_enable": Out(config.columns),
                "column_address": Out(range(config.column_depth)),
                "ladder_enable": Out(config.ladder_words),
                "ladder_address": Out(range(config.ladder_depth)),
                "filled": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, coming = self.config, self.coming
        per_lanes = config.chunks_per_lanes
        lane_shift = exact_log2(per_lanes)
        unit_mask = self.unit_mask[:lane_shift]
        writing = Signal(step_layout(config))
        m.d.sync += [writing.eq(coming), self.filled.eq(coming.filled)]
        if platform is None:
            late = self.first & (coming.act | coming.weight | coming.ladder)
            m.d.sync += Assert(~late, "loader: a load starts before the last word of the one before has come")

        # --- row buffers ---------------------------------------------------------------------------
        group_end = writing.act & writing.end
        jump = Signal(exact_log2(config.row_depth))
        m.d.comb += jump.eq(Mux(coming.first, self.base, 0) | Mux(group_end, self.skip, 0))
        for r, port in enumerate(self.row):
            place = Signal(lane_shift + len(jump), name=f"place{r}", reset_less=True)
            taken = writing.taken[r]
            summand = Cat(unit_mask & taken.replicate(lane_shift), jump)
            with m.If(self.first):
                m.d.sync += place.eq(0)
            with m.Elif(coming.first | group_end | taken):
                m.d.sync += place.eq((Cat(1, place) + Cat(taken, summand))[1:])
            here = Cat(((p ^ place) & ~unit_mask)[:lane_shift] == 0 for p in range(per_lanes))
            m.d.comb += [
                port.address.eq(place >> lane_shift),
                port.enable.eq(Mux(taken, here, 0)),
            ]

        # --- column buffers and ladder memory -----------------------------------------------------
        target = Signal(range(max(config.column_depth, config.ladder_depth)), reset_less=True)
        column, word = Signal(config.columns, init=1), Signal(config.ladder_words, init=1)
        with m.If(coming.first | (writing.weight & writing.end)):
            m.d.sync += target.eq(self.base)
        with m.Elif(writing.weight | writing.end):
            m.d.sync += target.eq(increment(m, platform, target, name="target"))
        with m.If(writing.weight & writing.end):
            m.d.sync += column.eq(column.rotate_left(1))
        with m.If(writing.ladder):
            m.d.sync += word.eq(word.rotate_left(1))
        m.d.comb += [
            self.column_enable.eq(Mux(writing.weight, column, 0)),
            self.column_address.eq(target),
            self.ladder_enable.eq(Mux(writing.ladder, word, 0)),
            self.ladder_address.eq(target),
        ]
        return m
