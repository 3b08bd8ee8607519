"""What place and route says: use of the device and maximum frequencies, over several seeds."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..golden.errors import DipoleError

__all__ = ["MID_CYCLE", "ClockResult", "FlowReport", "SeedResult", "read_excess", "read_seed", "read_stuck"]

_ROUNDS = 200
"""Rounds after which a router that has not ended never will; those that do took 20 to 111."""


class ReportError(DipoleError):
    """nextpnr's report is missing or has another form than expected."""


@dataclass(frozen=True)
class ClockResult:
    """One clock of one seed, MHz."""

    achieved: float
    constraint: float

    @property
    def met(self) -> bool:
        return self.achieved >= self.constraint


@dataclass(frozen=True)
class SeedResult:
    """Place and route with one seed."""

    seed: int
    clocks: dict[str, ClockResult]
    cells: dict[str, tuple[int, int]]
    """Cell type -> used, available."""
    placer: str = ""
    """Placer with which it routed, or the last one tried."""
    failure: str = ""
    """Why nothing was routed; then there are no clocks and cells."""

    @property
    def met(self) -> bool:
        return not self.failure and all(clock.met for clock in self.clocks.values())

    @property
    def margin(self) -> float:
        """Smallest achieved / constraint over the clocks; seeds with a larger one are better."""
        return min((clock.achieved / clock.constraint for clock in self.clocks.values()), default=0.0)


@dataclass(frozen=True)
class FlowReport:
    """All seeds of one build."""

    seeds: tuple[SeedResult, ...]

    @property
    def best(self) -> SeedResult:
        return max(self.seeds, key=lambda seed: seed.margin)

    def fmax(self) -> dict[str, dict[str, float]]:
        """Clock -> min, median and max of the frequencies over the seeds, and the constraint; MHz."""
        result: dict[str, dict[str, float]] = {}
        for clock, best in self.best.clocks.items():
            achieved = [seed.clocks[clock].achieved for seed in self.seeds if clock in seed.clocks]
            result[clock] = {
                "min": min(achieved),
                "median": median(achieved),
                "max": max(achieved),
                "constraint": best.constraint,
            }
        return result

    def to_dict(self) -> dict[str, Any]:
        cells = {cell: {"used": used, "available": available} for cell, (used, available) in self.best.cells.items()}
        seeds = [
            {
                "seed": seed.seed,
                "placer": seed.placer,
                "met": seed.met,
                "failure": seed.failure,
                "clocks": {name: asdict(clock) for name, clock in seed.clocks.items()},
            }
            for seed in self.seeds
        ]
        return {"fmax_mhz": self.fmax(), "utilisation": cells, "best_seed": self.best.seed, "seeds": seeds}


def read_seed(seed: int, path: Path, placer: str = "") -> SeedResult:
    """nextpnr's `--report` file of one seed and placer. Without a clock it is refused: then nothing was timed.

    Where paths lead from one clock to another, which must be related, `clocks` has an entry for these, too ("clk to
    fast_clk"). nextpnr sets no limit to them; ours is a cycle of the slower clock, see `rtl.phase`. What is launched or
    captured in the middle of such a cycle has half of it, and an entry of its own (`MID_CYCLE`) with nextpnr's
    `--detailed-timing-report`.
    """
    try:
        data = json.loads(path.read_text())
        clocks = {
            _plain(name): ClockResult(float(clock["achieved"]), float(clock["constraint"]))
            for name, clock in data["fmax"].items()
        }
        crossings: dict[str, ClockResult] = {}
        cells = {
            name: (int(cell["used"]), int(cell["available"]))
            for name, cell in data["utilization"].items()
            if cell["used"]
        }
        for way in data.get("critical_paths", ()):
            ends = [_plain(way[end].partition(" ")[2]) for end in ("from", "to")]
            if ends[0] != ends[1] and all(end in clocks for end in ends):
                delay = sum(float(step["delay"]) for step in way["path"])
                limit = min(clocks[end].constraint for end in ends)
                crossings[" to ".join(ends)] = ClockResult(1000 / delay, limit)
        for net in data.get("detailed_net_timings", ()):
            if MID_CYCLE.search(net["driver"]) or MID_CYCLE.search(net["net"]):  # a LUT may give the cell its name
                for end in net["endpoints"]:
                    ends = [_plain(event.partition(" ")[2]) for event in (net["event"], end["event"])]
                    if ends[0] != ends[1]:
                        name = " to ".join(ends) + ", half a cycle"
                        limit = min(clocks[end].constraint for end in ends)
                        slowest = 500 / float(max(end["delay"]))
                        before = crossings.get(name, ClockResult(slowest, limit))
                        crossings[name] = ClockResult(min(slowest, before.achieved), limit)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"seed {seed}: nextpnr left no report that can be read ({error}); see its log") from error
    if not clocks:
        raise ReportError(f"seed {seed}: nextpnr timed no clock; the design has no registers")
    return SeedResult(seed, clocks | crossings, cells, placer)


MID_CYCLE = re.compile(r"ladder_memory_\d+\.lower|half_shift\.")
"""Registers that are written or read by the faster clock in the middle of a cycle of the slower one, see
rtl/ladder_memory.py and rtl/engine.py."""


def _plain(name: str) -> str:
    """A clock's net without its path and what nextpnr puts around it."""
    return (
        name.removeprefix("$glbnet$")
        .rpartition(".")[2]
        .removesuffix("$SB_IO_IN_$glb_clk")
        .removesuffix("$TRELLIS_IO_IN")
    )


def read_stuck(log: Path) -> str | None:
    """Whether nextpnr's log shows a placer or a router that does not get on, and by what; None while they may."""
    text = log.read_text(errors="replace") if log.exists() else ""
    if "Unable to find legal placement" in text:
        return "the placer finds no place for some of the cells"
    rounds = re.findall(r"^Info:\s+iter=(\d+) wires=\d+ overused=(\d+) (?:.*tmgfail=(\d+))?", text, re.MULTILINE)
    if not rounds or int(rounds[-1][0]) < _ROUNDS:
        return None
    done, overused, late = rounds[-1]
    if late and not int(overused):
        return f"{late} wires are still too slow for their clock after {done} rounds of routing"
    return f"{overused} wires still have two nets after {done} rounds of routing"


def read_excess(log: Path, names: Mapping[str, str]) -> str:
    """From nextpnr's log what the device has too little of ("9312 logic cells of 5280"), or ""."""
    text = log.read_text(errors="replace") if log.exists() else ""
    rows = re.findall(r"^Info:\s+(\w+):\s*(\d+)/\s*(\d+)\s+\d+%$", text, re.MULTILINE)
    return ", ".join(f"{used} {names.get(cell, cell)} of {has}" for cell, used, has in rows if int(used) > int(has))
