"""Imported networks on the golden machine: every layer of 20 images equal to the golden layers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dipole.compiler.importer import import_network
from dipole.compiler.mapping import compile_network
from dipole.compiler.tokens import check_tokens
from dipole.compiler.transfer import pack_input, unpack_layer
from dipole.golden.layers import run_network
from dipole.golden.machine import Machine, Status
from dipole.rtl.presets import PRESETS

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*.onnx"))
QUICK = ["digits_w2a2", "digits_w4a4", "digits_w8a8", "ladder_m2k2_untrained", "digits_cnn_w2a2_odd"]
IMAGES = 20


def compare(path, config):
    network = import_network(path)
    program = compile_network(network, config)
    check_tokens(program)
    shape = (IMAGES, *network.input_shape)
    codes = np.random.default_rng(0).integers(1 << network.input_format.bits, size=shape).astype(np.uint8)
    expected = run_network(network, codes)
    machine = Machine(config, images=IMAGES)
    machine.load(program.image)
    for n, image in enumerate(codes):
        for address, words in pack_input(program, image):
            machine.write(address, words, image=n)

    def done(index: int, machine: Machine) -> None:
        for k, layer in enumerate(program.layers):
            if layer.done_index == index:
                for n in range(IMAGES):
                    got = unpack_layer(program, k, machine.memories[n])
                    assert np.array_equal(got, expected[k].output[n]), f"layer {layer.name!r}, image {n}"
                seen.append(k)

    seen: list[int] = []
    machine.on_done = done
    assert machine.run(program.entry) is Status.OK
    assert seen == list(range(len(program.layers)))


@pytest.mark.parametrize("config", ["test_tiny", "test_wide"])
@pytest.mark.parametrize("name", QUICK)
def test_model(name, config):
    compare(next(path for path in MODELS if path.stem == name), PRESETS[config])


@pytest.mark.slow
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_model(path):
    for config in ("test_tiny", "test_wide", "ulx3s_85f"):
        compare(path, dataclasses.replace(PRESETS[config], mem_depth=65536))
