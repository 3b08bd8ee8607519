"""Integer equality of every stage, from the network file to the RTL: what `dipole verify` does.

For each image and layer: QONNX's execution = golden layers = golden machine = RTL, in every code and accumulator;
and the
golden machine = RTL in every drained word, the cycle of each, the total cycles and all of main memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler.importer import import_network
from ..compiler.mapping import compile_network
from ..compiler.network import Network
from ..compiler.program import Program
from ..compiler.quantizers import quantize_input
from ..compiler.reference import layer_integers, reference_tensors
from ..compiler.transfer import pack_input, unpack_layer
from ..golden.layers import LayerResult, real_output, run_network
from ..golden.machine import Machine
from ..golden.timing import Timing, simulate_cycles
from ..rtl.config import Config
from .compare import Difference, compare_tensors, drained_rows
from .engine import RunResult, Simulator, open_simulator

__all__ = ["LayerReport", "Report", "verify"]

QONNX, LAYERS, MACHINE, RTL = "QONNX execution", "golden layers", "golden machine", "RTL"


@dataclass(frozen=True)
class LayerReport:
    """Figures of one layer; cycles from the end of the layer before to the end of this one."""

    name: str
    in_shape: tuple[int, int, int]
    out_shape: tuple[int, int, int]
    precision: str
    """Activation / weight bits."""
    zero_padding: str
    cycles: int
    use: float
    """Useful binary multiply-accumulates over all that the array could have done in these cycles."""


@dataclass
class Report:
    """Outcome of a verification."""

    network: Network
    program: Program
    timing: Timing
    layers: list[LayerReport]
    images: int = 0
    differences: list[Difference] = field(default_factory=list)
    """First difference of each pair of stages and image; empty: all is equal."""
    notes: list[str] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    """Per image: the real output, [channels]."""
    compared: dict[str, int] = field(default_factory=dict)
    """Integers compared, by pair of stages."""

    @property
    def equal(self) -> bool:
        return not self.differences


def layer_reports(program: Program, timing: Timing) -> list[LayerReport]:
    """Cycles and use of the array per layer, from the exact cycle model."""
    reports, start = [], 0
    for layer, end in zip(program.layers, program.layer_ends(timing.markers), strict=True):
        reports.append(
            LayerReport(
                name=layer.name,
                in_shape=layer.in_shape,
                out_shape=layer.out_shape,
                precision=f"{layer.act_bits}/{layer.weight_bits}",
                zero_padding=layer.zero_padding,
                cycles=end - start,
                use=layer.bmacs / ((end - start) * program.config.peak_bmac),
            )
        )
        start = end
    return reports


def verify(
    model: Path,
    config: Config,
    images: np.ndarray,
    *,
    engine: str = "verilator",
    machine_images: int | None = None,
    rtl_images: int | None = None,
    waves: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Report:
    """Run real `images` [n, channels, height, width] through all stages.

    The golden machine runs the first `machine_images`, the RTL the first `rtl_images` of these (default: all).
    """
    network = import_network(model)
    program = compile_network(network, config)
    timing = simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, config)
    report = Report(network, program, timing, layer_reports(program, timing), len(images))
    codes = quantize_input(network.input_quantizer, network.input_format, images)
    golden = run_network(network, codes)
    last = network.layers[-1]
    if last.thresholds is None:
        report.outputs = [o.ravel() for o in real_output(last, golden[-1].accumulator)]
    _against_qonnx(report, model, images, golden, progress)

    machine = Machine(config)
    machine_images = len(images) if machine_images is None else min(machine_images, len(images))
    rtl_images = machine_images if rtl_images is None else min(rtl_images, machine_images)
    with open_simulator(config, engine=engine, waves=waves) as simulator:
        for k in range(machine_images):
            progress("golden machine and RTL", k, machine_images)
            tensors = [[r.accumulator[k], r.output[k]] for r in golden]
            _against_machine(report, k, machine, codes[k], tensors)
            if k < rtl_images:
                _against_rtl(report, k, machine, simulator, codes[k])
        progress("golden machine and RTL", machine_images, machine_images)
    for stage, count in (("the golden machine ran", machine_images), ("RTL was simulated for", rtl_images)):
        if count < len(images):
            report.notes.append(f"{stage} the first {count} of {len(images)} images")
    return report


def _count(report: Report, a: str, b: str, integers: int) -> None:
    key = f"{a} = {b}"
    report.compared[key] = report.compared.get(key, 0) + integers


def _against_qonnx(
    report: Report,
    model: Path,
    images: np.ndarray,
    golden: list[LayerResult],
    progress: Callable[[str, int, int], None],
) -> None:
    """QONNX's tensors of all layers against the golden layers; a difference that only QONNX's float32 sums make is
    said so."""
    shape = report.network.qonnx_input_shape or images.shape[1:]
    real = images.reshape(len(images), *shape)
    progress("QONNX execution", 0, 1)
    integers = layer_integers(report.network, reference_tensors(model, real))
    progress("QONNX execution", 1, 1)

    def first_difference(integers: list[Any], k: int) -> Difference | None:
        for layer, result in zip(integers, golden, strict=True):
            triples = (
                ("accumulator", layer.accumulators if layer.accumulator_certain else None, result.accumulator),
                ("code", layer.codes, result.codes),
                ("pooled code", layer.pooled, result.pooled),
            )
            for what, theirs, ours in triples:
                if theirs is not None and ours is not None:
                    stages = (QONNX, LAYERS)
                    if found := compare_tensors(k, stages, layer.name, what, theirs[k].reshape(ours[k].shape), ours[k]):
                        return found
                    _count(report, *stages, ours[k].size)
        return None

    for layer in integers:
        if layer.accumulators is not None and not layer.accumulator_certain:
            report.notes.append(
                f"layer {layer.name!r}: QONNX's float32 sums may be off by {layer.accumulator_bound:.2g} "
                "of an integer; its accumulators are not compared, its codes are"
            )
    exact: list[Any] | None = None
    for k in range(len(images)):
        difference = first_difference(integers, k)
        if difference is None:
            continue
        exact = exact or layer_integers(report.network, reference_tensors(model, real, exact=report.network))
        if first_difference(exact, k) is None:
            report.notes.append(
                f"{difference}; this is rounding in QONNX's own float32 sums: with exact sums QONNX agrees everywhere"
            )
        else:
            report.differences.append(difference)


def _against_machine(
    report: Report, k: int, machine: Machine, codes: np.ndarray, golden: list[list[np.ndarray]]
) -> None:
    """Every layer's tensor, as the machine leaves it in memory, against the golden layers."""
    program = report.program
    machine.memory[:] = 0
    machine.load(program.image)
    for address, words in pack_input(program, codes):
        machine.write(address, words)
    found: list[Difference] = []

    ends = {layer.done_index: index for index, layer in enumerate(program.layers)}

    def compare(done: int, machine: Machine) -> None:
        if done not in ends:
            return
        index = ends[done]
        layer = program.layers[index]
        raw = report.network.layers[index].thresholds is None
        ours = golden[index][0 if raw else 1]
        theirs = unpack_layer(program, index, machine.memory).reshape(ours.shape)
        what = "accumulator" if raw else "pooled code" if report.network.layers[index].pool else "code"
        _count(report, LAYERS, MACHINE, ours.size)
        if difference := compare_tensors(k, (LAYERS, MACHINE), layer.name, what, ours, theirs):
            found.append(difference)

    machine.on_done = compare
    status = machine.run(program.entry)
    if status != 0:
        pc = machine.error_pc
        found.append(Difference(k, (LAYERS, MACHINE), "program", "status", f"instruction {pc}", (0, int(status))))
    report.differences += found[:1]


def _against_rtl(report: Report, k: int, machine: Machine, simulator: Simulator, codes: np.ndarray) -> None:
    """Drained words, their cycles, the total cycles and main memory of the RTL against machine and cycle model."""
    program, timing = report.program, report.timing
    size = program.config.mem_width // 8
    simulator.load(program.image)
    for address, words in pack_input(program, codes):
        simulator.write(address, b"".join(word.to_bytes(size, "little") for word in words))
    result = simulator.run(program.entry, max_cycles=2 * timing.cycles + 100, trace=True)
    difference = _trace_difference(report, k, result, machine)
    if difference is None:
        theirs = np.ascontiguousarray(simulator.memory).view(np.uint8).ravel()
        at = np.flatnonzero(theirs != machine.memory)
        if len(at):
            word, byte = divmod(int(at[0]), size)
            layers = [x.name for x in program.layers if x.layout.address <= word < x.layout.address + x.layout.words]
            values = int(machine.memory[at[0]]), int(theirs[at[0]])
            difference = Difference(
                k, (MACHINE, RTL), ", ".join(layers) or "none", "main memory", f"word {word}, byte {byte}", values
            )
        _count(report, MACHINE, RTL, result.drained_words.size + len(theirs))
    if difference:
        report.differences.append(difference)


def _trace_difference(report: Report, k: int, result: RunResult, machine: Machine) -> Difference | None:
    program, timing, stages = report.program, report.timing, (MACHINE, RTL)
    if result.error:
        return Difference(k, stages, "program", "status", "at the end", (0, result.error))
    expected = np.concatenate([np.asarray(tile, np.int64) for tile in machine.drained])
    if len(expected) != len(result.drained_words):
        return Difference(k, stages, "program", "drained rows", "in all", (len(expected), len(result.drained_words)))
    words = np.argwhere(expected != result.drained_words)
    cycles = np.flatnonzero(timing.drains != result.drained_cycles)
    if len(words) or len(cycles):
        rows, columns = drained_rows(program), program.config.columns
        if len(words):
            row, column = (int(i) for i in words[0])
            values = int(expected[row, column]), int(result.drained_words[row, column])
            what = "drained word"
        else:
            row, column = int(cycles[0]), 0
            values = int(timing.drains[row]), int(result.drained_cycles[row])
            what = "cycle of the drained word"
        name = program.layers[rows[row].layer].name
        return Difference(k, stages, name, what, rows[row].place(column, columns), values)
    if timing.cycles != result.cycles:
        return Difference(k, stages, "program", "cycles", "in all", (timing.cycles, result.cycles))
    return None
