"""The array: rows x columns PEs and the activation-sum column, operand forwarding, one control delay line."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .delay import delay_line
from .edge import activation_edge, weight_edge
from .pe import PE, Control, pe_latency
from .recode import chunk_width

__all__ = ["Array"]


class Array(wiring.Component):
    """Output-stationary array. Column `columns` is the activation-sum column, if there is one: its weight is one bit
    for all lanes.

    PE (r, c) works `r // hop + c // hop` cycles behind PE (0, 0). The operands must come skewed: row r `r // hop`,
    column c `c // hop` cycles after `control` and `sum_weight`, which come together with row 0 and column 0.
    Results stand in the drain registers 3 + pop_latency + skew cycles after the control word with `drain`
    (skew: `Config.skew`) or earlier, as PEs of some families take fewer cycles than `pop_latency`.

    The drain registers of all PEs are one chain, row by row: `shift` moves the results on by `ladders` columns, so that
    the first ones of row 0 are always the next ones to take. Those of the sum column move by a row with `shift_sum`.
    They move in the next cycle, one later where PEs have registers of their own (`Config.stages`). With `Config.pump` >
    1 row r does so `r // hop` cycles later, and `shift` must not be 1 in two successive cycles.

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
    shift, shift_sum : In(1)
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
                "shift": In(1),
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
        arrival = latency - int(config.stages > 0)  # of control at the PEs

        # `ready` comes at the time of the slowest family, so that programs take the same cycles on all.
        controls = delay_line(m, self.control, latency + 3 + config.skew, "control")
        # A slower engine sees it in the same cycle of its own whichever word of a step is the last.
        align = -(1 + config.stages + config.pop_latency + 3 + config.skew) % config.pump
        ready = delay_line(m, controls[-1].drain, config.pop_latency - latency + align, "ready")[-1]
        a, w = [], []
        for r in range(rows):
            word = activation_edge(m, self.a[r], config, family, f"row{r}")
            a.append(delay_line(m, word, columns // hop, f"a{r}", reset_less=True))
        for c in range(columns):
            word = weight_edge(m, self.w[c], config, family, f"column{c}")
            w.append(delay_line(m, word, (rows - 1) // hop, f"w{c}", reset_less=True))
        word = weight_edge(m, self.sum_weight.replicate(config.lanes), config, family, "sums")
        sum_weights = delay_line(m, word, config.skew, "sum_weight", reset_less=True)

        pes = {}
        for r in range(rows):
            for c in range(columns + config.sum_column):
                skew = r // hop + c // hop
                m.submodules[f"pe_{r}_{c}"] = pes[r, c] = pe = PE(config, family)
                weight = w[c][r // hop] if c < columns else sum_weights[skew]
                m.d.comb += [
                    pe.a.eq(a[r][c // hop]),
                    pe.w.eq(weight),
                    pe.c_ahead.eq(controls[latency + skew - 1]),
                    pe.c_run.eq(controls[arrival + skew]),
                    pe.c_result.eq(controls[arrival + skew + 1]),
                    pe.c_drain.eq(controls[arrival + skew + 2]),
                ]
        results = [pes[r, c] for r in range(rows) for c in range(columns)]
        for shift, step, chain in (
            (self.shift, config.ladders, results),
            (self.shift_sum, 1, [pes[r, columns] for r in range(rows) if config.sum_column]),
        ):
            # With steps at least two cycles apart, each row can follow the one in front of it a cycle later.
            reach = hop if config.pump > 1 else rows
            late = delay_line(m, shift, (rows - 1) // reach, "shift")
            m.d.comb += [pe.shift.eq(late[k * rows // len(chain) // reach]) for k, pe in enumerate(chain)]
            m.d.comb += [pe.behind.eq(later.o) for pe, later in zip(chain, chain[step:], strict=False)]
        m.d.comb += [
            self.o.eq(Cat(pes[0, c].o for c in range(columns + config.sum_column))),
            self.ready.eq(Cat(delay_line(m, ready, config.pump - 1, "ready_long")).any()),
        ]
        return m
