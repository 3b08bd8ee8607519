"""`dipole bench pe`: dot product units side by side on every device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ..golden.errors import DipoleError
from . import document
from .flow import DEVICES, Device, Measurement, measure, versions
from .units import ACC_WIDTH, COLUMNS_OF_A_ROW, Unit, bismo, dipole_unit, plain

__all__ = ["COLUMNS", "BenchError", "Comparison", "compare", "to_dict", "write_section"]

COLUMNS = ("device", "unit", "lanes", "LUT4", "cells", "flip-flops", "LUT4 of recoding",
           "LUT4 / operation", "Fmax min", "Fmax median")  # fmt: skip

_PRODUCTS = 512
"""Of our units per cycle, at most."""


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
             str(m.shared_luts), f"{m.luts_per_operation:.3f}", f"{m.worst:.1f} MHz",
             f"{median(m.fmax.values()):.1f} MHz")
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
        units += [plain(n), bismo(n), *(dipole_unit(n, planes) for planes in (1, 2, 4, 8) if n * planes <= _PRODUCTS)]
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


def to_dict(comparison: Comparison) -> dict:
    """Figures, tools and options, for JSON."""
    return {
        "versions": versions(list(comparison.devices)),
        "options": {d.name: [d.synthesis, " ".join([d.router, *d.router_options])] for d in comparison.devices},
        "seeds": comparison.seeds,
        "measurements": [m.to_dict() for m in comparison.measurements],
    }


def write_section(comparison: Comparison, path: Path) -> None:
    """Put the table into a Markdown file."""
    document.write_section(path, "bench pe", [
        "## Dot product units: `dipole bench pe`",
        "",
        *document.table(COLUMNS, comparison.rows(), left=3),
        "",
        "Popcount, run accumulator and Horner register between registers; not the drain register, one cell per bit of",
        "the accumulator. The sums of pairs (iCE40, W > 1), made once in front of all row buffers, are part of",
        f"the LUT4 per operation as for one row of {COLUMNS_OF_A_ROW} PEs. A product of two bits and its addition are",
        "two operations.",
        "Frequencies after routing, worst and median of the seeds. Cells are logic cells (iCE40) or LUT4 (ECP5) after",
        "packing. The unit of BISMO v2 is our re-creation from its publication, without its compressors for LUT6.",
        "",
        *(f"* {line}" for line in comparison.conditions()),
    ])  # fmt: skip
