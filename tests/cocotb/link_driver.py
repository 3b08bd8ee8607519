"""Drives the exported Verilog of the top module byte by byte; cocotb runs the tests at the end of this file.

`test_cocotb.py` builds the simulation and starts it; $DIPOLE_PROGRAM names the program.
"""

import os
import random
import zlib

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly, Timer

from dipole.compiler.program import Program
from dipole.compiler.transfer import pack_input, unpack_output
from dipole.golden.isa import Engine, Instruction, LoadReg, Op, encode
from dipole.golden.link import PROGRAM_VERSION, Command, Result
from dipole.golden.machine import Machine
from dipole.golden.timing import simulate_cycles
from dipole.host.protocol import CHECK_BYTES, REPLY_BYTES, Reply, Request, check_data

PROGRAM = Program.load(os.environ["DIPOLE_PROGRAM"])
CONFIG = PROGRAM.config
WORD = CONFIG.mem_width // 8


class Link:
    """The host's end of the byte streams, with random gaps; inputs change at the falling edge of the clock."""

    def __init__(self, dut, seed: int) -> None:
        self.dut = dut
        self.random = random.Random(seed)
        self.tag = 0

    async def reset(self) -> None:
        dut = self.dut
        dut.i__valid.value = 0
        dut.i__payload.value = 0
        dut.o__ready.value = 0
        dut.line_error.value = 0
        dut.rst.value = 1
        await self.cycles(2)
        dut.rst.value = 0

    async def cycles(self, count: int) -> None:
        for _ in range(count):
            await FallingEdge(self.dut.clk)

    async def send(self, data: bytes) -> None:
        dut = self.dut
        for byte in data:
            if self.random.random() < 0.1:
                await self.cycles(self.random.randrange(1, 4))
            dut.i__valid.value = 1
            dut.i__payload.value = byte
            taken = False
            while not taken:
                await ReadOnly()
                taken = bool(dut.i__ready.value)
                await FallingEdge(dut.clk)
            dut.i__valid.value = 0

    async def receive(self, count: int, limit: int = 100_000) -> bytes:
        """That many bytes, or fewer where the device is silent for `limit` cycles."""
        dut = self.dut
        data = bytearray()
        idle = 0
        while len(data) < count and idle < limit:
            ready = self.random.random() < 0.9
            dut.o__ready.value = ready
            await ReadOnly()
            valid = bool(dut.o__valid.value)
            byte = int(dut.o__payload.value) if valid else 0
            await FallingEdge(dut.clk)
            idle += 1
            if valid and ready:
                data.append(byte)
                idle = 0
        dut.o__ready.value = 0
        return bytes(data)

    async def reply(self, data_bytes: int = 0) -> tuple[Reply, bytes]:
        frame = await self.receive(REPLY_BYTES)
        reply = Reply.decode(frame)
        assert reply is not None, f"no reply: {frame.hex()}"
        if reply.result is not Result.OK or data_bytes == 0:
            return reply, b""
        data = check_data(await self.receive(data_bytes + CHECK_BYTES))
        assert data is not None, "damaged data"
        return reply, data

    async def ask(self, command: int, *, last: int = 0, argument: int = 0, data: bytes = b"") -> tuple[Reply, bytes]:
        self.tag = (self.tag + 1) % 16
        await self.send(Request(command=command, tag=self.tag, last=last, argument=argument, data=data).encode())
        reply, words = await self.reply((last - argument + 1) * WORD if command == Command.READ else 0)
        assert reply.tag == self.tag
        return reply, words

    async def write(self, address: int, data: bytes) -> None:
        last = address + len(data) // WORD - 1
        reply, _ = await self.ask(Command.WRITE, argument=address, last=last, data=data)
        assert reply.result is Result.OK

    async def load(self, image: bytes) -> None:
        reply, _ = await self.ask(Command.LOAD_BEGIN, last=PROGRAM_VERSION, argument=CONFIG.hash32)
        assert reply.result is Result.OK
        await self.write(0, image)
        reply, _ = await self.ask(Command.LOAD_END, last=len(image) // WORD - 1, argument=zlib.crc32(image))
        assert reply.result is Result.OK and reply.program

    async def write_input(self, codes: np.ndarray) -> None:
        for address, words in pack_input(PROGRAM, codes):
            await self.write(address, b"".join(word.to_bytes(WORD, "little") for word in words))

    async def run(self, entry: int) -> Reply:
        """START, STATUS until it is done; a run that fails at once may be over before the first reply."""
        reply, _ = await self.ask(Command.START, argument=entry)
        assert reply.result is Result.OK
        while True:
            reply, _ = await self.ask(Command.STATUS)
            assert reply.result is Result.OK
            if not reply.busy:
                assert self.dut.busy.value == 0
                return reply

    async def read_output(self) -> np.ndarray:
        layout = PROGRAM.layers[-1].layout
        _, data = await self.ask(Command.READ, argument=layout.address, last=layout.address + layout.words - 1)
        return unpack_output(
            PROGRAM, [int.from_bytes(data[at : at + WORD], "little") for at in range(0, len(data), WORD)]
        )


def codes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << PROGRAM.input.bits, PROGRAM.input.shape)


def expected(image_codes: np.ndarray) -> np.ndarray:
    """Output of the golden machine."""
    machine = Machine(CONFIG)
    machine.load(PROGRAM.image)
    for address, words in pack_input(PROGRAM, image_codes):
        machine.write(address, words)
    assert machine.run(PROGRAM.entry) == 0
    layout = PROGRAM.layers[-1].layout
    return unpack_output(PROGRAM, machine.read(layout.address, layout.words))


def machine_code(*instructions: Instruction) -> bytes:
    """Instructions as an image of whole words."""
    code = b"".join(encode(instruction).to_bytes(4, "little") for instruction in instructions)
    return code + bytes(-len(code) % WORD)


async def clocks(dut) -> None:
    """`clk`, and where the array has a clock of its own `fast_clk`, which rises at both edges; written together."""
    while True:
        for level in (1, 0):
            dut.clk.value = level
            if CONFIG.pump > 1:
                dut.fast_clk.value = 1
                await Timer(2.5, unit="ns")
                dut.fast_clk.value = 0
                await Timer(2.5, unit="ns")
            else:
                await Timer(5, unit="ns")


async def begin(dut, seed: int) -> Link:
    cocotb.start_soon(clocks(dut))
    link = Link(dut, seed)
    await link.reset()
    return link


async def check_inference(link: Link, seed: int) -> None:
    image_codes = codes(seed)
    await link.write_input(image_codes)
    status = await link.run(PROGRAM.entry)
    cycles = simulate_cycles(np.frombuffer(PROGRAM.image, "<u4"), PROGRAM.entry, CONFIG).cycles
    assert (status.error, status.value) == (0, cycles)
    np.testing.assert_array_equal(await link.read_output(), expected(image_codes))


@cocotb.test()
async def load_run_read(dut) -> None:
    """A program, several images: results of the golden machine, cycles of the cycle model."""
    link = await begin(dut, 1)
    identity, _ = await link.ask(Command.IDENTIFY)
    assert identity.value == CONFIG.hash32 and not identity.program
    await link.load(PROGRAM.image)
    for seed in range(3):
        await check_inference(link, seed)
    status, _ = await link.ask(Command.STATUS)
    assert (status.runs, status.link_errors) == (3, 0)


@cocotb.test()
async def refusals(dut) -> None:
    """Programs for something else, no program, unknown commands, addresses beyond the end: refused, nothing runs."""
    link = await begin(dut, 2)
    for command, fields, result in (
        (Command.START, {}, Result.NO_PROGRAM),
        (Command.LOAD_BEGIN, {"last": PROGRAM_VERSION, "argument": CONFIG.hash32 ^ 1}, Result.OTHER_CONFIG),
        (Command.LOAD_BEGIN, {"last": PROGRAM_VERSION + 1, "argument": CONFIG.hash32}, Result.VERSION),
        (Command.LOAD_END, {"last": 3, "argument": 0}, Result.NO_PROGRAM),
        (Command.READ, {"argument": 0, "last": CONFIG.mem_depth}, Result.RANGE),
        (9, {}, Result.COMMAND),
    ):
        reply, _ = await link.ask(command, **fields)  # type: ignore[arg-type]
        assert reply.result is result, f"{command!r} {fields}: {reply}"
    image = bytearray(PROGRAM.image)
    await link.ask(Command.LOAD_BEGIN, last=PROGRAM_VERSION, argument=CONFIG.hash32)
    image[len(image) // 2] ^= 4
    await link.write(0, bytes(image))
    reply, _ = await link.ask(Command.LOAD_END, last=len(image) // WORD - 1, argument=zlib.crc32(PROGRAM.image))
    assert reply.result is Result.IMAGE_CRC and not reply.program
    assert (await link.ask(Command.START, argument=PROGRAM.entry))[0].result is Result.NO_PROGRAM
    await link.load(PROGRAM.image)
    await check_inference(link, 7)


@cocotb.test()
async def broken_frames(dut) -> None:
    """A flipped bit in header or data, a frame that breaks off, noise between frames: counted, then all is well."""
    link = await begin(dut, 3)
    good = Request(command=Command.WRITE, argument=2, last=3, data=bytes(range(2 * WORD))).encode()
    for position in (3, 10, 13, len(good) - 1):
        frame = bytearray(good)
        frame[position] ^= 0x10
        await link.send(bytes(frame))
        reply, _ = await link.reply()
        assert reply.result is Result.FRAME_CRC, f"byte {position}"
    for length in (1, 7, 12, 15):
        await link.send(good[:length])
        reply, _ = await link.reply()
        assert reply.result is Result.TRUNCATED, f"{length} bytes"
    await link.send(bytes([0x00, 0x55, 0xFF]))
    reply, _ = await link.ask(Command.WRITE, argument=2, last=3, data=bytes(range(2 * WORD)))
    assert reply.result is Result.OK and reply.link_errors == 8
    assert (await link.ask(Command.READ, argument=2, last=3))[1] == bytes(range(2 * WORD))
    dut.line_error.value = 1
    await link.cycles(1)
    dut.line_error.value = 0
    assert (await link.ask(Command.STATUS))[0].link_errors == 9


@cocotb.test()
async def engine_errors(dut) -> None:
    """A bad opcode and an address out of range stop the engine with an error; the next run is right."""
    link = await begin(dut, 4)
    beyond = CONFIG.mem_depth * CONFIG.chunks_per_word
    out_of_range = machine_code(
        Instruction(op=Op.SET, engine=Engine.LOAD, reg=LoadReg.WGT, value=beyond),
        Instruction(op=Op.LOADP, count=1),
        Instruction(op=Op.HALT),
    )
    for image, error in ((bytes(WORD), 1), (out_of_range, 2)):
        await link.load(image)
        status = await link.run(0)
        assert status.error == error
    await link.load(PROGRAM.image)
    await check_inference(link, 11)


@cocotb.test()
async def busy_and_abort(dut) -> None:
    """While the engine runs, memory is refused; ABORT ends the run, and the next one is right."""
    link = await begin(dut, 5)
    # The loader waits for a token that never comes.
    await link.load(machine_code(Instruction(op=Op.AWAIT), Instruction(op=Op.HALT)))
    reply, _ = await link.ask(Command.START, argument=0)
    assert reply.busy
    for command in (Command.READ, Command.WRITE, Command.START, Command.LOAD_BEGIN):
        reply, _ = await link.ask(command, data=bytes(WORD) if command == Command.WRITE else b"")
        assert reply.result is Result.BUSY and reply.busy
    assert dut.busy.value == 1
    await link.ask(Command.ABORT)
    reply, _ = await link.ask(Command.STATUS)
    assert not reply.busy and dut.busy.value == 0
    await link.load(PROGRAM.image)
    await check_inference(link, 12)


@cocotb.test()
async def reset_in_mid_run(dut) -> None:
    """Reset while the engine runs, and in the middle of a frame: the device is as new, memory keeps its words."""
    link = await begin(dut, 6)
    await link.load(PROGRAM.image)
    for wait in (1, 40, 333):
        await link.write_input(codes(20))
        reply, _ = await link.ask(Command.START, argument=PROGRAM.entry)
        assert reply.busy
        await link.cycles(wait)
        await link.send(Request(command=Command.STATUS).encode()[: wait % 13])
        await link.reset()
        status, _ = await link.ask(Command.STATUS)
        assert not (status.busy or status.program or status.error or status.runs)
        reply, _ = await link.ask(Command.LOAD_BEGIN, last=PROGRAM_VERSION, argument=CONFIG.hash32)
        await link.load(PROGRAM.image)
    await check_inference(link, 20)
