"""The driver on the device model: whole programs, damaged programs, lines that lose and damage bytes."""

import dataclasses
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dipole.compiler.mapping import compile_network
from dipole.compiler.network import Conv, Format, InputQuantizer, Network
from dipole.compiler.program import Program, ProgramError
from dipole.golden.errors import DipoleError
from dipole.golden.link import PROGRAM_VERSION, Command
from dipole.golden.machine import Machine
from dipole.host.device import Device, EngineError
from dipole.host.device_model import DeviceModel
from dipole.host.protocol import LinkError, Request
from dipole.host.transport import InProcessTransport, Transport
from dipole.rtl.config import Config
from dipole.rtl.presets import PRESETS

CONFIG = PRESETS["test_tiny"]
HALT = struct.pack("<I", 15 << 28)


@pytest.fixture(scope="module")
def program() -> Program:
    """A dense layer of 20 two-bit inputs and 6 outputs."""
    weights = np.random.default_rng(0).integers(0, 4, (6, 20, 1, 1)).astype(np.uint8)
    layer = Conv("dense", weights, Format.signed(2), Format.unsigned(2))
    quantizer = InputQuantizer(1.0, 0.0, 0, 3)
    return compile_network(Network("one", (20, 1, 1), Format.unsigned(2), quantizer, [layer]), CONFIG)


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, (6, 20)).astype(int) - 2


class Line(Transport):
    """A line to a device model that damages, loses and invents bytes in both directions."""

    def __init__(self, model: DeviceModel, seed: int, rate: float) -> None:
        self.inner = model.transport()
        self.model = model
        self.random = random.Random(seed)
        self.rate = rate
        self.damaged = 0

    def damage(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            if self.random.random() >= self.rate:
                out.append(byte)
                continue
            self.damaged += 1
            kind = self.random.randrange(3)
            if kind == 0:
                out.append(byte ^ 1 << self.random.randrange(8))
            elif kind == 1:
                out += bytes([byte, self.random.choice([0xD1, 0x1D, self.random.randrange(256)])])
        return bytes(out)

    def write(self, data: bytes) -> None:
        self.inner.write(self.damage(data))

    def read(self, count: int, timeout: float) -> bytes:
        return self.damage(self.inner.read(count, timeout))

    def settle(self) -> None:
        self.inner.settle()


def device(model: DeviceModel | None = None, **options: Any) -> Device:
    return Device((model or DeviceModel(CONFIG, Machine(CONFIG))).transport(), CONFIG, **options)


def test_whole_way(program: Program, weights: np.ndarray) -> None:
    model = DeviceModel(CONFIG, Machine(CONFIG), cycles=lambda entry: 1234)
    one = device(model)
    done: list[tuple[int, int]] = []
    assert one.identify() == CONFIG.hash32
    one.load(program, lambda part, whole: done.append((part, whole)))
    assert done[-1] == (len(program.image), len(program.image))
    for seed in range(3):
        codes = np.random.default_rng(seed).integers(0, 4, (20, 1, 1)).astype(np.uint8)
        out = one.infer(program, codes)
        np.testing.assert_array_equal(out[:, 0, 0], weights @ codes[:, 0, 0].astype(int))
    status = one.status()
    assert (status.runs, status.cycles, one.cycles(), status.error, status.program) == (3, 1234, 1234, 0, True)
    one.verify(program)


@pytest.mark.parametrize("seed", range(6))
def test_bad_line(seed: int, program: Program, weights: np.ndarray) -> None:
    """Results are right, nothing is run twice, and nothing but time is lost."""
    model = DeviceModel(CONFIG, Machine(CONFIG))
    line = Line(model, seed, 0.003)
    one = Device(line, CONFIG, retries=12, chunk=64)
    one.load(program)
    for run in range(8):
        codes = line_codes(seed * 100 + run)
        out = one.infer(program, codes)
        np.testing.assert_array_equal(out[:, 0, 0], weights @ codes[:, 0, 0].astype(int))
        assert model._runs == run + 1
    assert line.damaged > 3


def line_codes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (20, 1, 1)).astype(np.uint8)


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_lost_start_is_carried_out_once(lost: str, program: Program) -> None:
    model = DeviceModel(CONFIG, Machine(CONFIG))
    answers = bytearray()
    lose = [True]

    def send(data: bytes) -> None:
        start = data[1] & 15 == Command.START and lose[0]
        if start:
            lose[0] = False
        if not (start and lost == "request"):
            reply = model.feed(data)
            answers.extend(b"" if start else reply)

    def receive() -> bytes:
        taken = bytes(answers) or model.silence()
        answers.clear()
        return taken

    one = Device(InProcessTransport(send, receive), CONFIG)
    one.load(program)
    one.start(program.entry)
    assert not lose[0] and model._runs == 1
    assert one.wait() == 0


def test_every_flipped_byte_of_an_image_is_refused(program: Program) -> None:
    """A truncated or bit-flipped image with the header of the whole one, and the right one after it."""
    one = device()
    header, image = program.device_header, program.image
    pick = random.Random(1)
    for _ in range(40):
        damaged = bytearray(image)
        damaged[pick.randrange(len(image))] ^= 1 << pick.randrange(8)
        with pytest.raises(LinkError, match="refuses LOAD_END: main memory does not hold the image"):
            one.load_image(header, bytes(damaged))
        with pytest.raises(LinkError, match="refuses START: no program is loaded"):
            one.start(program.entry)
    for length in (4, len(image) // 8 * 4, len(image) - 4):
        cut = image[:length]
        with pytest.raises(LinkError, match=rf"image has {length} bytes, its header says {len(image)}"):
            one.load_image(header, cut)
        short = struct.pack("<4s4I", *struct.unpack("<4s4I", header)[:3], length, zlib.crc32(image))
        with pytest.raises(LinkError, match="does not hold the image"):
            one.load_image(short, cut)
    one.load(program)
    one.start(program.entry)
    one.wait()


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        (0, lambda _: b"DPOX", "not a program: its header begins with b'DPOX'"),
        (1, lambda version: version + 1, "refuses LOAD_BEGIN: the program has another format version"),
        (2, lambda hash_: hash_ ^ 1, rf"refuses LOAD_BEGIN: .* another configuration.* \(hash {CONFIG.hash32:08x}\)"),
        (3, lambda length: length + 4, "its header says"),
        (4, lambda crc: crc ^ 0x80000000, "refuses LOAD_END: main memory does not hold the image"),
    ],
)
def test_bad_headers(field: int, change: Callable[[Any], Any], message: str, program: Program) -> None:
    one = device()
    fields = list(struct.unpack("<4s4I", program.device_header))
    fields[field] = change(fields[field])
    with pytest.raises(LinkError, match=message):
        one.load_image(struct.pack("<4s4I", *fields), program.image)
    with pytest.raises(LinkError, match="no program is loaded"):
        one.start(0)


def test_bad_arguments(program: Program) -> None:
    one = device()
    other = dataclasses.replace(CONFIG, name="other", rows=3)
    with pytest.raises(ProgramError, match="is for configuration 'test_tiny'"):
        Device(DeviceModel(other, Machine(other)).transport(), other).load(program)
    with pytest.raises(LinkError, match="device is built for configuration hash"):
        Device(DeviceModel(other, Machine(other)).transport(), CONFIG).identify()
    with pytest.raises(LinkError, match=r"words 16383\.\.16384 exceed main memory"):
        one.read(CONFIG.mem_depth - 1, 2)
    with pytest.raises(LinkError, match="5 bytes are no whole words of 4 bytes"):
        one.write(0, bytes(5))
    with pytest.raises(LinkError, match="entry is 1048576"):
        one.start(1 << 20)
    with pytest.raises(DipoleError, match="input has shape"):
        one.write_input(program, np.zeros((3, 1, 1), np.uint8))
    with pytest.raises(LinkError, match=rf"image has {CONFIG.mem_depth + 1} words, main memory {CONFIG.mem_depth}"):
        image = bytes((CONFIG.mem_depth + 1) * 4)
        one.load_image(struct.pack("<4s4I", b"DPOL", PROGRAM_VERSION, CONFIG.hash32, len(image), 0), image)


@pytest.mark.parametrize(
    ("word", "entry", "message"), [(0, 0, "bad opcode"), (15 << 28, 1 << 19, "address out of range")]
)
def test_engine_errors(word: int, entry: int, message: str) -> None:
    model = DeviceModel(CONFIG, Machine(CONFIG), cycles=lambda entry: 77)
    one = device(model)
    load_words(one, [word])
    one.start(entry)
    with pytest.raises(EngineError, match=rf"stopped the program after 77 cycles: {message}"):
        one.wait()
    load_words(one, [15 << 28])
    one.start(0)
    assert one.wait() == 77


def load_words(one: Device, words: list[int]) -> None:
    image = struct.pack(f"<{len(words)}I", *words)
    one.load_image(struct.pack("<4s4I", b"DPOL", PROGRAM_VERSION, CONFIG.hash32, len(image), zlib.crc32(image)), image)


def test_a_run_without_end() -> None:
    model = DeviceModel(CONFIG, Machine(CONFIG), deferred=True)
    one = device(model)
    load_words(one, [15 << 28])
    one.start(0)
    with pytest.raises(LinkError, match=r"still busy after 0\.01 s"):
        one.wait(timeout=0.01)
    with pytest.raises(LinkError, match="refuses READ: the engine is running"):
        one.read(0, 1)
    one.abort()
    assert not one.status().busy
    one.start(0)
    model.finish()
    one.wait()


def test_no_device() -> None:
    silent = Device(InProcessTransport(lambda data: None, lambda: b""), CONFIG)
    with pytest.raises(LinkError, match="no good answer from the device to IDENTIFY after 4 attempts: check the cable"):
        silent.identify()
    echo = bytearray()

    def looped() -> bytes:
        taken = bytes(echo)
        echo.clear()
        return taken

    with pytest.raises(LinkError, match="no good answer"):
        Device(InProcessTransport(echo.extend, looped), CONFIG).identify()


def test_stale_replies_are_not_taken() -> None:
    """A reply to an earlier request that comes late is known by its tag."""
    model = DeviceModel(CONFIG, Machine(CONFIG))
    late = bytearray()
    held = [model.feed(Request(command=Command.STATUS, tag=9).encode())]

    def send(data: bytes) -> None:
        late.extend((held.pop() if held else b"") + model.feed(data))

    def receive() -> bytes:
        taken = bytes(late)
        late.clear()
        return taken

    assert Device(InProcessTransport(send, receive), CONFIG).identify() == CONFIG.hash32


@pytest.mark.parametrize("mem_width", [32, 64, 256])
@pytest.mark.parametrize("chunk", [1, 96, 4096])
def test_memory(mem_width: int, chunk: int) -> None:
    config = Config(name="m", rows=1, columns=4, lanes=8, mem_width=mem_width, mem_depth=256)
    one = Device(DeviceModel(config, Machine(config)).transport(), config, chunk=chunk)
    data = random.Random(chunk).randbytes(40 * mem_width // 8)
    one.write(config.mem_depth - 40, data)
    assert one.read(config.mem_depth - 40, 40) == data
    assert one.read(config.mem_depth - 1, 1) == data[-mem_width // 8 :]
    one.write(0, b"")
    assert one.read(0, 0) == b""
