"""`dipole bench pe`: dot product units side by side on every device."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ..golden.errors import DipoleError
from .flow import DEVICES, Device, Measurement, measure, versions
from .units import ACC_WIDTH, Unit, bismo, dipole_unit, plain

__all__ = ["COLUMNS", "BenchError", "Comparison", "compare", "to_json", "write_section"]

COLUMNS = ("device", "unit", "lanes", "LUT4", "cells", "flip-flops", "LUT4 / operation", "Fmax min", "Fmax median")
_BEGIN = "<!-- bench pe: begin -->"
_END = "<!-- bench pe: end -->"


class BenchError(DipoleError):
    """A measurement that cannot be made as asked for."""


@dataclass(frozen=True)
class Comparison:
    """All measurements of one call."""

    measurements: tuple[Measurement, ...]
    devices: tuple[Device, ...]
    seeds: int

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the table, under `COLUMNS`."""
        return [
            (DEVICES[m.device].title, m.unit, str(m.lanes), str(m.luts), str(m.cells), str(m.flip_flops),
             f"{m.luts_per_operation:.2f}", f"{m.worst:.0f} MHz", f"{median(m.fmax.values()):.0f} MHz")
            for m in self.measurements
        ]  # fmt: skip

    def conditions(self) -> list[str]:
        """What the figures depend on."""
        tools = ", ".join(f"{name} {version}" for name, version in versions(list(self.devices)).items())
        options = [f"{d.title}: {d.synthesis}; {d.router} {' '.join(d.router_options)}" for d in self.devices]
        return [f"{tools}; seeds 1..{self.seeds}; accumulators of {ACC_WIDTH} bits", *options]


def compare(
    lanes: list[int], devices: list[str] | None, *, seeds: int, progress: Callable[[str, int, int], None]
) -> Comparison:
    """Measure all units with these lanes on these devices (None: all)."""
    if unknown := [name for name in devices or [] if name not in DEVICES]:
        raise BenchError(f"unknown device {unknown[0]!r}: give {', '.join(DEVICES)}")
    if wrong := [n for n in lanes if n not in (8, 16, 32, 64, 128, 256)]:
        raise BenchError(f"lanes is {wrong[0]}, must be a power of two in 8..256")
    chosen = [DEVICES[name] for name in devices or DEVICES]
    units: list[Unit] = []
    for n in lanes:
        units += [plain(n), bismo(n), *(dipole_unit(n, planes) for planes in (1, 2, 4, 8))]
    jobs = [(unit, device) for device in chosen for unit in units]
    steps = seeds + 1
    measurements = []
    for k, (unit, device) in enumerate(jobs):
        done = iter(range(k * steps, (k + 1) * steps))
        label = f"{device.name} {unit.name} {unit.lanes}"

        def report(step: str, label: str = label, done: Iterator[int] = done) -> None:
            progress(f"{label}: {step}", next(done), len(jobs) * steps)

        measurements.append(measure(unit, device, seeds, progress=report))
    progress("done", len(jobs) * steps, len(jobs) * steps)
    return Comparison(tuple(measurements), tuple(chosen), seeds)


def to_json(comparison: Comparison) -> str:
    """Figures, tools and options as JSON."""
    data = {
        "versions": versions(list(comparison.devices)),
        "options": {d.name: [d.synthesis, " ".join([d.router, *d.router_options])] for d in comparison.devices},
        "seeds": comparison.seeds,
        "measurements": [m.to_dict() for m in comparison.measurements],
    }
    return json.dumps(data, indent=2) + "\n"


def write_section(comparison: Comparison, path: Path) -> None:
    """Put the table between the section's marks of a Markdown file; a file without them gets the section at its end."""
    lines = [
        _BEGIN,
        "## Dot product units: `dipole bench pe`",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * 3 + "---:|" * (len(COLUMNS) - 3),
        *("| " + " | ".join(row) + " |" for row in comparison.rows()),
        "",
        "Popcount, run accumulator and Horner register between registers. The drain register, one cell per bit of",
        "the accumulator, is not in it, nor are the sums of pairs at the edge of a row (W > 1), which PEs share.",
        "Frequencies after routing, worst and median of the seeds. Cells are logic cells (iCE40) or LUT4 (ECP5) after",
        "packing. The unit of BISMO v2 is our re-creation from its publication, without its compressors for LUT6.",
        "",
        *(f"* {line}" for line in comparison.conditions()),
        _END,
    ]
    section = "\n".join(lines) + "\n"
    text = path.read_text() if path.exists() else "# Performance\n\nEvery table is printed by the command it names.\n\n"
    if _BEGIN in text and _END in text:
        text = text[: text.index(_BEGIN)] + section + text[text.index(_END) + len(_END) + 1 :]
    else:
        text += section
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
