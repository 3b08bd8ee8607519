"""`dipole bench network`: exact cycles of networks on a configuration, use of the array, and what binds."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..boards import BOARDS, load_board
from ..compiler.importer import import_network
from ..compiler.mapping import compile_network
from ..compiler.network import Network
from ..compiler.program import LayerInfo, Program, trace
from ..golden.errors import DipoleError
from ..golden.isa import Engine, ExecReg, Instruction, LoadReg, Op, Pool, StoreReg, decode
from ..golden.tensor import writes_of_code
from ..golden.timing import exec_steps, load_needs, simulate_cycles
from ..rtl.config import Config
from .document import table, write_section
from .workloads import WORKLOADS

__all__ = ["COLUMNS", "Comparison", "Layer", "Run", "compare", "load_network", "run_network"]

COLUMNS = ("network", "configuration", "layer", "input", "output", "act/weight bits", "cycles", "use of array", "binds",
           "frames/s")  # fmt: skip
_PARTS = ("array", "loader", "store", "fetch", "memory port")


class NetworkError(DipoleError):
    """A network or a clock that cannot be used."""


@dataclass(frozen=True)
class Layer:
    """One layer, or the whole network."""

    name: str
    input: str
    output: str
    precision: str
    cycles: int
    """From the end of the layer before to the end of this one."""
    use: float
    """Useful binary multiply-accumulates / (peak of the array x cycles)."""
    busy: dict[str, float]
    """Share of the cycles in which each part of the machine must work for this layer. An estimate: parts work ahead,
    so a share may exceed 1, and where none comes near 1 parts wait for one another."""

    @property
    def binds(self) -> str:
        part = max(self.busy, key=lambda name: self.busy[name])
        return f"{part} {100 * self.busy[part]:.0f} %"


@dataclass(frozen=True)
class Run:
    """A network on a configuration."""

    network: str
    config: Config
    frequency: float | None
    """Hz."""
    layers: tuple[Layer, ...]
    total: Layer

    @property
    def fps(self) -> float | None:
        return None if self.frequency is None else self.frequency / self.total.cycles

    def to_dict(self) -> dict:
        fields = [dataclasses.asdict(layer) | {"estimate_layer_cycles": layer.cycles} for layer in self.layers]
        for layer in fields:
            del layer["cycles"]
        return {
            "network": self.network,
            "configuration": dataclasses.asdict(self.config),
            "configuration_hash": f"{self.config.hash32:08x}",
            "frequency_mhz": None if self.frequency is None else self.frequency / 1e6,
            "cycles": self.total.cycles,
            "use": self.total.use,
            "busy": self.total.busy,
            "estimated_throughput_fps": self.fps,
            "layers": fields,
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the table, under `COLUMNS`: the layers if there are several, then the whole."""
        layers = [*self.layers, self.total] if len(self.layers) > 1 else [self.total]
        rows = []
        for layer in layers:
            fps = "" if layer is not self.total or self.fps is None else f"{self.fps:.1f}"
            rows.append((self.network, self.config.name, layer.name, layer.input, layer.output, layer.precision,
                         str(layer.cycles), f"{100 * layer.use:.1f} %", layer.binds, fps))  # fmt: skip
        return rows


def load_network(name: str) -> Network:
    """The workload of that name, or the network in that QONNX file."""
    if name in WORKLOADS:
        return WORKLOADS[name].build()
    if name.endswith(".onnx"):
        return import_network(Path(name))
    raise NetworkError(f"unknown network {name!r}: give {', '.join(WORKLOADS)} or a QONNX file (.onnx)")


def _clock(config: Config) -> float | None:
    """Default clock of the first board that carries the configuration, Hz."""
    boards = [load_board(name) for name in BOARDS]
    return next((b.frequency_of(config.name) for b in boards if config.name in (b.config, *b.frequencies)), None)


def _fetches(program: Program) -> list[int]:
    """Instructions fetched up to each DONE."""
    code, pc, count, loops, at_done = program.instructions, 0, 0, [0, 0], []
    decoded: dict[int, Instruction] = {}
    while True:
        word = int(code[pc])
        i = decoded[word] = decoded.get(word) or decode(word)
        pc, count = pc + 1, count + 1
        if i.op is Op.HALT:
            return at_done
        if i.op is Op.REPEAT:
            loops[i.slot] = (loops[i.slot] + 1) % i.count
            if loops[i.slot]:
                pc -= 1 + i.back
        elif i.op is Op.DONE:
            at_done.append(count)


def _needs(program: Program) -> list[dict[str, int]]:
    """Cycles that each part must work up to each DONE, if it never waited; docs/architecture.md has the table."""
    config = program.config
    needs = dict.fromkeys(_PARTS, 0)
    fetches, at_done = _fetches(program), []
    for _, i, registers in trace(program):
        load, execute, store = (registers[engine] for engine in (Engine.LOAD, Engine.EXEC, Engine.STORE))
        if i.op is Op.LOADA:
            steps = load_needs(dict(enumerate(load)), i.rows, config)
            needs["loader"] += 2 + len(steps)
            needs["memory port"] += sum(steps)
        elif i.op in (Op.LOADW, Op.LOADP):
            ladder = i.op is Op.LOADP
            steps = config.ladder_words * i.count if ladder else config.columns * load[LoadReg.WWORDS]
            needs["loader"] += 3 + steps
            needs["memory port"] += steps
        elif i.op is Op.EXEC:
            words, groups, planes = (execute[reg] for reg in (ExecReg.WORDS, ExecReg.GROUPS, ExecReg.PLANES))
            needs["array"] += 1 + exec_steps(words, groups, planes, config)
        elif i.op is Op.STORE:
            raw, emits = store[StoreReg.RAW], i.pool in (Pool.NONE, Pool.LAST)
            writes = writes_of_code(config, store[StoreReg.BITS], store[StoreReg.SHIFT]) if emits else 0
            writes = config.columns if raw else writes
            needs["store"] += 1 + i.rows * max(config.columns if raw else config.columns // config.ladders, writes)
            if config.mem_ports == 1:
                needs["memory port"] += i.rows * writes
        elif i.op is Op.DONE:
            fetched = fetches[len(at_done)]
            at_done.append(
                needs | {"fetch": 2 * fetched, "memory port": needs["memory port"] + fetched},
            )
    return at_done


def _layer(info: LayerInfo, cycles: int, busy: dict[str, int], peak: int) -> Layer:
    source, target = ("x".join(map(str, shape)) for shape in (info.in_shape, info.out_shape))
    shares = {part: round(count / cycles, 4) for part, count in busy.items()}
    precision = f"{info.act_bits}/{info.weight_bits}"
    return Layer(info.name, source, target, precision, cycles, round(info.bmacs / (cycles * peak), 4), shares)


def run_network(network: Network, config: Config, *, frequency: float | None = None) -> Run:
    """Cycles of a network; frequency in Hz, None for the default clock of the configuration's board if it has one."""
    program = compile_network(network, config)
    timing = simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, config)
    at_done = _needs(program)
    ends, needs = program.layer_ends(timing.markers), [at_done[info.done_index] for info in program.layers]
    layers, start, before = [], 0, dict.fromkeys(_PARTS, 0)
    for info, end, need in zip(program.layers, ends, needs, strict=True):
        busy = {part: need[part] - before[part] for part in _PARTS}
        layers.append(_layer(info, end - start, busy, config.peak_bmac))
        start, before = end, need
    first = program.layers[0]
    precision = f"{first.act_bits}/{first.weight_bits}" if len({layer.precision for layer in layers}) == 1 else "mixed"
    total = Layer(
        "total", layers[0].input, layers[-1].output, precision, timing.cycles,
        round(sum(layer.bmacs for layer in program.layers) / (timing.cycles * config.peak_bmac), 4),
        {part: round(before[part] / timing.cycles, 4) for part in _PARTS},
    )  # fmt: skip
    return Run(network.name, config, _clock(config) if frequency is None else frequency, tuple(layers), total)


@dataclass(frozen=True)
class Comparison:
    """All runs of one call."""

    runs: tuple[Run, ...]
    refused: tuple[str, ...]
    """Why a network does not fit a configuration, a line for each."""

    def rows(self) -> list[tuple[str, ...]]:
        return [row for run in self.runs for row in run.rows()]

    def conditions(self) -> list[str]:
        """What the figures depend on."""
        configs = {run.config.name: run for run in self.runs}.values()
        lines = []
        for run in configs:
            c = run.config
            clock = "no clock given" if run.frequency is None else f"{run.frequency / 1e6:g} MHz"
            lines.append(
                f"{c.name}: {c.rows} x {c.columns} PEs of {c.lanes} lanes, W = {c.planes}, {c.peak_bmac} bMAC per "
                f"cycle, main memory {c.mem_width} bits wide; {clock}"
            )
        named = dict.fromkeys(run.network for run in self.runs if run.network in WORKLOADS)
        return [*(f"{name}: {WORKLOADS[name].title}" for name in named), *lines, *self.refused]

    def to_dict(self) -> dict:
        return {"runs": [run.to_dict() for run in self.runs], "refused": list(self.refused)}

    def write_section(self, path: Path) -> None:
        """Put the table into a Markdown file."""
        write_section(path, "bench network", [
            "## Networks: `dipole bench network`",
            "",
            *table(COLUMNS, self.rows(), left=6),
            "",
            "Cycles of the exact cycle model, which the RTL meets in every cycle. Use of the array: binary",
            "multiply-accumulates of the layer by those the array could do in its cycles. Binds: the part of the",
            "machine with the most work of its own, and its share of the cycles (an estimate: parts work ahead).",
            "",
            *(f"* {line}" for line in self.conditions()),
        ])  # fmt: skip


def compare(
    networks: Sequence[str],
    configs: Sequence[Config],
    *,
    frequency: float | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Comparison:
    """Run every network (names of `WORKLOADS` or QONNX files) on every configuration; NetworkError where none fits."""
    loaded = [load_network(name) for name in networks]
    jobs = [(network, config) for config in configs for network in loaded]
    runs, refused = [], []
    for number, (network, config) in enumerate(jobs):
        progress(f"{network.name} on {config.name}", number, len(jobs))
        try:
            runs.append(run_network(network, config, frequency=frequency))
        except DipoleError as error:
            refused.append(f"{network.name} on {config.name}: {error}")
    progress("done", len(jobs), len(jobs))
    if not runs:
        raise NetworkError(f"nothing to measure: {refused[0]}")
    return Comparison(tuple(runs), tuple(refused))
