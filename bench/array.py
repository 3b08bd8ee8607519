"""`dipole bench array`: an array of PEs with its buffers, without control, synthesized, placed and routed."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..golden.errors import DipoleError
from ..rtl.array import Array
from ..rtl.config import Config
from ..rtl.primitives.ram import BlockRam
from ..rtl.recode import chunk_width, recode, recode_chunk
from .document import table, write_section
from .flow import DEVICES, Device, Routed, netlist, place, versions

__all__ = ["COLUMNS", "ArrayResult", "ArraysMeasured", "BenchError", "BufferedArray", "measure_arrays"]

COLUMNS = ("configuration", "device", "array", "LUT4", "cells", "cells / bMAC", "block RAMs", "Fmax min",
           "Fmax median", "peak binary GOPS")  # fmt: skip


class BenchError(DipoleError):
    """A measurement that cannot be made as asked for."""


class BufferedArray(wiring.Component):
    """Array, row buffers, column buffers and recoding of operands, between two shift registers.

    One shift register, fed by `i`, holds all that the engines would drive: control, addresses, write enables, one word
    for all buffers; another takes the results of a row to `o`. `flip_flops` and `muxes` are what these two take.
    """

    def __init__(self, config: Config, family: str):
        self.config = config
        self.family = family
        self.flip_flops = 0
        self.muxes = 0
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config, family = self.config, self.family
        m.submodules.array = array = Array(config, family)
        driven: list[Signal] = []

        def drive(width: int, name: str) -> Signal:
            driven.append(signal := Signal(width, name=name))
            return signal

        word = Signal(config.lanes)
        m.d.comb += word.eq(recode(drive(config.lanes, "word"), config, family=family))
        row_address, row_write = drive((config.row_depth - 1).bit_length(), "row_address"), Signal(config.rows)
        column_address = drive((config.column_depth - 1).bit_length(), "column_address")
        read_row = drive(len(row_address), "read_row")
        read_column, read = drive(len(column_address), "read_column"), drive(1, "read")
        m.d.comb += row_write.eq(drive(config.rows, "row_write"))
        chunks = drive(config.chunks_per_lanes, "chunks")
        column_write = drive(config.columns, "column_write")
        row_word = word
        if config.planes > 1:
            chunk = Signal(config.planes * config.chunk)
            m.d.comb += chunk.eq(drive(len(chunk), "chunk"))
            row_word = recode_chunk(m, platform, chunk, config, family).replicate(config.chunks_per_lanes)
        # Skew is left out: it is control.
        for r in range(config.rows):
            m.submodules[f"row_buffer_{r}"] = buffer = BlockRam(
                width=len(array.a[r]), depth=config.row_depth, granule=chunk_width(config, family)
            )
            m.d.comb += [
                Cat(buffer.read, buffer.read_address).eq(Cat(read, read_row)),
                buffer.write.eq(chunks & row_write[r].replicate(len(chunks))),
                buffer.write_address.eq(row_address),
                buffer.write_data.eq(row_word),
                array.a[r].eq(buffer.read_data),
            ]
        for c in range(config.columns):
            m.submodules[f"column_buffer_{c}"] = buffer = BlockRam(width=config.lanes, depth=config.column_depth)
            m.d.comb += [
                Cat(buffer.read, buffer.read_address).eq(Cat(read, read_column)),
                buffer.write.eq(column_write[c]),
                buffer.write_address.eq(column_address),
                buffer.write_data.eq(word),
                array.w[c].eq(buffer.read_data),
            ]
        for name, member in array.signature.members.items():
            if member.flow is In and name not in ("a", "w"):
                port = getattr(array, name)
                m.d.comb += port.eq(drive(len(Cat(port)), name))
        chain = Signal(sum(map(len, driven)), reset_less=True)
        m.d.sync += chain.eq(Cat(self.i, chain))
        m.d.comb += Cat(driven).eq(chain)
        taken = Signal(len(array.o), reset_less=True)
        m.d.sync += taken.eq(Mux(self.i, array.o, taken >> 1))
        m.d.comb += self.o.eq(taken[0])
        self.flip_flops, self.muxes = len(chain), len(taken)
        return m


@dataclass(frozen=True)
class ArrayResult:
    """One array on one device."""

    config: Config
    device: str
    luts: int
    """LUT4 after synthesis, without those of the shift registers."""
    cells: int
    """Logic cells (iCE40) or LUT4 (ECP5) after packing, without those of the shift registers."""
    rams: int
    fmax: dict[str, float]

    @property
    def gops(self) -> float:
        """Peak at the worst seed's clock; a binary multiply-accumulate is two operations."""
        return 2 * self.config.array_bmac * min(self.fmax.values()) / 1000

    def row(self) -> tuple[str, ...]:
        c = self.config
        return (
            c.name, DEVICES[self.device].title, f"{c.rows} x {c.columns} x {c.lanes}, W = {c.planes}", str(self.luts),
            str(self.cells), f"{self.cells / c.array_bmac:.2f}", str(self.rams), f"{min(self.fmax.values()):.1f} MHz",
            f"{median(self.fmax.values()):.1f} MHz", f"{self.gops:.1f}",
        )  # fmt: skip

    def to_dict(self) -> dict:
        return dataclasses.asdict(self) | {"peak_gops": self.gops}


@dataclass(frozen=True)
class ArraysMeasured:
    """All arrays of one call."""

    results: tuple[ArrayResult, ...]
    seeds: int

    @property
    def devices(self) -> list[Device]:
        return [_routed_by_router2(DEVICES[name]) for name in dict.fromkeys(result.device for result in self.results)]

    def rows(self) -> list[tuple[str, ...]]:
        return [result.row() for result in self.results]

    def conditions(self) -> list[str]:
        """What the figures depend on."""
        tools = ", ".join(f"{name} {version}" for name, version in versions(self.devices).items())
        options = [f"{d.title}: {d.synthesis}; {d.router} {' '.join(d.router_options)}" for d in self.devices]
        return [f"{tools}; seeds 1..{self.seeds}", *options]

    def to_dict(self) -> dict:
        return {
            "versions": versions(self.devices),
            "options": {d.name: [d.synthesis, " ".join([d.router, *d.router_options])] for d in self.devices},
            "seeds": self.seeds,
            "arrays": [result.to_dict() for result in self.results],
        }

    def write_section(self, path: Path) -> None:
        """Put the table into a Markdown file."""
        write_section(path, "bench array", [
            "## Arrays with their buffers: `dipole bench array`",
            "",
            *table(COLUMNS, self.rows(), left=3),
            "",
            "PEs, drain registers, row and column buffers and the recoding of operands, with the sum column where the",
            "configuration has one; no engines, no main memory. Peak at the clock of the worst seed; a binary",
            "multiply-accumulate is two operations.",
            "",
            *(f"* {line}" for line in self.conditions()),
        ])  # fmt: skip


def _routed_by_router2(device: Device) -> Device:
    """The device with nextpnr's second router: on iCE40 the first may not come to an end with arrays of W > 1."""
    if "router2" in device.router_options or device.family != "ice40":
        return device
    return dataclasses.replace(device, router_options=(*device.router_options, "--router", "router2"))


def measure_arrays(
    configs: list[Config], device: str, *, seeds: int, progress: Callable[[str, int, int], None]
) -> ArraysMeasured:
    """Measure the arrays of these configurations on a device of `flow.DEVICES`."""
    if device not in DEVICES:
        raise BenchError(f"unknown device {device!r}: give {', '.join(DEVICES)}")
    chosen = _routed_by_router2(DEVICES[device])
    results, steps = [], seeds + 1
    for number, config in enumerate(configs):
        design = BufferedArray(config, chosen.family)
        text = netlist(design, chosen)
        done = iter(range(number * steps, (number + 1) * steps))
        routed: Routed = place(
            text, chosen, seeds,
            progress=lambda step, config=config, done=done: progress(
                f"{config.name}: {step}", next(done), len(configs) * steps
            ),
        )  # fmt: skip
        frame = design.muxes + (design.flip_flops if chosen.family == "ice40" else 0)
        results.append(
            ArrayResult(config, device, routed.luts - design.muxes, routed.packed - frame, routed.rams, routed.fmax)
        )
    progress("done", len(configs) * steps, len(configs) * steps)
    return ArraysMeasured(tuple(results), seeds)
