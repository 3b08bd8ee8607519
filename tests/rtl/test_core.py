"""Core and top with the real engine, driven through their link by the host driver."""

import dataclasses
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from link_bench import LinkBench

from dipole.compiler.mapping import compile_network
from dipole.compiler.network import Conv, Format, InputQuantizer, Network
from dipole.compiler.program import MAGIC, Program
from dipole.golden.link import PROGRAM_VERSION
from dipole.golden.machine import Machine
from dipole.golden.timing import simulate_cycles
from dipole.host.device import Device, EngineError
from dipole.host.device_model import DeviceModel
from dipole.host.protocol import LinkError
from dipole.rtl.config import Config
from dipole.rtl.engine import Engine

CONFIG = Config(
    name="small",
    rows=1,
    columns=4,
    lanes=8,
    mem_depth=256,
    row_depth=16,
    column_depth=16,
    ladder_depth=4,
    queue_depth=2,
)


def network(seed: int = 1) -> Network:
    """A dense layer of 9 two-bit inputs and 3 outputs that returns its sums."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, (3, 9, 1, 1)).astype(np.uint8)
    layer = Conv("dense", weights, Format.signed(2), Format.unsigned(2))
    return Network("small", (9, 1, 1), Format.unsigned(2), InputQuantizer(1.0, 0.0, 0, 3), [layer])


def reference(made: Network, codes: np.ndarray) -> np.ndarray:
    layer = made.layers[0]
    return (layer.weights[:, :, 0, 0].astype(int) - 2) @ codes[:, 0, 0].astype(int)


class EngineBench(LinkBench):
    """The bench of the link around the real engine."""

    def make_engine(self, config: Config) -> Any:
        return Engine(config)


def raw_program(words: list[int]) -> tuple[bytes, bytes]:
    """Header and image of a program of 32-bit words."""
    image = struct.pack(f"<{len(words)}I", *words)
    return struct.pack("<4s4I", MAGIC, PROGRAM_VERSION, CONFIG.hash32, len(image), zlib.crc32(image)), image


SET, REPEAT, HALT = 1 << 28, 11 << 28, 15 << 28
LOOP = [SET, REPEAT | 8191 << 14, REPEAT | 8191 << 14 | 1 << 27 | 1, HALT]
"""8192 times 8192 instructions."""


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_network(network(), CONFIG)


def test_whole_way(program: Program) -> None:
    """Load, run two images, read back: equal to integer arithmetic and the device model, cycles to the cycle model."""
    bench = EngineBench(CONFIG, seed=1, pauses=0)
    machine = Machine(CONFIG)
    image = np.frombuffer(program.image, "<u4")
    predicted = simulate_cycles(image, program.entry, CONFIG).cycles
    rng = np.random.default_rng(2)
    with (
        Device(bench.transport(), CONFIG) as device,
        Device(DeviceModel(CONFIG, machine, cycles=lambda entry: predicted).transport(), CONFIG) as model,
    ):
        for one in (device, model):
            assert one.identify() == CONFIG.hash32
            one.load(program)
        for _ in range(2):
            codes = rng.integers(0, 4, (9, 1, 1)).astype(np.uint8)
            found = device.infer(program, codes)
            np.testing.assert_array_equal(found[:, 0, 0], reference(network(), codes))
            np.testing.assert_array_equal(found, model.infer(program, codes))
            assert device.cycles() == model.cycles() == predicted
        device.verify(program)
        assert dataclasses.replace(device.status(), link_errors=0) == model.status()


def test_errors_and_the_run_after(program: Program) -> None:
    """Bad opcode, address out of range, abort in mid-run: the status says so, and the next run is right."""
    bench = EngineBench(CONFIG, seed=3, pauses=0)
    device = Device(bench.transport(), CONFIG)
    device.load_image(*raw_program([HALT, 0]))
    device.start(1)
    with pytest.raises(EngineError, match="bad opcode"):
        device.wait()
    assert device.status().error == 1
    device.start((1 << 20) - 1)
    with pytest.raises(EngineError, match="address out of range"):
        device.wait()
    device.start(0)
    assert device.wait() > 0 and device.status().error == 0

    device.load(program)
    codes = np.arange(9).reshape(9, 1, 1).astype(np.uint8) % 4
    np.testing.assert_array_equal(device.infer(program, codes)[:, 0, 0], reference(network(), codes))

    device.load_image(*raw_program(LOOP))
    device.start(0)
    assert device.status().busy
    with pytest.raises(LinkError, match="device refuses READ: the engine is running"):
        device.read(0, 1)
    device.abort()
    status = device.status()
    assert not status.busy and not status.error and status.program
    device.load(program)
    np.testing.assert_array_equal(device.infer(program, codes)[:, 0, 0], reference(network(), codes))


def test_device_reset_in_mid_run(program: Program) -> None:
    """After a reset nothing is loaded and nothing runs; loading again makes the next run right."""
    bench = EngineBench(CONFIG, seed=4, pauses=0)
    device = Device(bench.transport(), CONFIG)
    device.load(program)
    device.start(program.entry)
    assert bench.busy
    bench.reset()
    status = device.status()
    assert (status.busy, status.program, status.error, status.runs, status.cycles) == (False, False, 0, 0, 0)
    with pytest.raises(LinkError, match="device refuses START: no program is loaded"):
        device.start(0)
    device.load(program)
    codes = np.full((9, 1, 1), 3, np.uint8)
    np.testing.assert_array_equal(device.infer(program, codes)[:, 0, 0], reference(network(), codes))


def test_other_configuration_is_refused() -> None:
    bench = EngineBench(CONFIG, seed=5, pauses=0)
    other = dataclasses.replace(CONFIG, name="other", acc_width=20)
    with pytest.raises(LinkError, match=r"built for configuration hash .* not for 'other'"):
        Device(bench.transport(), other).identify()
    device = Device(bench.transport(), CONFIG)
    header = struct.pack("<4s4I", MAGIC, PROGRAM_VERSION, other.hash32, 4, zlib.crc32(bytes(4)))
    with pytest.raises(LinkError, match=rf"refuses LOAD_BEGIN: .* another configuration.*{CONFIG.hash32:08x}"):
        device.load_image(header, bytes(4))
