"""Compile, check tokens, run on the golden machine, compare every layer with the golden layers; for tests."""

import numpy as np

from dipole.compiler.mapping import compile_network
from dipole.compiler.network import Conv, Format, InputQuantizer, Network
from dipole.compiler.program import Program
from dipole.compiler.random_networks import random_codes, random_thresholds
from dipole.compiler.tokens import check_tokens
from dipole.compiler.transfer import pack_input, unpack_layer, unpack_output
from dipole.golden.layers import reach, run_network
from dipole.golden.machine import Machine, Status

__all__ = ["conv", "network", "run_and_compare"]


def run_program(program: Program, codes: np.ndarray) -> tuple[list[np.ndarray], Machine]:
    """Output of every layer for one image, taken at its DONE, and the machine at the end."""
    machine = Machine(program.config)
    machine.memory[:] = 0xA5  # what a program does not write must not matter
    machine.load(program.image)
    for address, words in pack_input(program, codes):
        machine.write(address, words)
    found: dict[int, np.ndarray] = {}

    def done(index: int, machine: Machine) -> None:
        for n, layer in enumerate(program.layers):
            if layer.done_index == index:
                found[n] = unpack_layer(program, n, machine.memory)

    machine.on_done = done
    assert machine.run(program.entry) is Status.OK, f"{machine.error} at {machine.error_pc}"
    for n, layer in enumerate(program.layers):
        if layer.kept:
            assert np.array_equal(found[n], unpack_layer(program, n, machine.memory)), f"layer {n} was overwritten"
    return [found[n] for n in range(len(program.layers))], machine


def run_and_compare(net: Network, config, seed: int = 0) -> Program:
    """All stages agree on a random image; returns the program."""
    codes = random_codes(np.random.default_rng(seed), net)
    program = compile_network(net, config)
    check_tokens(program)
    found, machine = run_program(program, codes)
    for n, expected in enumerate(run_network(net, codes[None])):
        assert np.array_equal(found[n], expected.output[0]), f"layer {n} {net.layers[n].name!r} differs"
    layout = program.layers[-1].layout
    assert np.array_equal(unpack_output(program, machine.read(layout.address, layout.words)), found[-1])
    return program


def conv(
    rng: np.random.Generator, out: int, channels: int, kernel=(3, 3), *, weight=None, act=None, codes=None, **fields
) -> Conv:
    """A layer with random filters, and with random thresholds where `codes` gives an output format."""
    weight, act = weight or Format.signed(3), act or Format.unsigned(3)
    filters = rng.integers(1 << weight.bits, size=(out, channels, *kernel)).astype(np.uint8)
    layer = Conv("conv", filters, weight, act, **fields)
    if codes is None:
        return layer
    span = reach(layer)
    thresholds, sign = random_thresholds(rng, span.low, span.high, codes.bits)
    return Conv("conv", filters, weight, act, thresholds=thresholds, sign=sign, output_format=codes, **fields)


def network(layers: list[Conv], height: int, width: int) -> Network:
    first = layers[0]
    quantizer = InputQuantizer(1.0, 0.0, 0, first.input_format.levels)
    shape = (first.weights.shape[1], height, width)
    return Network("net", shape, first.input_format, quantizer, layers)
