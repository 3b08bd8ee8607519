"""The test bench of a program: its conversation over the link, with answers from the device model."""

from pathlib import Path

import numpy as np

from ..compiler.program import Program
from ..compiler.transfer import pack_input
from ..golden.link import Command
from ..golden.machine import Machine
from ..golden.timing import simulate_cycles
from ..host.device_model import DeviceModel
from ..host.protocol import Request
from ..rtl.config import Config
from ..rtl.delivery import SOURCES
from ..sim.testbench import Script, testbench

__all__ = ["conversation", "program_testbench"]

_FRAME_WORDS = 256
"""Words per WRITE or READ."""


def conversation(program: Program, codes: np.ndarray) -> tuple[Script, int]:
    """Load, write the image, start, status, read the output: the script, and the cycles of the run."""
    config = program.config
    cycles = simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, config).cycles
    model = DeviceModel(config, Machine(config), cycles=lambda _: cycles, deferred=True)
    script = Script()
    word = config.mem_width // 8

    def ask(command: Command, *, last: int = 0, argument: int = 0, data: bytes = b"", compare: bool = True) -> None:
        frame = Request(command=command, last=last, argument=argument, data=data).encode()
        reply = model.feed(frame)
        script.send(frame)
        if compare:
            script.expect(reply)
        else:
            script.skip(len(reply))

    def write(address: int, data: bytes) -> None:
        for at in range(0, len(data), _FRAME_WORDS * word):
            part = data[at : at + _FRAME_WORDS * word]
            first = address + at // word
            ask(Command.WRITE, argument=first, last=first + len(part) // word - 1, data=part)

    header = np.frombuffer(program.device_header, "<u4")
    version, config_hash, length, crc = (int(value) for value in header[1:])
    ask(Command.IDENTIFY)
    ask(Command.LOAD_BEGIN, last=version, argument=config_hash)
    write(0, program.image)
    ask(Command.LOAD_END, last=length // word - 1, argument=crc)
    for address, words in pack_input(program, codes):
        write(address, b"".join(value.to_bytes(word, "little") for value in words))
    # The reply to START carries the cycles so far, which depend on how fast the host takes it.
    ask(Command.START, argument=program.entry, compare=False)
    script.wait()
    model.finish()
    ask(Command.STATUS)
    layout = program.layers[-1].layout
    end = layout.address + layout.words
    for first in range(layout.address, end, _FRAME_WORDS):
        ask(Command.READ, argument=first, last=min(first + _FRAME_WORDS, end) - 1)
    return script, cycles


def program_testbench(path: Path, config: Config, seed: int) -> dict[str, str]:
    """tb.v and tb.hex for a program file and an image of random codes."""
    program = Program.load(path)
    program.require_config(config)
    codes = np.random.default_rng(seed).integers(0, 1 << program.input.bits, program.input.shape)
    script, cycles = conversation(program, codes)
    comment = f"Program {program.name!r} on {config.name}, image of random codes (seed {seed}), {cycles} cycles."
    return testbench(script, top="dipole", sources=SOURCES, limit=cycles + 100_000, comment=comment, pump=config.pump)
