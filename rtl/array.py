"""The array: rows x columns PEs and the activation-sum column, operand forwarding, one control delay line."""

from itertools import product

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .delay import delay_line
from .edge import activation_edge, weight_edge
from .pe import PE, Control, pe_latency
from .recode import chunk_width
from .relay import Relay

__all__ = ["Array"]

_SHARE = 8
"""Lanes of the activation-sum column that share a register for their weight on long ways."""


class Array(wiring.Component):
    """Output-stationary array. Column `columns` is the activation-sum column, if there is one: its weight is one bit
    for all lanes.

    Columns stand as `Config.column_order` says, at place p each, the sum column behind all others. Words of rows enter
    in the middle and go to both sides. So PE (r, p) works `r // hop + column_skew(p // hop)` cycles (`Config`) behind
    the first ones. The operands must come skewed: row r `r // hop`, the column at place p `column_skew(p // hop)`
    cycles after `control` and `sum_weight`, which come together with row 0 and the middle; but on long ways
    (`Config.stages`) rows come a cycle earlier, as they pass a register of each side.
    Results stand in the drain registers 3 + pop_latency + skew cycles after the control word with `drain`
    (skew: `Config.skew`) or earlier, as PEs of some families take fewer cycles than `pop_latency`.

    The drain registers of all PEs are one chain, row by row: `shift` moves the results on by `ladders` columns, so that
    the first ones of row 0 are always the next ones to take. Those of the sum column move by a row with `shift_sum`.
    They move in the next cycle; those of the columns with `Config.pump` > 1, and all where PEs have registers of their
    own (`Config.stages`), one later. With `pump` > 1 row r does so `r // hop` cycles later, and `shift` must not be 1
    in two successive cycles.

    All cycles are those of the array, which an engine may clock faster than itself (`Config.pump`).

    Parameters
    ----------
    config : Config
    family : str
        Structure of the PEs, see `PE`; operands are recoded for it.

    Members
    -------
    a : In per row
        A word of its buffer.
    w : In(lanes) per column
    control : In(Control)
    sum_weight : In(1)
    shift : In(ladders)
        The same bit for each column modulo `ladders`; these stand side by side, so it can come to each on a way of its
        own.
    shift_sum : In(1)
    o : Out((columns + 1) * acc_width)
        Drain registers of row 0; column 0 lowest, sum column, or zeros, highest.
    ready : Out(1)
        Pulses in the first cycle in which all results of a tile stand in the drain registers. With `pump` = 2 it is
        two cycles long and begins an even number of cycles behind the last step's words at the read ports.
    """

    def __init__(self, config: Config, family: str):
        self.config = config
        self.family = family
        super().__init__(
            {
                "a": In(chunk_width(config, family) * config.chunks_per_lanes).array(config.rows),
                "w": In(config.lanes).array(config.columns),
                "control": In(Control),
                "sum_weight": In(1),
                "shift": In(config.ladders),
                "shift_sum": In(1),
                "o": Out((config.columns + 1) * config.acc_width),
                "ready": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        rows, columns, hop = config.rows, config.columns, config.hop
        family = self.family
        latency = pe_latency(config, family)
        # Control goes from PE to PE on long ways. There are no resets there: words of a run that was stopped go on to
        # the end, and the engine does not heed them.
        far = config.stages > 0
        controls = delay_line(m, self.control, latency + 3 + config.skew, "control", reset_less=far)
        # `ready` comes at the time of the slowest family, so that programs take the same cycles on all.
        # A slower engine sees it in the same cycle of its own whichever word of a step is the last.
        align = -config.array_latency % config.pump
        wait = config.pop_latency - latency + align
        ready = delay_line(m, controls[-1].drain, wait, "ready", reset_less=far)
        middle, groups = config.middle, columns // hop + 1
        a: list[dict[int, Value]] = []
        """Per row: group of columns -> its words."""
        for r in range(rows):
            word = activation_edge(m, self.a[r], config, family, f"row{r}")
            a.append({})
            for side, of_side in (("left", range(middle - 1, -1, -1)), ("right", range(middle, groups))):
                entry = word
                if far and of_side:
                    m.submodules[f"a{r}_{side}"] = relay = Relay(len(word))
                    m.d.comb += relay.i.eq(word)
                    entry = relay.o
                words = delay_line(m, entry, max(0, len(of_side) - 1), f"a{r}_{side}", reset_less=True)
                a[r] |= zip(of_side, words, strict=False)
        w = []
        for p, c in enumerate(config.column_order):
            word = weight_edge(m, self.w[c], config, family, f"column{p}")
            w.append(delay_line(m, word, (rows - 1) // hop, f"w{p}", reset_less=True))
        word = weight_edge(m, self.sum_weight.replicate(config.lanes), config, family, "sums")
        sum_weights = delay_line(m, word, config.skew, "sum_weight", reset_less=True)

        def at_sums(r: int):
            """The weight of the activation sums as it comes to row r: one bit, but it drives all lanes."""
            skew = r // hop + config.column_skew(columns // hop)
            if not far or skew == 0:
                return sum_weights[skew]
            relays = [Relay(_SHARE) for _ in range(0, config.lanes, _SHARE)]
            for k, relay in enumerate(relays):
                m.submodules[f"sum_weight_{r}_{k}"] = relay
                m.d.comb += relay.i.eq(sum_weights[skew - 1].word_select(k, _SHARE))
            return Cat(relay.o for relay in relays)

        pes = {
            (r, p): PE(config, family, early=config.pump > 1 and p < columns)
            for r, p in product(range(rows), range(columns + config.sum_column))
        }
        for (r, p), pe in pes.items():
            m.submodules[f"pe_{r}_{p}"] = pe
            weight = w[p][r // hop] if p < columns else at_sums(r)
            group = p // hop
            m.d.comb += [pe.a.eq(a[r][group]), pe.w.eq(weight)]
            skew = r // hop + config.column_skew(group)
            if not far:
                steps = (pe.c_ahead, pe.c_run, pe.c_result, pe.c_drain)
                m.d.comb += [step.eq(controls[latency + skew - 1 + k]) for k, step in enumerate(steps)]
            elif group > middle:
                m.d.comb += pe.c_ahead.eq(pes[r, (group - 1) * hop].c_next)
            elif group < middle - 1:
                m.d.comb += pe.c_ahead.eq(pes[r, (group + 1) * hop].c_next)
            elif r >= hop:
                m.d.comb += pe.c_ahead.eq(pes[(r // hop - 1) * hop, group * hop].c_next)
            else:
                m.d.comb += pe.c_ahead.eq(controls[latency - 1])
        place = {c: p for p, c in enumerate(config.column_order)}
        results = [pes[r, place[c]] for r in range(rows) for c in range(columns)]
        sums = [pes[r, columns] for r in range(rows) if config.sum_column]
        # With steps at least two cycles apart, each row can follow the one in front of it a cycle later.
        reach = hop if config.pump > 1 else rows
        for shift, chain, step in ((self.shift, results, config.ladders), (self.shift_sum, sums, 1)):
            late = delay_line(m, shift, (rows - 1) // reach, "shift", reset_less=far)
            m.d.comb += [pe.shift.eq(late[k * rows // len(chain) // reach][k % step]) for k, pe in enumerate(chain)]
            # Behind the last ones is what nobody takes: of zeros synthesis would make resets, all over the array, too.
            ends = chain[-2 * step : -step] or chain[-step:]
            m.d.comb += [pe.behind.eq(later.o) for pe, later in zip(chain, [*chain[step:], *ends], strict=True)]
        m.d.comb += [
            self.o.eq(Cat(pe.o for pe in [*results[:columns], *sums[:1]])),
            self.ready.eq(Cat(delay_line(m, ready[-1], config.pump - 1, "ready_long", reset_less=far)).any()),
        ]
        return m
