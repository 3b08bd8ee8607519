"""The files of an exported accelerator besides its test bench: Verilog by kind, constraints, waivers, configuration."""

from .config import Config
from .export import Verilog

__all__ = ["LOGIC", "MAIN_MEMORY", "SOURCES", "delivery"]

LOGIC = "dipole.v"
MAIN_MEMORY = "dipole_memory.v"
_BUFFERS = "dipole_buffers.v"
SOURCES = [LOGIC, _BUFFERS, MAIN_MEMORY]
"""Verilog files, in the order in which tools may be given them."""

_HEADER = """\
// Dipole, configuration {name} (hash {hash:08x}): {what}
// Made by `dipole verilog`; Verilog-2005. {clocks}, one synchronous reset `rst`, active high.
"""
_CLOCKS = {
    1: "One clock `clk`",
    2: "Clock `clk`, and `fast_clk` of twice its frequency,\n// every second rising edge of which is one of `clk`",
}
_MEMORY_CONTRACT = """\
//
// Replace this module by a wrapper of your SRAM macro: single port, {depth} words of {width} bits, a write enable per
// {granule} bits, registered output. In a cycle with `bus__en` = 1 word `bus__addr` is read if `bus__we` is 0, and its
// value stands on `bus__rdata` from {latency} on, until that of the next access; else the parts with `bus__we` = 1
// are written, and `bus__rdata` may become anything. Contents at power-up do not matter.
"""
_BUFFERS_CONTRACT = """\
//
// On-chip buffers: one write and one read port each, the latter on `fast_clk` in modules that have it, registered
// output that holds while `read` is 0. Replace them by
// two-port SRAM or register files; a word is never read in the cycle in which it is written, contents at power-up do
// not matter.
"""
_SDC = """\
# Constraints of Dipole, configuration {name}. Times in ns.
set period {period}
create_clock -name clk -period $period [get_ports clk]
set_clock_uncertainty [expr {{0.05 * $period}}] [get_clocks clk]

# All ports belong to the clock domain of clk: a byte stream in, a byte stream out, lamps. Blocks around the core get
# half of the period on the streams.
set_input_delay [expr {{0.5 * $period}}] -clock clk \\
    [get_ports {{i__payload[*] i__valid o__ready line_error}}]
set_output_delay [expr {{0.5 * $period}}] -clock clk [get_ports {{i__ready o__payload[*] o__valid busy error[*]}}]

# The reset is synchronous: it must meet setup and hold as any other input, and be held for one cycle at least.
set_input_delay [expr {{0.2 * $period}}] -clock clk [get_ports rst]
"""
_FAST_SDC = """
# The array: twice the frequency, and rising edges that meet those of clk. What passes from one clock to the other is
# launched and captured at these edges, so it has a period of clk; but for two flip-flops behind which there is no more
# than one LUT's worth of logic, see rtl/phase.py.
create_clock -name fast_clk -period [expr {0.5 * $period}] [get_ports fast_clk]
set_clock_uncertainty [expr {0.05 * $period}] [get_clocks fast_clk]
set_multicycle_path 2 -setup -end -from [get_clocks clk] -to [get_clocks fast_clk]
set_multicycle_path 1 -hold -end -from [get_clocks clk] -to [get_clocks fast_clk]
set_multicycle_path 2 -setup -start -from [get_clocks fast_clk] -to [get_clocks clk]
set_multicycle_path 1 -hold -start -from [get_clocks fast_clk] -to [get_clocks clk]
set_max_delay [expr {0.4 * $period}] -from [get_cells -hierarchical {*phase*toggle* *phase*clear*}] \\
    -to [get_clocks fast_clk]
"""
_SHIFT_SDC = """
# Registers of the array take this one in the middle of a period of clk, see rtl/engine.py.
set_max_delay [expr {0.4 * $period}] -from [get_cells -hierarchical *half_shift*] -to [get_clocks fast_clk]
"""
_HALVES_SDC = """
# Lower halves of the ladders' lines are launched in the middle of a period of clk, see rtl/ladder_memory.py.
set_max_delay [expr {0.4 * $period}] -from [get_cells -hierarchical *ladder_memory*lower*] -to [get_clocks clk]
"""
_WAIVERS = """\
`verilator_config
// Waivers of Dipole for `verilator --lint-only -Wall`, each with its reason.

// The modules of one kind stand in one file, for flows that want a short list of files.
lint_off -rule DECLFILENAME -file "*dipole*.v"

// Sums are computed with their carry, shifts and products at full width; what the machine does not keep stays unread.
// A component has the same ports at every place and in every configuration; some places do not need all of their bits.
lint_off -rule UNUSEDSIGNAL -file "*dipole*.v"
"""


def delivery(config: Config, verilog: Verilog, *, period: float) -> dict[str, str]:
    """Files by name: Verilog, `dipole.sdc` for a clock of `period` ns, `waivers.vlt`, `config.json`."""
    main = frozenset({f"{verilog.top}_memory"})

    def header(what: str) -> str:
        return _HEADER.format(name=config.name, hash=config.hash32, what=what, clocks=_CLOCKS[config.pump])

    latency = f"cycle {config.memory_lag + 1} behind it" if config.memory_lag else "the next cycle"
    contract = _MEMORY_CONTRACT.format(
        depth=config.mem_depth, width=config.mem_width, granule=config.granule, latency=latency
    )
    return {
        LOGIC: header("all logic.") + "\n" + verilog.part(verilog.memories, without=True),
        _BUFFERS: header("buffers.") + _BUFFERS_CONTRACT + "\n" + verilog.part(verilog.memories - main),
        MAIN_MEMORY: header("main memory.") + contract + "\n" + verilog.part(main),
        "dipole.sdc": _SDC.format(name=config.name, period=f"{period:g}")
        + (_FAST_SDC if config.pump > 1 else "")
        + (_SHIFT_SDC if config.pump > 1 and not config.stages else "")
        + (_HALVES_SDC if config.few_rams else ""),
        "waivers.vlt": _WAIVERS,
        "config.json": config.to_json(),
    }
